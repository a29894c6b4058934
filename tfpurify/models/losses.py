"""Every loss of the project: one pure function each, a batch in, `(batch,)` values out.

Shapes are checked first, the forms are the numerically stable ones, and nothing is averaged: the
caller decides.
"""

import keras
import tensorflow as tf
from keras import ops

from tfpurify.arguments import require_at_least

# Past every margin that a float32 classifier can show: with this `kappa` no image stops counting.
UNSATURATED = 1e9


def _check_same_shape(**tensors):
    (first, a), (second, b) = tensors.items()
    if len(a.shape) != len(b.shape) or any(
        m is not None and n is not None and m != n for m, n in zip(a.shape, b.shape, strict=True)
    ):
        raise ValueError(
            f"`{first}` and `{second}` must have the same shape. "
            f"Received: {first} {tuple(a.shape)}, {second} {tuple(b.shape)}"
        )


def _check_rank(rank, **tensors):
    for name, tensor in tensors.items():
        if len(tensor.shape) != rank:
            raise ValueError(
                f"`{name}` must have rank {rank}. Received: shape {tuple(tensor.shape)}"
            )


def _sum_per_example(values):
    return ops.sum(values, axis=tuple(range(1, len(values.shape))))


def require_gradient(gradient, where, is_active=True):
    """Returns `gradient`, or stops the run when it is None, all zero or not finite.

    A dead gradient makes an attack fail in silence, which reads as a strong defence.

    Args:
        gradient: Tensor of any shape, or None.
        where: What the gradient was taken through, for the message.
        is_active: Boolean, a tensor or not. False where the loss has reached its floor for every
            example (`margin_loss` at -kappa), so that a zero gradient is a success.

    Raises:
        ValueError: If `gradient` is None.
        tf.errors.InvalidArgumentError: If it is not finite, or zero everywhere.
    """
    if gradient is None:
        raise ValueError(f"The gradient through {where} must exist. Received: None")
    gradient = tf.convert_to_tensor(gradient)
    finite = tf.debugging.assert_equal(
        tf.reduce_all(tf.math.is_finite(gradient)),
        True,
        message=f"The gradient through {where} must be finite. Received: NaN or infinity",
    )
    alive = tf.debugging.assert_equal(
        tf.logical_or(tf.reduce_any(gradient != 0), tf.logical_not(is_active)),
        True,
        message=f"The gradient through {where} must not vanish. Received: all zeros",
    )
    with tf.control_dependencies([op for op in (finite, alive) if op is not None]):
        return tf.identity(gradient)


def reconstruction_loss(images, reconstructions):
    """Binary cross entropy of the reconstruction, summed over pixels.

    -sum [x log x' + (1 - x) log(1 - x')]

    Args:
        images: `(batch, height, width, channels)` in [0, 1].
        reconstructions: The same shape, in [0, 1].

    Source: PuVAE, loss L_RC; the study, Eq. (1), whose sign is repaired here.
    """
    _check_same_shape(images=images, reconstructions=reconstructions)
    return _sum_per_example(_binary_cross_entropy(images, reconstructions))


def _binary_cross_entropy(targets, probabilities):
    epsilon = keras.config.epsilon()
    probabilities = ops.clip(probabilities, epsilon, 1.0 - epsilon)
    return -(targets * ops.log(probabilities) + (1.0 - targets) * ops.log1p(-probabilities))


def kl_loss(z_mean, z_stddev):
    """Kullback-Leibler divergence of N(mu, sigma^2) from N(0, 1), summed over latents.

    1/2 sum [mu^2 + sigma^2 - log sigma^2 - 1]

    Args:
        z_mean: `(batch, latent_dim)`.
        z_stddev: `(batch, latent_dim)`, positive: sigma itself, not its logarithm.

    Source: Kingma and Welling 2014, appendix B; the study, Eq. (2), whose parenthesis is repaired.
    """
    _check_same_shape(z_mean=z_mean, z_stddev=z_stddev)
    _check_rank(2, z_mean=z_mean)
    log_variance = 2.0 * ops.log(ops.maximum(z_stddev, keras.config.epsilon()))
    return 0.5 * ops.sum(ops.square(z_mean) + ops.square(z_stddev) - log_variance - 1.0, axis=1)


def classification_loss(labels, logits):
    """Categorical cross entropy of softmax(logits) against the labels.

    -log softmax(logits)[y]

    Args:
        labels: `(batch,)` integers.
        logits: `(batch, num_classes)`.

    Source: PuVAE, loss L_CE. The study's Eq. (3) is a binary cross entropy; the source classifier
    has a softmax, so it is categorical here.
    """
    _check_rank(1, labels=labels)
    _check_rank(2, logits=logits)
    return keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)


def distillation_loss(target_logits, surrogate_logits):
    """Cross entropy between two classifiers' outputs.

    -sum softmax(target) log softmax(surrogate)

    Args:
        target_logits: `(batch, num_classes)` of the classifier that is queried.
        surrogate_logits: `(batch, num_classes)` of the classifier that learns.

    Source: AdvGAN, section 4.2.
    """
    _check_same_shape(target_logits=target_logits, surrogate_logits=surrogate_logits)
    _check_rank(2, target_logits=target_logits)
    return -ops.sum(ops.softmax(target_logits) * ops.log_softmax(surrogate_logits), axis=1)


