"""Several attacks as one: for each image the worst of what they find."""

import numpy as np
import tensorflow as tf

from tfpurify.models.losses import UNSATURATED, margin_loss


def norms_of(attack, images, labels):
    """Returns the norms `(batch,)` of the gradient that an attack climbs, or None."""
    norms = getattr(attack, "gradient_norms", None)
    return None if norms is None else norms(images, labels)


class WorstCase:
    """Runs attacks in turn, each on the images that none before it has fooled the target with.

    As in AutoAttack (Croce and Hein 2020, section 5). A later attack sees fewer images than
    alone, and its random starts, which follow an image's place in the batch, are others.

    Args:
        attacks: Dictionary of name -> `attack(images, labels)`, in the order of their turn.
        target: Callable, images -> logits: what is deployed. It decides what has succeeded.

    Attributes:
        tried: Name -> how many images the attack was given.
        successes: Name -> how many images the attack was the first to fool the target with.

    Raises:
        ValueError: If there is no attack.
    """

    def __init__(self, attacks, target):
        if not attacks:
            raise ValueError("`attacks` must hold at least one attack. Received: none")
        self.attacks = dict(attacks)
        self.target = target
        self.tried = dict.fromkeys(self.attacks, 0)
        self.successes = dict.fromkeys(self.attacks, 0)

    def __call__(self, images, labels):
        """Attacks images (B, H, W, C) in [0, 1] with true labels (B,); returns images alike.

        An image that nothing fools the target with comes back as the one with the smallest margin.
        """
        worst, labels = np.array(images), np.asarray(labels)
        margins = self._margins(worst, labels)
        for name, attack in self.attacks.items():
            left = np.flatnonzero(margins > 0)
            if not len(left):
                break
            self.tried[name] += len(left)
            found = np.asarray(attack(tf.gather(images, left), labels[left]))
            new = self._margins(found, labels[left])
            is_lower = new < margins[left]
            worst[left[is_lower]], margins[left[is_lower]] = found[is_lower], new[is_lower]
            self.successes[name] += int((new <= 0).sum())
        return worst

    def gradient_norms(self, images, labels):
        """Returns the greatest norms `(batch,)` among its attacks that climb; None without one."""
        found = [norms_of(attack, images, labels) for attack in self.attacks.values()]
        found = [norms for norms in found if norms is not None]
        return np.max(found, axis=0) if found else None

    def _margins(self, images, labels):
        logits = self.target(tf.convert_to_tensor(images))
        return margin_loss(logits, labels, kappa=UNSATURATED).numpy()
