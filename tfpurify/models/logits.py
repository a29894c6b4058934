"""What a classifier must return: logits. Probabilities in their place break every attack."""

import weakref

import keras
import numpy as np
import tensorflow as tf

_seen = weakref.WeakSet()


def are_probabilities(values):
    """Says whether all rows `(batch, num_classes)` lie in [0, 1] and sum to 1."""
    values = np.asarray(values, np.float64)
    if values.ndim != 2 or values.shape[1] < 2:
        return False
    is_in_range = values.min() >= 0 and values.max() <= 1
    return bool(is_in_range and np.all(np.abs(values.sum(axis=1) - 1.0) < 1e-2))


def require_logits(classifier, image_shape):
    """Refuses a classifier that returns probabilities; looks at each once, on random images.

    A softmax of a softmax is nearly flat, and the gradient of one that is sure is zero: an attack
    on probabilities fails in silence, which reads as a strong defence.

    Args:
        classifier: Callable, images -> logits.
        image_shape: `(height, width, channels)`.

    Raises:
        ValueError: If its rows are probabilities; says what to do.
    """
    try:
        if classifier in _seen:
            return
        _seen.add(classifier)
    except TypeError:  # what cannot be referred to weakly is looked at each time
        pass
    with tf.init_scope():
        images = tf.random.stateless_uniform((4, *image_shape), seed=(0, 0))
        refuse_probabilities(logits_of(classifier, images))


def refuse_probabilities(values):
    """Refuses outputs that are probabilities.

    Raises:
        ValueError: If all rows lie in [0, 1] and sum to 1.
    """
    if are_probabilities(values):
        raise ValueError(
            "The classifier must return logits, and returns probabilities: wrap it in "
            "tfpurify.as_classifier(model, outputs='probabilities')"
        )


def logits_of(classifier, images):
    """Returns a classifier's float32 logits `(batch, num_classes)` in inference mode.

    Args:
        classifier: A Keras model or layer, or any callable, images -> logits.
        images: `(batch, height, width, channels)` in [0, 1].

    Raises:
        ValueError: If it returns a dictionary or a sequence.
    """
    if isinstance(classifier, keras.Layer):
        outputs = classifier(images, training=False)
    else:
        outputs = classifier(images)
    if isinstance(outputs, (dict, list, tuple)):
        raise ValueError(
            "The classifier must return one tensor of logits: name one with "
            "tfpurify.as_classifier(model, output_name=...). "
            f"Received: {sorted(outputs) if isinstance(outputs, dict) else len(outputs)}"
        )
    return tf.cast(outputs, tf.float32)
