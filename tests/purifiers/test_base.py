"""The choice among candidates, hard and soft, and the straight way back."""

import numpy as np
import pytest
import tensorflow as tf

from tfpurify.purifiers.base import (
    CandidatePurifier,
    candidate_errors,
    identity_backward,
    select_nearest,
    soft_min_weights,
)

SHAPE = (4, 4, 1)
RNG = np.random.default_rng(0)
IMAGES = tf.constant(RNG.uniform(size=(3, *SHAPE)), tf.float32)
CANDIDATES = tf.constant(RNG.uniform(size=(3, 5, *SHAPE)), tf.float32)
NEAREST = np.argmin(np.mean((CANDIDATES - IMAGES[:, None]) ** 2, axis=(2, 3, 4)), axis=1)


class Constant(CandidatePurifier):
    """Proposes a black image and a white one, whatever comes in."""

    image_shape = SHAPE

    def candidates(self, images):
        black = tf.zeros_like(images)
        return tf.stack([black, black + 1.0], axis=1)


def test_errors_are_means_over_pixels():
    expected = np.mean((CANDIDATES.numpy() - IMAGES.numpy()[:, None]) ** 2, axis=(2, 3, 4))
    np.testing.assert_allclose(candidate_errors(IMAGES, CANDIDATES), expected, rtol=1e-5)


def test_each_image_keeps_its_own_nearest_candidate():
    assert len(set(NEAREST)) > 1  # one choice for the whole batch would be wrong
    expected = CANDIDATES.numpy()[np.arange(3), NEAREST]
    np.testing.assert_array_equal(select_nearest(IMAGES, CANDIDATES), expected)


def test_the_first_of_equals_is_chosen():
    images = tf.fill((1, *SHAPE), 0.5)
    candidates = tf.stack([tf.ones(SHAPE), tf.zeros(SHAPE)])[None]
    np.testing.assert_array_equal(select_nearest(images, candidates), candidates[:, 0])


def test_the_gradient_reaches_the_chosen_candidate_only():
    with tf.GradientTape() as tape:
        tape.watch(CANDIDATES)
        chosen = select_nearest(IMAGES, CANDIDATES)
    gradient = tape.gradient(chosen, CANDIDATES).numpy()
    expected = np.zeros_like(gradient)
    expected[np.arange(3), NEAREST] = 1.0
    np.testing.assert_array_equal(gradient, expected)


@pytest.mark.parametrize("function", [select_nearest, soft_min_weights, candidate_errors])
@pytest.mark.parametrize("shape", [(3, *SHAPE), (3, 5, 4, 4, 3), (3, 5, 4, 8, 1), (3, 4, 4)])
def test_candidates_of_another_shape_are_refused(function, shape):
    with pytest.raises(ValueError, match=r"`candidates` must have shape \(batch, K, height"):
        function(IMAGES, tf.zeros(shape))


def test_soft_weights_become_the_choice_as_the_temperature_falls():
    np.testing.assert_allclose(
        soft_min_weights(IMAGES, CANDIDATES, 1e-6), np.eye(5)[NEAREST], atol=1e-6
    )
    np.testing.assert_allclose(soft_min_weights(IMAGES, CANDIDATES, 1e6), 0.2, atol=1e-5)
    warm = soft_min_weights(IMAGES, CANDIDATES, 0.05).numpy()
    np.testing.assert_allclose(warm.sum(axis=1), 1.0, rtol=1e-5)
    np.testing.assert_array_equal(warm.argmax(axis=1), NEAREST)


def test_identity_backward_shows_one_image_and_differentiates_the_other():
    images, purified = tf.fill((2, *SHAPE), 0.3), tf.fill((2, *SHAPE), 0.7)
    with tf.GradientTape() as tape:
        tape.watch([images, purified])
        shown = identity_backward(images, purified)
        loss = tf.reduce_sum(shown**2)
    np.testing.assert_array_equal(shown, purified)
    to_images, to_purified = tape.gradient(loss, [images, purified])
    np.testing.assert_allclose(to_images, 2 * 0.7 * np.ones((2, *SHAPE)), rtol=1e-6)
    np.testing.assert_array_equal(to_purified, np.zeros((2, *SHAPE)))


def test_a_purifier_returns_its_nearest_candidate():
    images = tf.stack([tf.fill(SHAPE, 0.2), tf.fill(SHAPE, 0.9)])
    np.testing.assert_array_equal(Constant()(images)[:, 0, 0, 0], [0.0, 1.0])


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (np.full((2, *SHAPE), 1.5, "float32"), ValueError, r"must lie in \[0, 1\]"),
        (np.full((2, *SHAPE), np.nan, "float32"), ValueError, r"must lie in \[0, 1\]"),
        (np.zeros((2, 5, 5, 1), "float32"), ValueError, r"must have shape \(batch, 4, 4, 1\)"),
        (np.zeros((2, *SHAPE), "uint8"), TypeError, r"must be float32 in \[0, 1\]"),
    ],
)
def test_bad_images_are_refused(images, error, message):
    with pytest.raises(error, match=f"`images` {message}"):
        Constant()(images)


def test_a_purifier_without_candidates_says_so():
    with pytest.raises(NotImplementedError):
        CandidatePurifier().candidates(IMAGES)
