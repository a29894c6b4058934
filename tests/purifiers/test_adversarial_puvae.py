"""Adversarial training attacks choice and classification within its bound, and learns from it."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfpurify.models.losses import margin_loss
from tfpurify.purifiers.adversarial_puvae import AdversarialPuVAE
from tfpurify.purifiers.base import candidate_errors

SHAPE = (8, 8, 1)


@pytest.fixture
def make(small_classifier):
    def make(**options):
        keras.utils.set_random_seed(2)
        options = {"latent_dim": 4, "classifier": small_classifier, **options}
        model = AdversarialPuVAE(SHAPE, **options)
        model.build()
        for weight in model.decoder.trainable_variables:
            weight.assign(2.0 * weight)
        model.compile(keras.optimizers.Adam(3e-3))
        return model

    return make


@pytest.mark.parametrize("attacked_part", ["_choice", "_classification"])
def test_an_attack_lowers_its_margin_within_its_bound(make, small_batch, attacked_part):
    images, labels = tf.constant(small_batch[0]), small_batch[1]
    model = make()
    logits_of = getattr(model, attacked_part)
    attacked = model._attack(images, labels, 0.2, 10, 0, logits_of)
    assert np.abs(attacked - images).max() <= 0.2 + 1e-6
    assert np.all((attacked >= 0) & (attacked <= 1))
    before, after = (
        margin_loss(logits_of(inputs, labels), labels, kappa=1e9).numpy()
        for inputs in (images, attacked)
    )
    assert np.all(after < before)


def test_what_is_attacked_is_what_is_served(make, small_batch):
    images, labels = tf.constant(small_batch[0]), small_batch[1]
    model = make()
    errors = candidate_errors(images, model.candidates(images)).numpy()
    scores = model._choice(images, labels)
    np.testing.assert_allclose(scores, -errors / model.temperature, rtol=1e-4)
    own = model.candidates(images).numpy()[np.arange(len(labels)), labels]
    expected = model.classifier(own)
    np.testing.assert_allclose(model._classification(images, labels), expected, atol=1e-5)


def test_a_step_moves_encoder_and_decoder_and_never_the_classifier(
    make, small_batch, small_classifier, moved
):
    model = make()
    own, classifiers = moved(model.trainable_variables), moved(small_classifier.weights)
    model.train_step(small_batch)
    assert all(own())
    assert not any(classifiers())


def test_the_loss_is_the_weighted_sum_of_its_four_parts(make, small_batch):
    images, labels = tf.constant(small_batch[0]), small_batch[1]
    weights = {"reconstruction_weight": 2.0, "kl_weight": 3.0, "classification_weight": 0.5}
    model = make(**weights, selection_weight=0.7)
    attacked = model._attack(images, labels, 0.2, 2, 0, model._choice)
    parts = model._adversarial_losses(images, attacked, labels, 0.0, training=False)
    scores = -candidate_errors(attacked, model.candidates(attacked)) / model.temperature
    log_shares = tf.nn.log_softmax(scores).numpy()[np.arange(len(labels)), labels]
    np.testing.assert_allclose(parts["selection_loss"], -log_shares.mean(), rtol=1e-4)
    expected = sum(
        weight * parts[name.replace("weight", "loss")]
        for name, weight in {**weights, "selection_weight": 0.7}.items()
    )
    np.testing.assert_allclose(parts["loss"], expected, rtol=1e-5)


def test_the_bound_rises_over_the_warm_up(make, small_batch):
    images, labels = tf.constant(small_batch[0]), small_batch[1]
    bounds = []
    model = make(epsilon=0.4, epsilon_warmup_steps=4)
    attack = model._attack
    model._attack = lambda images, labels, epsilon, *more: (
        bounds.append(float(epsilon)) or attack(images, labels, epsilon, *more)
    )
    for _ in range(6):
        model.train_step((images, labels))
    np.testing.assert_allclose(bounds, [0.1, 0.2, 0.3, 0.4, 0.4, 0.4], rtol=1e-5)


@pytest.mark.parametrize(
    ("attacks_classifier", "expected"),
    [(True, ["_classification", *["_choice"] * 3] * 2), (False, ["_choice"] * 8)],
)
def test_every_fourth_attack_is_on_the_classification(
    make, small_batch, attacks_classifier, expected
):
    taken = []
    model = make(attacks_classifier=attacks_classifier)
    attack = model._attack
    model._attack = lambda *arguments: taken.append(arguments[-1].__name__) or attack(*arguments)
    for _ in range(8):
        model.train_step((tf.constant(small_batch[0]), small_batch[1]))
    assert taken == expected


@pytest.mark.parametrize(("attacks_classifier", "failures"), [(True, 2), (False, 1)])
def test_an_image_has_to_hold_against_all_that_training_attacks(
    make, small_batch, attacks_classifier, failures
):
    images, labels = tf.constant(small_batch[0]), small_batch[1]
    model = make(attacks_classifier=attacks_classifier)
    black = tf.zeros_like(images)
    attacks = {
        "_classification": tf.concat([black[:1], images[1:]], axis=0),
        "_choice": tf.concat([images[:1], black[1:2], images[2:]], axis=0),
    }
    model._attack = lambda *arguments: attacks[arguments[-1].__name__]
    logits = tf.one_hot(labels, 10)
    model.call = lambda inputs, training=False: inputs
    model.classifier = lambda inputs, training=False: tf.where(
        tf.reduce_max(inputs, axis=(1, 2, 3))[:, None] > 0, logits, -logits
    )
    logs = model.test_step((images, labels))
    assert logs["purified_accuracy"] == 1
    expected = 1 - failures / len(labels)
    np.testing.assert_allclose(logs["adversarial_accuracy"], expected, rtol=1e-6)


def test_clean_images_count_beside_the_attacked_ones(make, small_batch):
    images, labels = tf.constant(small_batch[0]), small_batch[1]
    seen = []
    model = make(clean_weight=0.5)
    losses = model._adversarial_losses
    model._adversarial_losses = lambda clean, inputs, *more, **options: (
        seen.append(inputs is clean) or losses(clean, inputs, *more, **options)
    )
    model.train_step((images, labels))
    assert seen == [False, True]


def test_training_raises_the_accuracy_under_attack(make):
    rng = np.random.default_rng(0)
    labels = np.arange(100) % 4
    blocks = np.kron(np.eye(4).reshape(4, 2, 2, 1), np.ones((4, 4, 1)))
    images = (0.1 + 0.8 * blocks[labels] * rng.uniform(0.7, 1.0, (100, 8, 8, 1))).astype("float32")
    classifier = keras.Sequential(
        [keras.Input(SHAPE), keras.layers.Flatten(), keras.layers.Dense(10)]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    classifier.compile(keras.optimizers.Adam(1e-2), loss, metrics=["accuracy"])
    assert classifier.fit(images, labels, epochs=20, verbose=0).history["accuracy"][-1] == 1
    model = make(classifier=classifier, epsilon=0.2)
    model.fit(images, labels, batch_size=20, epochs=30, verbose=0)
    logs = model.evaluate(images, labels, verbose=0, return_dict=True)
    untrained = make(classifier=classifier, epsilon=0.2)
    before = untrained.evaluate(images, labels, verbose=0, return_dict=True)
    assert logs["adversarial_accuracy"] > before["adversarial_accuracy"] + 0.3
    assert logs["purified_accuracy"] >= logs["adversarial_accuracy"]


@pytest.mark.parametrize(
    "options",
    [
        {"epsilon": 0.0},
        {"epsilon": 1.5},
        {"attack_steps": 0},
        {"clean_weight": -1},
        {"temperature": 0.0},
        {"training_noise": -1.0},
        {"epsilon_warmup_steps": -1},
        {"selection_weight": -0.5},
    ],
)
def test_bad_arguments_are_refused(make, options):
    (name, value) = options.copy().popitem()
    with pytest.raises(ValueError, match=f"`{name}` must be .* Received: {name}={value}"):
        make(**options)


def test_its_configuration_rebuilds_it(make, small_batch):
    model = make(epsilon=0.3, attack_steps=5, training_noise=0.5)
    again = AdversarialPuVAE.from_config(model.get_config())
    assert (again.epsilon, again.attack_steps, again.training_noise) == (0.3, 5, 0.5)
    again.build()
    again.set_weights(model.get_weights())
    np.testing.assert_allclose(again(small_batch[0]), model(small_batch[0]), atol=1e-6)
