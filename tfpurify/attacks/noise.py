"""Random noise as large as an attack: what a perturbation does that nobody aimed."""

import numpy as np
import tensorflow as tf

from tfpurify.arguments import require_epsilon
from tfpurify.data.loading import validate_images


class RandomNoise:
    """Moves every pixel by +epsilon or -epsilon at random, and clips to [0, 1].

    Args:
        epsilon: L-inf bound, in (0, 1].
        seed: Integer seed; a draw depends on it and on an image's place in its batch.

    Raises:
        ValueError: If `epsilon` is out of its range.
    """

    def __init__(self, epsilon, seed=0):
        require_epsilon(epsilon)
        self.epsilon = epsilon
        self.seed = seed

    def __call__(self, images, labels=None):
        """Moves images (B, H, W, C) in [0, 1]; returns images alike."""
        validate_images(images, np.shape(images)[-3:])
        images = tf.convert_to_tensor(images)
        draws = tf.random.stateless_uniform(images.shape, (self.seed, 0), -1.0, 1.0)
        return tf.clip_by_value(images + self.epsilon * tf.sign(draws), 0.0, 1.0)
