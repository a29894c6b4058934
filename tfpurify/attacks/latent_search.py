"""The attack on a generative defence from within: images that its generator itself makes."""

import numpy as np
import tensorflow as tf

from tfpurify.arguments import require_above_zero, require_at_least
from tfpurify.attacks.dead_gradient import explain_dead_gradient, gradient_norms
from tfpurify.data.loading import validate_images
from tfpurify.models.losses import UNSATURATED, margin_loss, projection_error, require_gradient


class LatentSearch:
    """Searches a generator's range for images near the given ones that a target gets wrong.

    From the z whose G(z) is nearest to an image, Adam minimises

        max(0, margin(target(G(z)), y) + kappa) + weight * max(0, d(G(z), x) - budget)

    with d the mean over pixels of the squared difference. A projection onto the generator's range
    leaves what is found where it is. An image for which no G(z) within the budget was met comes
    back as it was.

    Args:
        target: Callable, images -> logits; differentiable.
        generate: Callable, z `(batch, latent_dim)` -> images.
        project: Callable, images -> the nearest z.
        budget: Bound on d, > 0.
        num_steps: Of Adam, >= 1.
        learning_rate: Of Adam.
        weight: Of the distance's excess.
        kappa: Margin up to which a success is made surer.

    Raises:
        ValueError: If the budget or the steps are out of their range, or the gradient is
            dead; names the layer in which it died.

    Source: Athalye et al. 2018, section 5.4.2, who report a distortion of 0.005. We read it as the
    mean squared difference, which is of the size that their published code prints (sums of squares
    of 4 to 7 over 784 pixels).
    Differs from the paper: the budget is a bound that the search keeps, not what it minimises.
    """

    def __init__(
        self,
        target,
        generate,
        project,
        budget=0.005,
        num_steps=300,
        learning_rate=0.05,
        weight=2000.0,
        kappa=2.0,
    ):
        require_above_zero(budget=budget)
        require_at_least(1, num_steps=num_steps)
        self.target = target
        self.generate = generate
        self.project = project
        self.budget = budget
        self.num_steps = num_steps
        self.learning_rate = learning_rate
        self.weight = weight
        self.kappa = kappa
        self._search = tf.function(self._descend, autograph=False, reduce_retracing=True)

    def __call__(self, images, labels):
        """Attacks images (B, H, W, C) in [0, 1] with true labels (B,); returns images alike."""
        validate_images(images, np.shape(images)[-3:])
        images = tf.convert_to_tensor(images)
        with explain_dead_gradient(self.target, images, labels):
            return self._search(images, tf.cast(labels, tf.int64), self.project(images))

    def gradient_norms(self, images, labels):
        """Returns the norms `(batch,)` of the classifier's gradient; 0 where it is dead."""
        return gradient_norms(self.target, images, labels)

    def _descend(self, images, labels, z):
        def look(z):
            found = self.generate(z)
            margin = margin_loss(self.target(found), labels, kappa=UNSATURATED)
            return found, margin, projection_error(images, found)

        def keep(best, best_margin, found, margin, distance):
            is_better = (distance <= self.budget) & (margin < best_margin)
            best = tf.where(is_better[:, None, None, None], found, best)
            return best, tf.where(is_better, margin, best_margin)

        def move(step, z, first, second, best, best_margin):
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(z)
                found, margin, distance = look(z)
                excess = tf.maximum(distance - self.budget, 0.0)
                loss = tf.maximum(margin + self.kappa, 0.0) + self.weight * excess
            is_active = tf.reduce_any(loss > 0)
            gradient = tape.gradient(loss, z)
            gradient = require_gradient(gradient, "the generator", is_active)
            best, best_margin = keep(best, best_margin, found, margin, distance)
            # Adam (Kingma and Ba 2015, algorithm 1), one state for each image.
            first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
            count = tf.cast(step + 1, tf.float32)
            scale = tf.sqrt(1.0 - 0.999**count) / (1.0 - 0.9**count)
            z -= self.learning_rate * scale * first / (tf.sqrt(second) + 1e-8)
            return step + 1, z, first, second, best, best_margin

        unmet = tf.fill(tf.shape(images)[:1], UNSATURATED)
        state = (0, z, tf.zeros_like(z), tf.zeros_like(z), images, unmet)
        _, z, _, _, best, best_margin = tf.while_loop(
            lambda step, *_: step < self.num_steps, move, state, maximum_iterations=self.num_steps
        )
        return keep(best, best_margin, *look(z))[0]
