import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from tfpurify.attacks.pgd import PGD

SHAPE = (4, 4, 1)


def toy_data(n=64, seed=0):
    """Two classes: the left or the right half of the image is a little brighter."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, n)
    images = generator.uniform(0.3, 0.6, (n, *SHAPE))
    images[labels == 0, :, :2] += 0.1
    images[labels == 1, :, 2:] += 0.1
    return images.astype("float32"), labels


@pytest.fixture(scope="module")
def trained():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input(SHAPE),
            keras.layers.Flatten(),
            keras.layers.Dense(16, "relu"),
            keras.layers.Dense(2),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.02), loss)
    model.fit(*toy_data(256), epochs=15, verbose=0)
    return model


def accuracy(target, images, labels):
    return np.mean(ops.convert_to_numpy(target(images)).argmax(axis=1) == labels)


def margin(target, images, labels):
    logits = ops.convert_to_numpy(target(images))
    rows = np.arange(len(labels))
    others = logits.copy()
    others[rows, labels] = -np.inf
    return logits[rows, labels] - others.max(axis=1)


def linear(images):
    """Logits (mean, 2 - mean): every sign of the gradient is known."""
    mean = tf.reduce_mean(images, axis=(1, 2, 3))
    return tf.stack([mean, 2.0 - mean], axis=1)


def test_beats_a_trained_classifier(trained):
    images, labels = toy_data(seed=1)
    adversarial = PGD(trained, epsilon=0.2, num_steps=10)(images, labels).numpy()
    assert accuracy(trained, images, labels) > 0.9
    assert accuracy(trained, adversarial, labels) < 0.1
    assert adversarial.shape == images.shape
    assert adversarial.min() >= 0 and adversarial.max() <= 1
    assert np.abs(adversarial - images).max() <= 0.2 + 1e-6


def test_reaches_the_corner_of_the_ball_on_a_linear_target():
    images = np.full((3, *SHAPE), 0.5, "float32")
    labels = np.array([0, 1, 0])
    adversarial = PGD(linear, epsilon=0.1, num_steps=20)(images, labels).numpy()
    np.testing.assert_allclose(adversarial[[0, 2]], 0.4, atol=1e-6)
    np.testing.assert_allclose(adversarial[1], 0.6, atol=1e-6)


def test_stays_in_range_at_the_edges():
    images = np.stack([np.zeros(SHAPE), np.ones(SHAPE)]).astype("float32")
    adversarial = PGD(linear, epsilon=0.3, num_steps=5)(images, np.array([0, 1])).numpy()
    assert adversarial.min() >= 0 and adversarial.max() <= 1


def test_same_seed_same_result(trained):
    images, labels = toy_data(8)
    first, again, other = (
        PGD(trained, 0.1, num_steps=2, seed=seed)(images, labels).numpy() for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(first, again)
    assert np.any(first != other)


def test_never_leaves_an_image_better_classified_than_clean(trained):
    images, labels = toy_data(16)
    adversarial = PGD(trained, epsilon=0.05, num_steps=1, step_size=1.0)(images, labels)
    assert np.all(margin(trained, adversarial, labels) <= margin(trained, images, labels))


def test_more_steps_never_raise_the_best_margin(trained):
    images, labels = toy_data(16)
    margins = [
        margin(trained, PGD(trained, 0.1, steps, step_size=0.05)(images, labels), labels)
        for steps in (1, 2, 4)
    ]
    assert np.all(margins[1] <= margins[0] + 1e-5)
    assert np.all(margins[2] <= margins[1] + 1e-5)


def test_the_best_iterate_is_the_evaluation_targets():
    images = np.full((2, *SHAPE), 0.5, "float32")
    labels = np.array([0, 0])

    def opposite(images):
        return linear(1.0 - images)

    # Every step and most starts go the wrong way for the judge: it keeps what serves it best.
    adversarial = PGD(linear, 0.1, num_steps=5, evaluation_target=opposite)(images, labels)
    assert np.all(margin(opposite, adversarial, labels) <= margin(opposite, images, labels))
    assert np.all(margin(linear, adversarial, labels) >= margin(linear, images, labels) - 1e-6)


def test_one_attack_is_traced_once_for_all_batches(trained):
    images, labels = toy_data(20)
    traces = []

    def target(images):
        traces.append(images.shape)
        return trained(images)

    attack = PGD(target, 0.1, num_steps=2)
    for start in (0, 8, 16):
        attack(images[start : start + 8], labels[start : start + 8])
    seen = len(traces)
    attack(images[:3], labels[:3])
    assert len(traces) == seen


def test_the_classifiers_weights_never_move(trained):
    before = [weight.copy() for weight in trained.get_weights()]
    PGD(trained, epsilon=0.1, num_steps=2)(*toy_data(8))
    for old, new in zip(before, trained.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (lambda images: linear(tf.stop_gradient(images)), "must exist. Received: None"),
        (lambda images: linear(images * 0.0), "must not vanish. Received: all zeros"),
        (lambda images: linear(tf.sqrt(images * 0.0)), "must be finite. Received: NaN"),
    ],
    ids=["none", "zero", "not finite"],
)
def test_a_dead_gradient_is_an_error(target, message):
    images = np.full((2, *SHAPE), 0.5, "float32")
    with pytest.raises(ValueError, match=f"gradient through the target of PGD {message}") as raised:
        PGD(target, epsilon=0.1, num_steps=2)(images, np.array([0, 1]))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epsilon": 0.0}, r"`epsilon` must be in \(0, 1\]"),
        ({"epsilon": 1.5}, "Received: epsilon=1.5"),
        ({"epsilon": 0.1, "num_steps": 0}, "`num_steps` must be >= 1"),
        ({"epsilon": 0.1, "step_size": 0.0}, "`step_size` must be > 0"),
    ],
)
def test_bad_settings_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        PGD(linear, **arguments)


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (np.full((2, *SHAPE), 1.5, "float32"), np.array([0, 1])),
        (np.full((2, *SHAPE), np.nan, "float32"), np.array([0, 1])),
        (np.full((2, 4, 4), 0.5, "float32"), np.array([0, 1])),
    ],
    ids=["range", "nan", "rank"],
)
def test_bad_images_are_refused(images, labels):
    with pytest.raises(ValueError, match="images"):
        PGD(linear, epsilon=0.1, num_steps=1)(images, labels)


def test_of_two_iterates_with_a_penalty_the_smaller_one_is_kept():
    images, labels = np.full((1, *SHAPE), 0.5, "float32"), np.array([1])

    def penalty(images):
        return 20.0 + 10.0 * tf.reduce_mean(tf.abs(images - 0.7), axis=(1, 2, 3))

    attacked = PGD(linear, 0.3, num_steps=60, penalty=penalty)(images, labels)
    assert float(penalty(attacked)[0]) < 20.5 < float(penalty(images)[0])


def three_classes(images):
    """Logits of which the second class is the nearest and the third the easier one."""
    mean = tf.reduce_mean(images, axis=(1, 2, 3))
    return tf.stack([0.5 + 0.0 * mean, 0.4 - 0.1 * (mean - 0.5), 4.0 * (mean - 0.5)], axis=1)


@pytest.mark.parametrize(("rank", "fools"), [(None, False), (1, False), (2, True)])
def test_each_class_can_be_the_target(rank, fools):
    images, labels = np.full((2, *SHAPE), 0.5, "float32"), np.zeros(2, "int64")
    attacked = PGD(three_classes, 0.2, 20, step_size=0.02, seed=3, target_rank=rank)(images, labels)
    assert np.abs(attacked - images).max() <= 0.2 + 1e-6
    assert np.all((margin(three_classes, attacked, labels) < 0) == fools)


def test_a_target_rank_below_one_is_refused():
    with pytest.raises(ValueError, match="`target_rank` must be >= 1. Received: target_rank=0"):
        PGD(linear, 0.2, target_rank=0)
