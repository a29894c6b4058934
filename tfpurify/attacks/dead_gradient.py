"""Where on its way back from the logits a gradient dies."""

import contextlib
import re

import numpy as np
import tensorflow as tf

from tfpurify.models.losses import UNSATURATED, margin_loss

# What `require_gradient` says, inside the trace that TensorFlow puts around it.
_GRADIENT_MESSAGE = re.compile(r"The gradient through [^\[\]]+")


@contextlib.contextmanager
def explain_dead_gradient(target, images, labels):
    """Wraps an attack: if `losses.require_gradient` stops it, the error names the layer, too.

    Args: as for `where_it_dies`.

    Raises:
        ValueError: What `require_gradient` said, and where the gradient died. It replaces
            TensorFlow's error of many lines.
    """
    try:
        yield
    except (tf.errors.InvalidArgumentError, ValueError) as error:
        message = _GRADIENT_MESSAGE.search(str(error))
        if message is None:
            raise
        place = where_it_dies(target, images, labels)
        raise ValueError(f"{message.group().strip()}; it died {place}") from error


def gradient_norms(target, images, labels):
    """Returns the L2 norms of the margin's gradient at each image, `(batch,)`.

    A gradient counts as 0 where the margin, followed along it from one end of [0, 1] to the other
    in every pixel, would change by less than float32 rounds the logits: its signs are noise.

    Args: as for `where_it_dies`.
    """
    images = tf.convert_to_tensor(images)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(images)
        logits = tf.cast(target(images), tf.float32)
        margin = margin_loss(logits, tf.cast(labels, tf.int64), kappa=UNSATURATED)
    gradient = tape.gradient(margin, images)
    if gradient is None:
        return np.zeros(len(images), np.float32)
    change = tf.reduce_sum(tf.abs(gradient), axis=(1, 2, 3))
    rounding = tf.reduce_max(tf.abs(logits), axis=1) * np.finfo(np.float32).eps
    norms = tf.sqrt(tf.reduce_sum(tf.square(gradient), axis=(1, 2, 3)))
    return tf.where(change <= rounding, 0.0, norms).numpy()


def where_it_dies(target, images, labels):
    """Returns, in words, which layer the margin's gradient does not come back through.

    Goes back through the classifier's layers, from the logits to its input, at the given images.
    Where all of them let the gradient through and there is a purifier, that is the one.

    Args:
        target: Callable, images -> logits: a classifier, or one with a `purifier` and a
            `classifier`. Of any other only the whole can be named.
        images: `(batch, height, width, channels)` in [0, 1].
        labels: True labels `(batch,)`.
    """
    purifier, mode = (getattr(target, name, None) for name in ("purifier", "gradient_mode"))
    if mode == "selection":  # in which the classifier takes no part
        return f"in the purifier {purifier.name} (gradient mode {mode})"
    classifier = target if purifier is None else target.classifier
    layers = getattr(getattr(classifier, "stack", None), "layers", None)
    if layers is None:
        return f"in {getattr(classifier, 'name', 'the target')}, whose layers are not known"
    inputs = tf.convert_to_tensor(images if purifier is None else purifier(images))
    outputs = [inputs]
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(inputs)
        for layer in layers:
            outputs.append(layer(outputs[-1], training=False))
            tape.watch(outputs[-1])  # what stands behind a layer that lets nothing through
        logits = tf.cast(outputs[-1], tf.float32)
        total = tf.reduce_sum(margin_loss(logits, tf.cast(labels, tf.int64), UNSATURATED))
    alive = [_is_alive(gradient) for gradient in tape.gradient(total, outputs)]
    if not alive[-1]:
        return f"in the loss, at the logits of {classifier.name}"
    for layer, is_alive in zip(reversed(layers), reversed(alive[:-1]), strict=True):
        if not is_alive:
            return f"in the layer {layer.name} of {classifier.name}"
    if purifier is None:
        return f"not in the layers of {classifier.name} at these images"
    return f"in the purifier {purifier.name} (gradient mode {mode or 'exact'})"


def _is_alive(gradient):
    if gradient is None:
        return False
    return bool(tf.reduce_all(tf.math.is_finite(gradient)) & tf.reduce_any(gradient != 0))
