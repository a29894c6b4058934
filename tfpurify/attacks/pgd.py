"""Projected gradient descent: the yardstick that a learned attack is held against."""

import numpy as np
import tensorflow as tf

from tfpurify.arguments import require_above_zero, require_at_least, require_epsilon
from tfpurify.attacks.dead_gradient import explain_dead_gradient, gradient_norms
from tfpurify.data.loading import validate_images
from tfpurify.models.logits import require_logits
from tfpurify.models.losses import UNSATURATED, margin_loss, require_gradient
from tfpurify.vocabulary import SURROGATE_MODES

# An iterate with a penalty is judged by this + the penalty: above the margin of every iterate that
# has none, and small enough that float32 tells two penalties apart.
_PENALIZED = 1e6
_FIRST_STEP = 0.2  # share of epsilon, where a target rank is given; the steps shrink to nothing
_FLOOR = 1.0  # where there is a penalty, a margin below minus this gains the attack no more


class PGD:
    """Untargeted L-inf PGD on the margin of the logits, from one random start.

    x <- clip(x - step_size * sign(grad margin(target(x), y)), [x0 - epsilon, x0 + epsilon], [0, 1])

    Each image keeps the iterate, the clean image included, at which `evaluation_target` has the
    smallest margin. The loop is one `tf.function`, traced without autograph and once for all
    batches. The random start depends only on the seed and an image's place in its batch.

    Args:
        target: Callable, images -> logits; the gradient is taken through it.
        epsilon: L-inf bound on the perturbation, in (0, 1].
        num_steps: Gradient steps, >= 1.
        step_size: Size of one step, > 0. Default: 2.5 * epsilon / num_steps, which can cross the
            whole ball and come back.
        seed: Integer seed of the random start.
        evaluation_target: Callable, images -> logits, that decides which iterate is best. Default:
            the `exact_logits` of a target in a mode of `SURROGATE_MODES`, else `target`.
        penalty: Optional callable, images -> `(batch,)` >= 0: what else the attack has to stay
            clear of, such as a detector. The gradient is that of its sum with the margin, which
            counts no lower than -1 then; of the iterates, one without a penalty is always better.
        target_rank: Which other class the true one is pushed under: the one whose logit at the
            clean image is the rank-th highest of the others, from 1. None: at each step whichever
            is highest. It decides the gradient alone, not which iterate is best; steps begin at a
            fifth of epsilon then and shrink to nothing, and `step_size` has no part.

    Raises:
        ValueError: If an argument is out of its range, or the gradient is None, not finite or zero
            for a whole batch; names the layer in which it died.

    Source: Madry et al. (2018), "Towards Deep Learning Models Resistant to Adversarial Attacks";
        the loss is f6 of Carlini & Wagner (2017) without its floor; one target at a time as in
        Gowal et al. (2019), "An Alternative Surrogate Loss for PGD-based Adversarial Testing".
    Differs from the paper: the margin of the logits instead of the cross entropy, because it does
        not vanish where the softmax saturates; the best iterate instead of the last.
    """

    def __init__(
        self,
        target,
        epsilon,
        num_steps=100,
        step_size=None,
        seed=0,
        evaluation_target=None,
        penalty=None,
        target_rank=None,
    ):
        require_epsilon(epsilon)
        require_at_least(1, num_steps=num_steps, target_rank=target_rank)
        require_above_zero(step_size=step_size)
        self.target = target
        self.epsilon = epsilon
        self.num_steps = num_steps
        self.step_size = 2.5 * epsilon / num_steps if step_size is None else step_size
        self.seed = seed
        is_surrogate = getattr(target, "gradient_mode", None) in SURROGATE_MODES
        if evaluation_target is None and is_surrogate:
            evaluation_target = target.exact_logits
        self.evaluation_target = evaluation_target
        self.penalty = penalty
        self.target_rank = target_rank
        self._search = None

    def __call__(self, images, labels):
        """Attacks images (B, H, W, C) in [0, 1] with true labels (B,); returns images alike."""
        validate_images(images, np.shape(images)[-3:])
        require_logits(self.target, images.shape[1:])
        if self._search is None or self._search.input_signature[0].shape[1:] != images.shape[1:]:
            # With an open batch size a last, partial batch costs no second trace.
            signature = (
                tf.TensorSpec((None, *images.shape[1:]), tf.float32),
                tf.TensorSpec((None,), tf.int64),
            )
            self._search = tf.function(self._descend, signature, autograph=False)
        with explain_dead_gradient(self.target, images, labels):
            return self._search(tf.convert_to_tensor(images), tf.cast(labels, tf.int64))

    def gradient_norms(self, images, labels):
        """Returns the norms `(batch,)` of the gradient that it begins with; 0 where it is dead."""
        return gradient_norms(self.target, images, labels)

    def _descend(self, images, labels):
        low = tf.maximum(images - self.epsilon, 0.0)
        high = tf.minimum(images + self.epsilon, 1.0)
        noise = tf.random.stateless_uniform(
            tf.shape(images), seed=(self.seed, 0), minval=-self.epsilon, maxval=self.epsilon
        )
        start = tf.clip_by_value(images + noise, low, high)

        rival = self._rival(images, labels)

        first = 2.0 * self.step_size if self.target_rank is None else _FIRST_STEP * self.epsilon

        def size(step):
            if self.penalty is None and self.target_rank is None:
                return self.step_size
            # Smaller and smaller: to come to rest between the margin and the penalty, and to leave
            # the hollow of one class for another's.
            done = tf.cast(step, tf.float32) / self.num_steps
            return first * (1.0 - done)

        def descend(step, current, best, best_margin):
            gradient, margin = self._gradient(current, labels, rival)
            best, best_margin = _keep_lower(best, best_margin, current, margin)
            current = tf.clip_by_value(current - size(step) * tf.sign(gradient), low, high)
            return step + 1, current, best, best_margin

        _, last, best, best_margin = tf.while_loop(
            lambda step, *_: step < self.num_steps,
            descend,
            (0, start, images, self._score(images, labels)),
            maximum_iterations=self.num_steps,
        )
        best, _ = _keep_lower(best, best_margin, last, self._score(last, labels))
        return best

    def _rival(self, images, labels):
        """Returns the classes `(batch,)` that the true ones are pushed under; None: the highest."""
        if self.target_rank is None:
            return None
        logits = self.target(images)
        others = tf.where(tf.one_hot(labels, logits.shape[-1], True, False), -np.inf, logits)
        return tf.math.top_k(others, self.target_rank).indices[:, -1]

    def _gradient(self, images, labels, rival):
        """Returns the margin's gradient, and the margin by which the iterate is judged."""
        # Watched variables would put a whole descent on the tape, even one that `bpda` steps over.
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(images)
            logits = self.target(images)
            margin = margin_loss(logits, labels, kappa=UNSATURATED)
            loss, penalty = margin, None
            if rival is not None:
                own, other = (tf.gather(logits, one, batch_dims=1) for one in (labels, rival))
                loss = own - other
            if self.penalty is not None:
                penalty = self.penalty(images)
                loss = tf.maximum(loss, -_FLOOR) + penalty
            total = tf.reduce_sum(loss)
        # With a penalty an image may have all that it can: no margin left, and no penalty.
        is_active = True if self.penalty is None else tf.reduce_any(loss > -_FLOOR)
        gradient = tape.gradient(total, images)
        gradient = require_gradient(gradient, "the target of PGD", is_active)
        if self.evaluation_target is None:
            return gradient, _judge(margin, penalty)
        return gradient, self._score(images, labels)

    def _score(self, images, labels):
        judge = self.target if self.evaluation_target is None else self.evaluation_target
        margin = margin_loss(judge(images), labels, kappa=UNSATURATED)
        return _judge(margin, None if self.penalty is None else self.penalty(images))


def _judge(margin, penalty):
    """Returns by what iterates are compared: the margin, or past all margins, the penalty."""
    return margin if penalty is None else tf.where(penalty > 0, _PENALIZED + penalty, margin)


def _keep_lower(best, best_margin, images, margin):
    lower = margin < best_margin
    return (
        tf.where(lower[:, None, None, None], images, best),
        tf.where(lower, margin, best_margin),
    )
