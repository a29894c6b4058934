"""ART sees our purifiers and targets as its own, with our gradients."""

import numpy as np
import pytest
import tensorflow as tf
from art.estimators.classification import TensorFlowV2Classifier

from tfpurify.attacks.art import ARTAttack, as_art_classifier
from tfpurify.purifiers.art import ARTPurifier, PurifierPreprocessor
from tfpurify.purifiers.purified_classifier import PurifiedClassifier
from tfpurify.vocabulary import ART_ATTACKS, MEAN_SQUARED_ATTACKS

SHAPE = (8, 8, 1)
LABELS = np.array([3, 1, 4, 1])


@pytest.fixture
def images(small_batch):
    return small_batch[0]


def gradient_of(target, images):
    images = tf.constant(images)
    loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    with tf.GradientTape() as tape:
        tape.watch(images)
        value = loss(LABELS, target(images))
    return tape.gradient(value, images).numpy()


@pytest.mark.parametrize("mode", ["exact", "bpda"])
def test_a_purifier_is_a_preprocessor_of_arts(puvae, small_classifier, images, mode):
    estimator = TensorFlowV2Classifier(
        lambda inputs, training=False: small_classifier(inputs),
        nb_classes=10,
        input_shape=SHAPE,
        loss_object=tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        clip_values=(0.0, 1.0),
        preprocessing_defences=PurifierPreprocessor(puvae, mode),
    )
    target = PurifiedClassifier(puvae, small_classifier, mode)
    np.testing.assert_allclose(estimator.predict(images), target(images), atol=1e-5)
    found = estimator.loss_gradient(images, np.eye(10)[LABELS])
    np.testing.assert_allclose(found, gradient_of(target, images), atol=1e-6)


def test_soft_is_no_mode_of_a_preprocessor(puvae):
    with pytest.raises(ValueError, match="`gradient_mode` must not be 'soft'"):
        PurifierPreprocessor(puvae, "soft")


@pytest.mark.parametrize("mode", ["exact", "soft"])
def test_a_target_is_arts_classifier(puvae, small_classifier, images, mode):
    target = PurifiedClassifier(puvae, small_classifier, mode)
    estimator = as_art_classifier(target, SHAPE)
    many = np.repeat(images, 40, axis=0)
    expected = target.exact_logits(many)
    np.testing.assert_allclose(estimator.predict(many, batch_size=64), expected, atol=1e-4)
    found = estimator.loss_gradient(images, np.eye(10)[LABELS])
    np.testing.assert_allclose(found, gradient_of(target, images), atol=1e-6)


def test_a_dead_gradient_is_an_error(images):
    estimator = as_art_classifier(lambda x: 0.0 * tf.reshape(x, (-1, 64))[:, :10], SHAPE)
    with pytest.raises(ValueError, match="The gradient must not vanish"):
        estimator.loss_gradient(images, np.eye(10)[LABELS])
    estimator = as_art_classifier(lambda x: tf.sqrt(tf.reshape(x - x, (-1, 64))[:, :10]), SHAPE)
    with pytest.raises(ValueError, match="The gradient must be finite"):
        estimator.loss_gradient(images, np.eye(10)[LABELS])


@pytest.mark.parametrize("name", ["apgd_ce", "square"])
def test_a_target_may_have_any_number_of_classes(images, name):
    def target(x):
        return tf.reshape(x, (-1, 64))[:, :3]

    assert as_art_classifier(target, SHAPE).nb_classes == 3
    labels = np.argmax(target(images), axis=1)
    attacked = ARTAttack(name, target, SHAPE, 0.3, num_steps=20)(images, labels)
    assert np.any(np.argmax(target(attacked), axis=1) != labels)


@pytest.mark.parametrize("name", ["fgsm", "apgd_ce", "apgd_dlr", "cw_l2", "pgd_l2"])
def test_no_attack_takes_a_dead_gradient_for_a_defence(images, name):
    def target(x):
        return tf.stop_gradient(tf.reshape(x, (-1, 64))[:, :10]) + 0.0 * tf.reduce_sum(x)

    labels = np.argmax(target(images), axis=1)
    with pytest.raises(ValueError, match="The gradient must not vanish.*; it died"):
        ARTAttack(name, target, SHAPE, 0.2, num_steps=3)(images, labels)


@pytest.mark.parametrize("name", ART_ATTACKS)
def test_every_attack_fools_a_linear_classifier_within_its_bound(name, small_classifier, images):
    labels = np.argmax(small_classifier(images), axis=1)
    attack = ARTAttack(name, small_classifier, SHAPE, 0.2, num_steps=20)
    attacked = attack(images, labels)
    assert attacked.shape == images.shape and attacked.dtype == np.float32
    change = attacked - images
    size = np.mean(change**2, axis=(1, 2, 3)) if name in MEAN_SQUARED_ATTACKS else np.abs(change)
    assert size.max() <= 0.2 + 1e-6
    assert np.all((attacked >= 0) & (attacked <= 1))
    logits = small_classifier(attacked).numpy()
    assert np.mean(np.argmax(logits, axis=1) != labels) >= 0.75
    if name != "hopskipjump":  # which draws its start without a seed
        np.testing.assert_array_equal(attack(images, labels), attacked)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "bim"}, "`name` must be one of .* Received: name='bim'"),
        ({"epsilon": 0.0}, "`epsilon` must be in"),
        ({"num_steps": 0}, "`num_steps` must be >= 1. Received: num_steps=0"),
        ({"num_restarts": 0}, "`num_restarts` must be >= 1"),
    ],
)
def test_bad_arguments_are_refused(small_classifier, options, message):
    options = {"name": "fgsm", "epsilon": 0.2, **options}
    with pytest.raises(ValueError, match=message):
        ARTAttack(target=small_classifier, image_shape=SHAPE, **options)


def test_a_baseline_purifies_in_arts_way(digits):
    images = digits[0][:4]
    squeezed = np.asarray(ARTPurifier("bit_depth", (28, 28, 1))(images))
    assert set(np.unique(squeezed)) <= {0.0, 1.0}
    compressed = np.asarray(ARTPurifier("jpeg", (28, 28, 1))(images))
    assert compressed.shape == images.shape and 0 < np.abs(compressed - images).mean() < 0.1
    with pytest.raises(ValueError, match="`name` must be one of"):
        ARTPurifier("gif", (28, 28, 1))