def margin_loss(logits, labels, kappa=0.0, targeted=False):
    """Carlini and Wagner's margin on logits; minimise it to attack.

    untargeted max(Z_y - max_{j != y} Z_j, -kappa); targeted max(max_{j != t} Z_j - Z_t, -kappa)

    Args:
        logits: `(batch, num_classes)`. Not probabilities: softmax flattens the margin to nothing.
        labels: `(batch,)` true classes, or target classes if `targeted`.
        kappa: Confidence, >= 0; the margin past which there is nothing to gain.
        targeted: Whether to move towards `labels` rather than away.

    Source: Carlini and Wagner 2017, section IV, f6.
    """
    _check_rank(2, logits=logits)
    _check_rank(1, labels=labels)
    require_at_least(0, kappa=kappa)
    is_label = ops.one_hot(labels, logits.shape[-1], dtype="bool")
    label_logit = ops.max(ops.where(is_label, logits, -float("inf")), axis=1)
    other_logit = ops.max(ops.where(is_label, -float("inf"), logits), axis=1)
    margin = other_logit - label_logit if targeted else label_logit - other_logit
    return ops.maximum(margin, -kappa)


def cross_entropy_attack_loss(logits, labels, targeted=False):
    """The classifier's cross entropy as an attack's loss; minimise it to attack.

    untargeted log softmax(logits)[y]; targeted -log softmax(logits)[t]

    Args:
        logits: `(batch, num_classes)`.
        labels: `(batch,)` true classes, or target classes if `targeted`.
        targeted: Whether to move towards `labels` rather than away.

    Source: AdvGAN, section 3; the study, Eq. (6).
    """
    loss = classification_loss(labels, logits)
    return loss if targeted else -loss


def hinge_loss(perturbation, bound):
    """Soft hinge on the L2 norm of a perturbation.

    max(0, ||perturbation||_2 - c)

    Args:
        perturbation: `(batch, height, width, channels)`.
        bound: c >= 0, in the L2 norm over one image.

    Source: AdvGAN, Eq. (3); the study, Eq. (7).
    """
    _check_rank(4, perturbation=perturbation)
    # sqrt has no finite slope at 0, where an untrained generator may well start.
    norm = ops.sqrt(_sum_per_example(ops.square(perturbation)) + keras.config.epsilon() ** 2)
    return ops.maximum(norm - bound, 0.0)


def log_loss(logits, is_real):
    """The discriminator's logistic loss on one kind of image.

    -log sigmoid(logits) for real, -log(1 - sigmoid(logits)) for fake = softplus(-+logits)

    Args:
        logits: `(batch,)`.
        is_real: Python bool: what the loss wants the images to be taken for.

    Source: Goodfellow et al. 2014, the non-saturating form; AdvGAN, Eq. (1).
    """
    _check_rank(1, logits=logits)
    return ops.softplus(-logits if is_real else logits)


def least_squares_loss(logits, is_real):
    """The discriminator's least-squares loss on one kind of image.

    (logits - 1)^2 for real, logits^2 for fake

    Args:
        logits: `(batch,)`.
        is_real: Python bool: what the loss wants the images to be taken for.

    Source: Mao et al. 2017, Eq. (2), a = 0, b = c = 1; AdvGAN, section 4.
    """
    _check_rank(1, logits=logits)
    return ops.square(logits - (1.0 if is_real else 0.0))


def wasserstein_loss(scores, is_real):
    """The critic's score with the sign that is to be minimised.

    -D(x) for real, D(x) for fake

    Args:
        scores: `(batch,)`.
        is_real: Python bool: what the loss wants the images to be taken for.

    Source: Gulrajani et al. 2017, Eq. (3).
    """
    _check_rank(1, scores=scores)
    return -scores if is_real else scores


def gradient_penalty(gradients):
    """Distance of the critic's gradient norm from one.

    (||grad D(x)||_2 - 1)^2

    Args:
        gradients: `(batch, height, width, channels)` of the critic at interpolated images.

    Source: Gulrajani et al. 2017, Eq. (3).
    """
    _check_rank(4, gradients=gradients)
    norm = ops.sqrt(_sum_per_example(ops.square(gradients)) + keras.config.epsilon() ** 2)
    return ops.square(norm - 1.0)


def projection_error(images, reconstructions):
    """What DefenseGAN descends and what the nearest candidate is chosen by.

    mean over pixels of (x' - x)^2; its square root is the RMSE

    Args:
        images: `(batch, height, width, channels)`.
        reconstructions: The same shape.

    Source: DefenseGAN, Eq. (4), as a mean over pixels so that one step size fits all image sizes.
    """
    _check_same_shape(images=images, reconstructions=reconstructions)
    squared = ops.square(reconstructions - images)
    return ops.mean(squared, axis=tuple(range(1, len(squared.shape))))
