"""Expectation over transformation: a target whose randomness is averaged out."""

import tensorflow as tf


class Expectation:
    """The mean of a random target's logits over several draws.

    Args:
        target: Callable, images -> logits, that draws anew at every call.
        num_draws: Calls that are averaged, >= 1.

    Raises:
        ValueError: If `num_draws` is out of its range.

    Source: Athalye et al. 2018, section 4.2 (EOT).
    Differs from the paper: the logits are averaged, not the loss.
    """

    def __init__(self, target, num_draws=4):
        if num_draws < 1:
            raise ValueError(f"`num_draws` must be >= 1. Received: num_draws={num_draws}")
        self.target = target
        self.num_draws = num_draws

    def __call__(self, images):
        """Returns the mean logits `(batch, num_classes)` of images `(batch, H, W, C)`."""
        return tf.add_n([self.target(images) for _ in range(self.num_draws)]) / self.num_draws
