"""The search in a generator's range, on a generator and a target that are known by hand."""

import numpy as np
import pytest
import tensorflow as tf

from tfpurify.attacks.latent_search import LatentSearch


def generate(z):
    """Grey images: every pixel is z, clipped."""
    return tf.clip_by_value(tf.reshape(z, (-1, 1, 1, 1)) * tf.ones((1, 2, 2, 1)), 0.0, 1.0)


def target(images):
    """Class 0 below a mean of 0.5."""
    mean = tf.reduce_mean(images, axis=(1, 2, 3))
    return tf.stack([0.5 - mean, mean - 0.5], axis=1) * 10


def search(values, budget, **options):
    images = np.reshape(values, (-1, 1, 1, 1)) * np.ones((1, 2, 2, 1))
    images = images.astype(np.float32)
    attack = LatentSearch(
        target, generate, lambda images: images[:, 0, 0, :], budget, num_steps=200, **options
    )
    return images, np.asarray(attack(images, np.zeros(len(images), np.int64)))


def test_it_crosses_where_the_budget_allows_and_nowhere_else():
    images, found = search([0.45, 0.1], budget=0.01)
    distances = np.mean((found - images) ** 2, axis=(1, 2, 3))
    assert distances.max() <= 0.01 + 1e-6
    assert found[0].mean() > 0.5  # 0.05 away: a squared distance of 0.0025
    assert found[1].mean() < 0.5  # 0.4 away
    assert np.ptp(found[0]) == 0  # on the generator's range


def test_an_image_whose_range_lies_outside_the_budget_comes_back():
    images = np.zeros((1, 2, 2, 1), np.float32)
    images[0, 0, 0, 0] = 1.0
    start = tf.constant([[0.9]])
    attack = LatentSearch(target, generate, lambda _: start, 1e-4, num_steps=5)
    assert np.array_equal(attack(images, np.zeros(1, np.int64)), images)


def test_a_dead_gradient_is_an_error():
    dead = LatentSearch(
        target, lambda z: tf.zeros((1, 2, 2, 1)) + 0.0 * z[0, 0], lambda x: x[:, 0, 0]
    )
    with pytest.raises(ValueError, match="must not vanish.*; it died in the target"):
        dead(np.zeros((1, 2, 2, 1), np.float32), np.zeros(1, np.int64))


@pytest.mark.parametrize("options", [{"budget": 0.0}, {"num_steps": 0}])
def test_arguments_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=f"`{next(iter(options))}` must be >"):
        LatentSearch(target, generate, None, **options)
