"""Each refinement on a deployed model that plain PGD's images do not fool.

The model at hand reads one pixel as well as the mean; the deployed one smooths, or reads in another
way, so that only an attack that moves many pixels alike gets through.
"""

import numpy as np
import pytest
import tensorflow as tf

from tfpurify.attacks import transfer
from tfpurify.attacks.transfer import TransferAttack

SHAPE = (28, 28, 1)
IMAGES = np.full((4, *SHAPE), 0.6, "float32")
LABELS = np.zeros(4, int)
WEIGHTS = tf.constant(
    np.random.default_rng(0).normal(0.15, 1.0, SHAPE).astype("float32") / (28 * 28)
)
RANDOM = np.random.default_rng(4).uniform(0.1, 0.9, (4, *SHAPE)).astype("float32")


def logits_of_sum(total):
    """Class 0 where the total is positive."""
    return tf.stack([total, -total], axis=1)


def at_hand(images):
    """A linear score whose weights are noise about a small mean."""
    return logits_of_sum(tf.reduce_sum((images - 0.5) * WEIGHTS, axis=(1, 2, 3)))


def deployed(images):
    """What its smooth part says: the mean."""
    return logits_of_sum(tf.reduce_mean(images, axis=(1, 2, 3)) - 0.57)


def fooled(attack):
    adversarial = attack(IMAGES, LABELS).numpy()
    assert np.abs(adversarial - IMAGES).max() <= 0.2 + 1e-6
    assert adversarial.min() >= 0 and adversarial.max() <= 1
    return deployed(adversarial).numpy().argmax(axis=1) != LABELS


def test_plain_steps_fool_the_model_at_hand_alone():
    attack = TransferAttack(at_hand, 0.2, momentum=0.0)
    assert (at_hand(attack(IMAGES, LABELS)).numpy().argmax(axis=1) != LABELS).all()
    assert not fooled(attack).any()


@pytest.mark.parametrize(
    "options",
    [{"kernel_size": 7}, {"kernel_size": 7, "diversity": 0.7}, {"patch_size": 3, "kernel_size": 5}],
)
def test_smoothed_steps_fool_what_smooths(options):
    assert fooled(TransferAttack(at_hand, 0.2, **options)).all()


def momentum_steps(gradient, image, epsilon, steps, mu):
    """Dong et al. 2018, algorithm 1, in NumPy."""
    current, momentum = image.copy(), np.zeros_like(image)
    for _ in range(steps):
        found = gradient(current)
        momentum = mu * momentum + found / np.abs(found).mean()
        current = current - epsilon / steps * np.sign(momentum)
        current = np.clip(np.clip(current, image - epsilon, image + epsilon), 0, 1)
    return current


@pytest.mark.parametrize("mu", [0.0, 1.0])
def test_momentum_is_algorithm_1(mu):
    def curved(images):
        wave = tf.reduce_sum(tf.sin(40.0 * images * (1 + WEIGHTS)), axis=(1, 2, 3))
        return logits_of_sum(wave)

    def gradient(image):
        inputs = tf.constant(image[None])
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            logits = curved(inputs)
            loss = logits[:, 0] - logits[:, 1]
        return tape.gradient(loss, inputs).numpy()[0]

    image = np.random.default_rng(2).uniform(0.1, 0.9, SHAPE).astype("float32")
    ours = TransferAttack(curved, 0.2, momentum=mu)(image[None], LABELS[:1]).numpy()[0]
    expected = momentum_steps(gradient, image, 0.2, 10, mu)
    np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_a_scaled_copy_adds_its_gradient():
    """At full brightness the model saturates the other way; a darker copy shows where to go."""

    def misled(images):
        mean = tf.reduce_mean(images, axis=(1, 2, 3))
        return logits_of_sum(tf.where(mean > 0.5, -0.4 * mean, mean - 0.1) + 0.0)

    labels = np.zeros(4, int)
    alone = TransferAttack(misled, 0.2)(IMAGES, labels).numpy()
    scaled = TransferAttack(misled, 0.2, num_scales=5)(IMAGES, labels).numpy()
    assert alone.mean() > IMAGES.mean() > scaled.mean()


def test_the_cosine_transform_inverts():
    images = np.random.default_rng(3).uniform(size=(2, 12, 20, 3)).astype("float32")
    spectrum = transfer._cosine(tf.constant(images))
    np.testing.assert_allclose(transfer._cosine(spectrum, is_inverse=True), images, atol=1e-5)
    np.testing.assert_allclose(
        spectrum[:, 0, 0], images.sum(axis=(1, 2)) / np.sqrt(12 * 20), rtol=1e-5
    )


@pytest.mark.parametrize("options", [{"diversity": 1.0}, {"num_spectra": 3}])
def test_random_versions_follow_the_seed_and_change_the_gradient(options):
    def curved(images):
        return logits_of_sum(tf.reduce_sum(tf.sin(9.0 * images) * WEIGHTS, axis=(1, 2, 3)))

    found = [
        TransferAttack(curved, 0.2, seed=seed, **options)(RANDOM, LABELS).numpy()
        for seed in (0, 0, 1)
    ]
    plain = TransferAttack(curved, 0.2)(RANDOM, LABELS).numpy()
    np.testing.assert_array_equal(found[0], found[1])
    assert np.any(found[0] != found[2]) and np.any(found[0] != plain)


def test_a_target_rank_goes_for_that_class():
    weights = tf.constant(np.random.default_rng(5).normal(size=(784, 3)).astype("float32"))

    def three(images):
        return tf.reshape(images - 0.6, (-1, 784)) @ weights + [5.0, 1.0, 0.0]

    aimed = TransferAttack(three, 0.2, target_rank=2)(IMAGES, LABELS)
    assert (three(aimed).numpy().argmax(axis=1) == 2).all()
    aimed = TransferAttack(three, 0.2, target_rank=1, loss="cross_entropy")(IMAGES, LABELS)
    assert (three(aimed).numpy().argmax(axis=1) == 1).all()


def test_a_dead_gradient_is_an_error():
    with pytest.raises(ValueError, match="must not vanish"):
        TransferAttack(lambda images: at_hand(0.0 * images), 0.2)(IMAGES, LABELS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel_size": 4}, "`kernel_size` must be odd"),
        ({"patch_size": 2}, "`patch_size` must be odd"),
        ({"num_steps": 0}, "num_steps"),
        ({"loss": "other"}, "loss"),
        ({"diversity": -0.1}, "diversity"),
    ],
)
def test_arguments_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        TransferAttack(at_hand, 0.2, **options)
