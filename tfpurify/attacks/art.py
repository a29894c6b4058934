"""Adapters to IBM's Adversarial Robustness Toolbox (ART), the extra `art`.

Our targets as ART's classifiers, and ART's attacks as attacks that `tfpurify.evaluate` takes.
"""

import math

import keras
import numpy as np
import tensorflow as tf

try:
    from art.attacks import evasion
    from art.estimators.classification import TensorFlowV2Classifier
except ImportError as error:
    raise ImportError(
        'tfpurify.attacks.art needs the extra `art`: `pip install -e ".[art]"`. '
        f"Received: {type(error).__name__}: {error}"
    ) from error

from tfpurify.arguments import require_at_least, require_epsilon, require_one_of
from tfpurify.attacks.dead_gradient import gradient_norms, where_it_dies
from tfpurify.data.loading import validate_images
from tfpurify.models.logits import require_logits
from tfpurify.models.losses import UNSATURATED, margin_loss
from tfpurify.models.tracing import trace_images
from tfpurify.vocabulary import ART_ATTACKS, SURROGATE_MODES


class _TargetClassifier(TensorFlowV2Classifier):
    """ART's classifier of one of our targets; a dead gradient is an error, not a failed attack."""

    def __init__(self, target, image_shape, num_classes=None, loss=None):
        require_logits(target, image_shape)
        model = _as_art_model(target, image_shape)
        if num_classes is None:
            num_classes = model(np.zeros((1, *image_shape), np.float32)).shape[-1]
        super().__init__(
            model=model,
            nb_classes=num_classes,
            input_shape=tuple(image_shape),
            loss_object=loss or keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            clip_values=(0.0, 1.0),
        )
        self.target = target
        is_surrogate = getattr(target, "gradient_mode", None) in SURROGATE_MODES
        self._judge = model
        if is_surrogate:
            self._judge = _as_art_model(target.exact_logits, image_shape)

    def predict(self, x, batch_size=128, training_mode=False, **kwargs):
        """Returns what the target says of images, of its `exact_logits` in a surrogate mode."""
        del training_mode, kwargs
        batches = range(0, len(x), batch_size)
        return np.concatenate([self._judge(x[start : start + batch_size]) for start in batches])

    def loss_gradient(self, x, y, training_mode=False, **kwargs):
        """Returns the gradient of the loss.

        Raises:
            ValueError: If it is not finite, or zero for a whole batch.
        """
        return self._alive(super().loss_gradient(x, y, training_mode, **kwargs), x, y)

    def class_gradient(self, x, label=None, training_mode=False, **kwargs):
        """Returns the gradients of the logits; errors as for `loss_gradient`."""
        gradient = super().class_gradient(x, label, training_mode, **kwargs)
        return self._alive(gradient, x, self.predict(x))

    def _alive(self, gradient, x, y):
        values = np.asarray(gradient)
        if not np.all(np.isfinite(values)):
            raise ValueError(self._dead("be finite. Received: NaN or infinity", x, y))
        if not np.any(values):
            raise ValueError(self._dead("not vanish. Received: zero for a whole batch", x, y))
        return gradient

    def _dead(self, words, x, y):
        labels = np.argmax(y, axis=1) if np.ndim(y) == 2 else y
        return f"The gradient must {words}; it died {where_it_dies(self.target, x, labels)}"


class _DifferenceOfLogitsRatio(keras.losses.Loss):
    """-(Z_y - max_{j != y} Z_j) / (Z_(1) - Z_(3)), Z_(k) the k-th largest logit; attacks raise it.

    ART has it only inside a classifier of its own, which knows neither a dead gradient nor a
    surrogate mode.

    Source: Croce and Hein 2020, Eq. (6).
    """

    def call(self, y_true, y_pred):
        largest, _ = tf.math.top_k(y_pred, 3)
        margin = margin_loss(y_pred, tf.argmax(y_true, axis=1), kappa=UNSATURATED)
        return -margin / (largest[:, 0] - largest[:, 2] + keras.config.epsilon())


def _as_art_model(target, image_shape):
    """Returns a target as ART calls a model, traced once."""
    classify = trace_images(lambda images: tf.cast(target(images), tf.float32), image_shape)
    return lambda images, training=False: classify(tf.cast(images, tf.float32))


def as_art_classifier(target, image_shape, num_classes=None):
    """Returns a target as ART's `TensorFlowV2Classifier`, with its gradient mode.

    Args:
        target: Callable, images -> logits: a classifier or a `PurifiedClassifier`.
        image_shape: `(height, width, channels)`.
        num_classes: Number of logits; as many as the target gives for a black image if None.
    """
    return _TargetClassifier(target, image_shape, num_classes)


