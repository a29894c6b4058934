import pytest

from tfpurify.layers import require_at_most_32
from tfpurify.purifiers.dcgan import Generator
from tfpurify.purifiers.puvae import PuVAE


@pytest.mark.parametrize("build", [require_at_most_32, Generator, PuVAE])
def test_images_over_32_pixels_are_refused(build):
    with pytest.raises(ValueError, match="at most 32. Received: image_shape=\\(64, 64, 3\\)"):
        build((64, 64, 3))
