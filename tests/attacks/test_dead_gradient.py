"""A gradient that dies is followed back to the layer where it did."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfpurify.attacks.dead_gradient import where_it_dies
from tfpurify.attacks.pgd import PGD
from tfpurify.purifiers.base import Purifier
from tfpurify.purifiers.purified_classifier import PurifiedClassifier

SHAPE = (4, 4, 1)
IMAGES = np.linspace(0.1, 0.9, 32, dtype=np.float32).reshape(2, *SHAPE)
LABELS = np.array([0, 1])


class Classifier(keras.Model):
    """A stack whose second layer lets no gradient through."""

    def __init__(self, blocked=True):
        super().__init__(name="small")
        block = keras.layers.Lambda(tf.stop_gradient if blocked else tf.identity, name="block")
        flat = keras.layers.Flatten(name="flat")
        logits = keras.layers.Dense(3, kernel_initializer="glorot_uniform", name="logits")
        self.image_shape = SHAPE
        self.stack = keras.Sequential([flat, block, logits], name="stack")
        self.build((None, *SHAPE))

    def build(self, input_shape):
        self.stack.build(input_shape)
        self.built = True

    def call(self, images, training=False):
        return self.stack(images, training=training)


class Rounder(Purifier):
    """Rounds pixels, so that no gradient comes back."""

    image_shape = SHAPE

    def call(self, images, training=False):
        return tf.round(images) + 0.0 * images


def test_the_layer_is_named():
    keras.utils.set_random_seed(0)
    assert where_it_dies(Classifier(), IMAGES, LABELS) == "in the layer block of small"
    alive = where_it_dies(Classifier(blocked=False), IMAGES, LABELS)
    assert alive == "not in the layers of small at these images"


def test_a_purifier_that_lets_nothing_through_is_named():
    keras.utils.set_random_seed(0)
    target = PurifiedClassifier(Rounder(name="rounder"), Classifier(blocked=False))
    words = r"must not vanish.*; it died in the purifier rounder \(gradient mode exact\)"
    with pytest.raises(ValueError, match=words):
        PGD(target, 0.2, num_steps=2)(IMAGES, LABELS)
    bpda = PurifiedClassifier(Rounder(name="other"), Classifier(blocked=False), "bpda")
    PGD(bpda, 0.2, num_steps=2)(IMAGES, LABELS)


def test_of_a_plain_function_only_the_whole_can_be_named():
    assert "whose layers are not known" in where_it_dies(lambda images: images, IMAGES, LABELS)
