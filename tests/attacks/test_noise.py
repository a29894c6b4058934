import numpy as np
import pytest

from tfpurify.attacks.noise import RandomNoise


def test_every_pixel_moves_by_the_whole_bound_where_it_can():
    images = np.full((3, 4, 4, 1), 0.5, np.float32)
    moved = np.asarray(RandomNoise(0.2)(images))
    np.testing.assert_allclose(np.abs(moved - images), 0.2, atol=1e-6)
    assert abs((moved - images).mean()) < 0.15
    assert np.asarray(RandomNoise(0.7)(images)).min() == 0.0


def test_the_seed_decides():
    images = np.full((1, 4, 4, 1), 0.5, np.float32)
    first, again, other = (np.asarray(RandomNoise(0.2, seed)(images)) for seed in (0, 0, 1))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_a_bound_out_of_range_is_refused():
    with pytest.raises(ValueError, match="`epsilon` must be in"):
        RandomNoise(0.0)
