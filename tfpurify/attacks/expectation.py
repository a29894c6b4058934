"""Expectation over transformation: a target whose randomness is averaged out."""

import tensorflow as tf

from tfpurify.arguments import require_at_least


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
        require_at_least(1, num_draws=num_draws)
        self.target = target
        self.num_draws = num_draws
        # What an attack asks of a target: its parts, to name a dead layer, and its mode.
        for name in ("purifier", "classifier", "gradient_mode"):
            if hasattr(target, name):
                setattr(self, name, getattr(target, name))

    def __call__(self, images):
        """Returns the mean logits `(batch, num_classes)` of images `(batch, H, W, C)`."""
        return self._mean(self.target, images)

    def exact_logits(self, images):
        """Returns the mean over draws of the target's `exact_logits`."""
        return self._mean(self.target.exact_logits, images)

    def _mean(self, call, images):
        return tf.add_n([call(images) for _ in range(self.num_draws)]) / self.num_draws
