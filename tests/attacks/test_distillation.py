"""Surrogates learn by asking; the black box is never differentiated and never moves."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tfpurify.attacks.distillation import Distiller, DynamicAdvGAN

SHAPE = (28, 28, 1)


@pytest.fixture
def surrogate():
    keras.utils.set_random_seed(5)
    return keras.Sequential([keras.Input(SHAPE), layers.Flatten(), layers.Dense(10)])


@pytest.fixture
def sealed(classifier):
    """The classifier behind a door that a gradient cannot pass unnoticed."""

    @tf.custom_gradient
    def seal(logits):
        def gradient(upstream):
            raise AssertionError("The black box was differentiated.")

        return tf.identity(logits), gradient

    return lambda images: seal(classifier(images))


def make_dynamic(surrogate, black_box, **kwargs):
    keras.utils.set_random_seed(0)
    model = DynamicAdvGAN(SHAPE, surrogate, black_box, bottleneck_channels=8, width=4, **kwargs)
    model.build()
    model.compile(*[keras.optimizers.Adam(2e-3) for _ in range(3)])
    return model


def test_distilling_raises_the_agreement(surrogate, classifier, digits, moved):
    distiller = Distiller(surrogate, classifier)
    distiller.compile(keras.optimizers.Adam(5e-3))
    black_box_moved = moved(classifier.weights)
    before = distiller.evaluate(*digits, verbose=0, return_dict=True)
    distiller.fit(*digits, batch_size=50, epochs=4, verbose=0)
    after = distiller.evaluate(*digits, verbose=0, return_dict=True)
    assert after["agreement"] > max(0.7, before["agreement"])
    assert after["loss"] < before["loss"]
    assert not any(black_box_moved())
    images, _ = digits
    agreement = np.mean(
        np.argmax(surrogate(images), axis=1) == np.argmax(classifier(images), axis=1)
    )
    np.testing.assert_allclose(after["agreement"], agreement, atol=1e-6)


def test_a_distillation_step_asks_and_never_differentiates(surrogate, sealed, batch, moved):
    distiller = Distiller(surrogate, sealed)
    distiller.compile(keras.optimizers.Adam(1e-2))
    surrogate_moved = moved(surrogate.weights)
    first = float(distiller.train_step(batch)["loss"])
    assert all(surrogate_moved())
    assert distiller.metrics[0].name == "loss" and first > 0


def test_labels_do_not_matter_to_a_distiller(surrogate, classifier, batch):
    distiller = Distiller(surrogate, classifier)
    distiller.compile(keras.optimizers.SGD(0.0))
    images, labels = batch
    losses = []
    for y in (labels, (labels + 1) % 10):
        distiller.reset_metrics()
        losses.append(float(distiller.train_step((images, y))["loss"]))
    assert losses[0] == losses[1]


def test_a_dynamic_step_moves_attack_and_surrogate_and_never_the_black_box(
    surrogate, classifier, batch, moved
):
    model = make_dynamic(surrogate, classifier)
    own = [
        variable
        for part in (model.generator, model.discriminator, surrogate)
        for variable in part.trainable_variables
        if len(variable.shape) > 1
    ]
    own_moved, black_box_moved = moved(own), moved(classifier.weights)
    logs = model.train_step(batch)
    assert all(own_moved())
    assert not any(black_box_moved())
    assert {"surrogate_loss", "generator_loss", "discriminator_loss"} <= set(logs)
    assert np.all(np.isfinite([float(value) for value in logs.values()]))


def test_only_the_surrogates_own_step_moves_the_surrogate(surrogate, classifier, batch, moved):
    model = make_dynamic(surrogate, classifier)
    model.surrogate_optimizer.learning_rate = 0.0
    surrogate_moved, generator_moved = moved(surrogate.weights), moved(model.generator.weights)
    model.train_step(batch)
    assert any(generator_moved())
    assert not any(surrogate_moved())


def test_a_dynamic_attack_never_differentiates_the_black_box(surrogate, sealed, batch):
    model = make_dynamic(surrogate, sealed)
    model.train_step(batch)
    assert int(model.surrogate_optimizer.iterations) == 1


def test_the_surrogate_learns_from_clean_and_adversarial_images(surrogate, classifier, batch):
    asked = []

    def black_box(images):
        asked.append(np.array(images))
        return classifier(images)

    model = make_dynamic(surrogate, black_box)
    images, _ = batch
    model.train_step(batch)
    (both,) = asked
    np.testing.assert_array_equal(both[:8], images)
    np.testing.assert_allclose(both[8:], model(images), atol=1e-5)


def test_a_dynamic_attack_on_a_good_surrogate_fools_the_black_box(classifier, digits):
    surrogate = keras.models.clone_model(classifier)
    surrogate.set_weights(classifier.get_weights())
    model = make_dynamic(surrogate, classifier, beta=0.1)
    model.generator_optimizer.learning_rate = 5e-3
    before = model.evaluate(*digits, batch_size=100, verbose=0, return_dict=True)
    model.fit(*digits, batch_size=50, epochs=4, verbose=0)
    after = model.evaluate(*digits, batch_size=100, verbose=0, return_dict=True)
    assert after["attack_success_rate"] > before["attack_success_rate"] + 0.1
    assert after["robust_accuracy"] < before["robust_accuracy"]


def test_the_surrogate_goes_on_learning(surrogate, classifier, batch):
    model = make_dynamic(surrogate, classifier)
    values = []
    for _ in range(6):
        model.reset_metrics()
        values.append(float(model.train_step(batch)["surrogate_loss"]))
    assert values[-1] < 0.9 * values[0]


def test_successes_are_counted_on_the_black_box(surrogate, batch):
    images, _ = batch

    def always_four(inputs):
        return tf.one_hot(tf.fill([tf.shape(inputs)[0]], 4), 10)

    model = make_dynamic(surrogate, always_four)
    logs = model.test_step((images, np.full(8, 4)))
    np.testing.assert_allclose(logs["robust_accuracy"], 1.0)
