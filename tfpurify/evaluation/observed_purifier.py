"""A purifier that is observed: how far it moves images, how long it takes; clean images once."""

import hashlib
import time

import numpy as np
import tensorflow as tf

from tfpurify.models.tracing import trace_images

_REMEMBERED = 2000  # clean images, so that the memory does not grow with their number


class ObservedPurifier:
    """A purifier that purifies a clean batch once, however many attacks are measured on it.

    It remembers the first batches, of about 2,000 images together; the rest it purifies anew.

    Args:
        purifier: A `Purifier`.
    """

    def __init__(self, purifier):
        traced = trace_images(lambda images: purifier(images, training=False), purifier.image_shape)
        self._purify = traced.get_concrete_function()
        self._clean, self._remembered = {}, 0
        self.reset()

    def reset(self):
        """Forgets errors and time, not the purified clean images."""
        self._errors = {"clean": [], "adversarial": []}
        self._seconds, self._count = 0.0, 0

    def errors(self, kind):
        """Returns the mean over pixels of (purified - image)^2 of each image since `reset`, (n,).

        Args:
            kind: `clean` or `adversarial`.
        """
        return np.concatenate(self._errors[kind] or [np.zeros(0, np.float32)])

    def seconds_per_image(self):
        """Returns the seconds that an image took, over all that were purified since `reset`."""
        return self._seconds / self._count

    def watch(self, batches):
        """Passes batches on; the images in them are the clean ones."""
        for images, labels in batches:
            self._clean.setdefault(_digest(images), None)
            yield images, labels

    def __call__(self, images):
        key = _digest(images)
        purified_images = self._clean.get(key)
        if purified_images is None:
            purified_images = self._timed(images)
            if key in self._clean and self._remembered < _REMEMBERED:
                self._clean[key] = purified_images
                self._remembered += len(images)
        kind = "clean" if key in self._clean else "adversarial"
        self._errors[kind].append(np.mean(np.square(purified_images - images), axis=(1, 2, 3)))
        return purified_images

    def purify(self, images):
        """Purifies images unobserved."""
        return self._purify(tf.convert_to_tensor(images))

    def _timed(self, images):
        started = time.perf_counter()
        purified_images = self.purify(images)
        np.asarray(purified_images)  # waits for a GPU
        self._seconds += time.perf_counter() - started
        self._count += len(images)
        return purified_images


def _digest(images):
    return hashlib.sha256(np.asarray(images).tobytes()).digest()
