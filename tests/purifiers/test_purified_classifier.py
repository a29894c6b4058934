"""Each gradient mode against what it promises; the forward value of two of them is the same."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tfpurify.purifiers.base import CandidatePurifier, Purifier, candidate_errors, soft_min_weights
from tfpurify.purifiers.purified_classifier import PurifiedClassifier
from tfpurify.vocabulary import GRADIENT_MODES

SHAPE = (4, 4, 1)
RNG = np.random.default_rng(0)
IMAGES = tf.constant(RNG.uniform(0.2, 0.8, (3, *SHAPE)), tf.float32)


class Contrast(CandidatePurifier):
    """One candidate, a smooth function of the image."""

    image_shape = SHAPE
    encoder = "its own"

    def approximate(self, images):
        return 0.9 * images

    def candidates(self, images):
        return tf.sigmoid(6.0 * images - 3.0 + tf.roll(images, 1, axis=1))[:, None]


class Templates(CandidatePurifier):
    """Ten candidates that do not depend on the image: the choice alone does."""

    image_shape = SHAPE

    def candidates(self, images):
        templates = tf.constant(np.random.default_rng(1).uniform(size=(10, *SHAPE)), tf.float32)
        return tf.repeat(templates[None], tf.shape(images)[0], axis=0)


@pytest.fixture(scope="module")
def toy_classifier():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input(SHAPE),
            layers.Flatten(),
            layers.Dense(8, activation="tanh"),
            layers.Dense(10),
        ]
    )


def gradient_of(target, images):
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(images)
        loss = tf.reduce_sum(target(images)[:, 0])
    return tape.gradient(loss, images)


def assert_equals_finite_differences(target, gradient):
    norm = float(tf.norm(gradient))
    assert norm > 1e-2
    for seed in range(3):
        direction = 1e-2 * tf.random.stateless_normal(IMAGES.shape, seed=[seed, 0])
        difference = target(IMAGES + direction) - target(IMAGES - direction)
        expected = tf.reduce_sum(difference[:, 0]) / 2
        slope = tf.reduce_sum(gradient * direction)
        np.testing.assert_allclose(slope, expected, atol=1e-2 * 1e-2 * norm)


def test_exact_equals_finite_differences(toy_classifier):
    target = PurifiedClassifier(Contrast(), toy_classifier)
    assert_equals_finite_differences(target, gradient_of(target, IMAGES))


def test_bpda_is_the_classifiers_gradient_at_the_purified_images(toy_classifier):
    purifier = Contrast()
    target = PurifiedClassifier(purifier, toy_classifier, "bpda")
    expected = gradient_of(toy_classifier, purifier(IMAGES))
    np.testing.assert_allclose(gradient_of(target, IMAGES), expected, rtol=1e-5)
    exact = gradient_of(PurifiedClassifier(purifier, toy_classifier), IMAGES)
    assert np.abs(exact - expected).max() > 1e-2


def test_soft_mixes_every_candidates_logits(toy_classifier):
    purifier = Templates()
    target = PurifiedClassifier(purifier, toy_classifier, "soft", temperature=0.05)
    candidates = purifier.candidates(IMAGES)
    weights = soft_min_weights(IMAGES, candidates, 0.05).numpy()
    logits = np.stack([toy_classifier(row) for row in candidates])
    expected = np.einsum("bk,bkc->bc", weights, logits)
    np.testing.assert_allclose(target(IMAGES), expected, atol=1e-5)
    assert np.abs(target(IMAGES) - target.exact_logits(IMAGES)).max() > 1e-3


def test_soft_sees_a_gradient_where_exact_is_blind(toy_classifier):
    exact = PurifiedClassifier(Templates(), toy_classifier)
    assert gradient_of(exact, IMAGES) is None
    soft = PurifiedClassifier(Templates(), toy_classifier, "soft", temperature=0.05)
    assert_equals_finite_differences(soft, gradient_of(soft, IMAGES))


def test_soft_becomes_exact_as_the_temperature_falls(toy_classifier):
    soft = PurifiedClassifier(Templates(), toy_classifier, "soft", temperature=1e-6)
    np.testing.assert_allclose(soft(IMAGES), soft.exact_logits(IMAGES), atol=1e-5)


# Through a purifier without a descent, and without a candidate for each class.
MODES = [mode for mode in GRADIENT_MODES if mode not in ("truncated", "selection")]


@pytest.mark.parametrize("mode", MODES)
def test_exact_logits_do_not_depend_on_the_mode(toy_classifier, mode):
    purifier = Contrast()
    target = PurifiedClassifier(purifier, toy_classifier, mode)
    expected = toy_classifier(purifier(IMAGES))
    np.testing.assert_allclose(target.exact_logits(IMAGES), expected, atol=1e-6)
    if mode != "soft":
        np.testing.assert_allclose(target(IMAGES), expected, atol=1e-6)


def test_encoder_goes_back_through_the_approximation(toy_classifier):
    purifier = Contrast()
    target = PurifiedClassifier(purifier, toy_classifier, "encoder")
    purified_images = purifier(IMAGES)
    expected = 0.9 * gradient_of(toy_classifier, purified_images)
    np.testing.assert_allclose(gradient_of(target, IMAGES), expected, atol=1e-6)


def test_truncated_needs_a_descent(puvae, small_classifier):
    with pytest.raises(ValueError, match="`gradient_mode='truncated'` needs a DefenseGAN, which"):
        PurifiedClassifier(puvae, small_classifier, "truncated")


def test_encoder_needs_one(puvae, small_classifier):
    with pytest.raises(ValueError, match="`gradient_mode='encoder'` needs a DefenseGAN with an"):
        PurifiedClassifier(puvae, small_classifier, "encoder")


def test_soft_needs_candidates_to_mix(toy_classifier):
    purifier = Purifier(name="plain")
    with pytest.raises(ValueError, match="`gradient_mode='soft'` needs a CandidatePurifier"):
        PurifiedClassifier(purifier, toy_classifier, "soft")


def test_selection_needs_a_candidate_for_each_class(toy_classifier):
    with pytest.raises(ValueError, match="`gradient_mode='selection'` needs a PuVAE"):
        PurifiedClassifier(Templates(), toy_classifier, "selection")


def test_selection_ranks_candidates_and_asks_no_classifier(puvae, small_batch):
    images = tf.constant(small_batch[0])
    target = PurifiedClassifier(puvae, keras.layers.Identity(), "selection", temperature=0.01)
    expected = -candidate_errors(images, puvae.candidates(images)) / 0.01
    np.testing.assert_allclose(target(images), expected, rtol=1e-5)


@pytest.mark.parametrize("mode", [*(mode for mode in MODES if mode != "encoder"), "selection"])
def test_every_mode_has_a_gradient_through_puvae(puvae, small_classifier, small_batch, mode):
    target = PurifiedClassifier(puvae, small_classifier, mode)
    gradient = gradient_of(target, tf.constant(small_batch[0])).numpy()
    assert np.all(np.isfinite(gradient))
    assert np.all(np.abs(gradient).max(axis=(1, 2, 3)) > 0)


def test_both_parts_are_frozen_and_built(make_puvae, toy_classifier):
    purifier = make_puvae()
    target = PurifiedClassifier(purifier, toy_classifier)
    target.build()
    assert target.built and purifier.built
    assert target.trainable_variables == []
    assert not purifier.trainable and not toy_classifier.trainable


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"gradient_mode": "straight"},
            r"`gradient_mode` must be one of \['exact', 'truncated', .*\]. Received: .*'straight'",
        ),
        ({"temperature": 0.0}, "`temperature` must be > 0. Received: temperature=0.0"),
        ({"temperature": -1.0}, "temperature=-1.0"),
    ],
)
def test_bad_arguments_are_refused(toy_classifier, arguments, message):
    with pytest.raises(ValueError, match=message):
        PurifiedClassifier(Contrast(), toy_classifier, **arguments)


def test_bad_images_are_refused(toy_classifier):
    with pytest.raises(ValueError, match=r"`images` must lie in \[0, 1\]"):
        PurifiedClassifier(Contrast(), toy_classifier)(IMAGES + 1.0)


@pytest.mark.parametrize("factor", [3.0, -1.0, float("nan")])
@pytest.mark.parametrize("mode", ["exact", "bpda", "soft"])
def test_images_outside_the_range_are_refused(puvae, small_classifier, small_batch, mode, factor):
    images, _ = small_batch
    with pytest.raises(ValueError, match="`images` must lie in"):
        PurifiedClassifier(puvae, small_classifier, mode)(factor * images)


def test_soft_over_some_candidates_runs_from_the_nearest_to_all(toy_classifier):
    def logits(count):
        target = PurifiedClassifier(Templates(), toy_classifier, "soft", soft_candidates=count)
        return target(IMAGES).numpy()

    exact = PurifiedClassifier(Templates(), toy_classifier)(IMAGES)
    np.testing.assert_allclose(logits(1), exact, atol=1e-5)
    np.testing.assert_allclose(logits(10), logits(None), atol=1e-5)
    np.testing.assert_allclose(logits(99), logits(None), atol=1e-5)
    assert np.abs(logits(2) - logits(None)).max() > 1e-3


def test_soft_candidates_must_be_positive(toy_classifier):
    with pytest.raises(ValueError, match="`soft_candidates` must be >= 1"):
        PurifiedClassifier(Templates(), toy_classifier, "soft", soft_candidates=0)