class ARTAttack:
    """One of ART's attacks, held to a bound, as `attack(images, labels)`.

    Args:
        name: Of `vocabulary.ART_ATTACKS`: `fgsm`, `apgd_ce`, `apgd_dlr`, `cw_l2`, `square`,
            `hopskipjump`, `pgd_l2`. What `cw_l2` and `hopskipjump` find is clipped to the bound,
            because ART's search knows only the least perturbation.
        target: As for `as_art_classifier`.
        image_shape: `(height, width, channels)`.
        epsilon: L-inf bound, in (0, 1]; of `pgd_l2` the bound on the mean over pixels of the
            squared difference.
        num_steps: Iterations; queries for `square`.
        num_restarts: Of `apgd_*`, `square` and `pgd_l2`.
        seed: Of NumPy's generator, from which ART draws; HopSkipJump's start has none.

    Raises:
        ValueError: If an argument is out of its range, or a gradient is dead.

    Source: Goodfellow et al. 2015 (FGSM); Croce and Hein 2020 (APGD); Carlini and Wagner 2017 (C&W
    L2); Andriushchenko et al. 2020 (Square); Chen et al. 2020 (HopSkipJump). The code is ART's.

    Limitations: ART's APGD and PGD return their last iterate, not the best one that they met, and
    do not see in a surrogate mode that an earlier one had succeeded; `PGD` does.
    """

    def __init__(self, name, target, image_shape, epsilon, num_steps=100, num_restarts=1, seed=0):
        require_one_of(ART_ATTACKS, name=name)
        require_epsilon(epsilon)
        require_at_least(1, num_steps=num_steps, num_restarts=num_restarts)
        self.name = name
        self.epsilon = epsilon
        self.seed = seed
        self.image_shape = tuple(image_shape)
        self.num_steps = num_steps
        self.num_restarts = num_restarts
        loss = _DifferenceOfLogitsRatio() if name == "apgd_dlr" else None
        self._classifier = _TargetClassifier(target, image_shape, loss=loss)

    def __call__(self, images, labels):
        """Attacks images (B, H, W, C) in [0, 1] with true labels (B,); returns images alike."""
        images = np.asarray(images)
        validate_images(images, self.image_shape)
        np.random.seed(self.seed)  # noqa: NPY002  what ART draws from
        # Anew each time: HopSkipJump counts on where its last call ended.
        attack = _make(self.name, self._classifier, self.epsilon, self.num_steps, self.num_restarts)
        attacked = attack.generate(images, np.asarray(labels))
        if self.name == "pgd_l2":
            return attacked.astype(np.float32)
        low, high = np.maximum(images - self.epsilon, 0.0), np.minimum(images + self.epsilon, 1.0)
        return np.clip(attacked, low, high).astype(np.float32)

    def gradient_norms(self, images, labels):
        """Returns the norms `(batch,)` of the target's gradient; None if it climbs none."""
        if self.name in ("square", "hopskipjump"):
            return None
        return gradient_norms(self._classifier.target, images, labels)


def _make(name, classifier, epsilon, num_steps, num_restarts):
    batch_size = 128
    if name == "fgsm":
        return evasion.FastGradientMethod(
            classifier, eps=epsilon, eps_step=epsilon, batch_size=batch_size
        )
    if name.startswith("apgd"):
        return evasion.AutoProjectedGradientDescent(
            classifier,
            eps=epsilon,
            eps_step=2 * epsilon,
            max_iter=num_steps,
            nb_random_init=num_restarts,
            batch_size=batch_size,
            loss_type=None,  # the estimator's: ART's own need Keras 2, or are no targets of ours
            verbose=False,
        )
    if name == "cw_l2":
        return evasion.CarliniL2Method(
            classifier, max_iter=num_steps, batch_size=batch_size, verbose=False
        )
    if name == "pgd_l2":
        # A little inside, so that float32 does not step over the bound.
        radius = (1.0 - 1e-4) * math.sqrt(epsilon * math.prod(classifier.input_shape))
        return evasion.ProjectedGradientDescentNumpy(
            classifier,
            norm=2,
            eps=radius,
            eps_step=2.5 * radius / num_steps,
            max_iter=num_steps,
            num_random_init=num_restarts,
            batch_size=batch_size,
            verbose=False,
        )
    if name == "square":
        return evasion.SquareAttack(
            classifier,
            eps=epsilon,
            max_iter=num_steps,
            nb_restarts=num_restarts,
            batch_size=batch_size,
            verbose=False,
        )
    return evasion.HopSkipJump(
        classifier, norm=np.inf, max_iter=num_steps, batch_size=batch_size, verbose=False
    )
