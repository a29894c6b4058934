import numpy as np
import pytest

from tfpurify.attacks.noise import RandomNoise
from tfpurify.attacks.structured import StructuredMove, structured_names, structured_signs

SHAPE = (28, 28, 1)
IMAGES = np.random.default_rng(0).uniform(size=(3, *SHAPE)).astype("float32")
FIXED = [name for name in structured_names(SHAPE) if name not in ("grey", "away")]


def of_the_mean(images):
    """Returns whether images are brighter than those above on the whole."""
    return np.asarray(images).mean(axis=(1, 2, 3)) > 0.55


@pytest.mark.parametrize("shape", [SHAPE, (32, 48, 3)])
def test_every_move_stays_in_the_ball_and_reaches_its_corners(shape):
    images = np.random.default_rng(1).uniform(size=(2, *shape)).astype("float32")
    for name in structured_names(shape):
        moved = StructuredMove(name, 0.2)(images).numpy()
        change = np.abs(moved - images)
        assert moved.min() >= 0 and moved.max() <= 1
        assert change.max() <= 0.2 + 1e-6
        inside = (moved > 0) & (moved < 1)
        np.testing.assert_allclose(change[inside], 0.2, atol=1e-6)


def test_moves_are_all_different():
    signs = {
        name: StructuredMove(name, 0.2)(np.full((1, *SHAPE), 0.5)[:1].astype("float32"))
        for name in FIXED
    }
    found = {np.asarray(moved).tobytes() for moved in signs.values()}
    # Stripes and squares of one size are a cosine's signs too, where its period fits.
    assert len(found) > 0.9 * len(signs)


def test_grey_takes_contrast_away():
    moved = StructuredMove("grey", 0.2)(IMAGES).numpy()
    assert np.all(np.abs(moved - 0.5) <= np.maximum(np.abs(IMAGES - 0.5), 0.2) + 1e-6)
    assert moved.std() < IMAGES.std()


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("checks_2", [1, 1, -1, -1, 1, 1]),
        ("columns_4", [1, 1, -1, -1, 1, 1]),
        ("rows_4", [1, 1, 1, 1, 1, 1]),
        ("cosine_0_1", [1, 1, 1, -1, -1, -1]),
        ("cosine_1_0", [1, 1, 1, 1, 1, 1]),
    ],
)
def test_patterns_are_what_they_are_called(name, row):
    np.testing.assert_array_equal(structured_signs(name, (6, 6))[0], row)


@pytest.mark.parametrize("name", ["perlin_8", "gabor_8", "blocks_4"])
def test_noise_of_a_wave_keeps_its_sign_over_neighbours(name):
    signs = structured_signs(name, (64, 64))
    same = np.mean(signs[:, 1:] == signs[:, :-1])
    assert 0.7 < same < 1.0
    assert 0.2 < np.mean(signs > 0) < 0.8


def test_an_even_move_fools_where_noise_averages_out():
    assert of_the_mean(StructuredMove("brighter", 0.2)(IMAGES)).all()
    assert not of_the_mean(RandomNoise(0.2)(IMAGES)).any()


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="`name` must be one of"):
        StructuredMove("zebra", 0.2)(IMAGES)
    with pytest.raises(ValueError, match="epsilon"):
        StructuredMove("grey", 0.0)
