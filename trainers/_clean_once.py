"""A purifier that does the clean images once, because DefenseGAN is slow."""

import hashlib

import numpy as np
import tensorflow as tf


class CleanOnce:
    """A purifier that purifies a clean batch once, however many attacks are measured on it.

    Args:
        purifier: A `Purifier`.
    """

    def __init__(self, purifier):
        signature = [tf.TensorSpec((None, *purifier.image_shape), tf.float32)]
        self._purify = tf.function(lambda images: purifier(images, training=False), signature)
        self._clean = {}

    def watch(self, batches):
        """Passes batches on; the images in them are the clean ones."""
        for images, labels in batches:
            self._clean.setdefault(_digest(images), None)
            yield images, labels

    def __call__(self, images):
        key = _digest(images)
        if self._clean.get(key) is not None:
            return self._clean[key]
        purified_images = self._purify(images)
        if key in self._clean:
            self._clean[key] = purified_images
        return purified_images


def _digest(images):
    return hashlib.sha256(np.asarray(images).tobytes()).digest()
