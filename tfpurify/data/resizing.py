"""Images as bytes, resized."""

import numpy as np


def resized(images, size):
    """Returns uint8 images `(n, *size, channels)`; as they are if `size` is None.

    As Keras's reader of folders does it: bilinear, not smoothed before, rounded at the end.

    Args:
        images: uint8 `(n, height, width, channels)`.
        size: `(height, width)` or None.
    """
    if size is None or tuple(images.shape[1:3]) == tuple(size):
        return images
    batches = np.array_split(images, max(1, len(images) // 256))
    return np.concatenate([resize(batch, size).numpy() for batch in batches])


def resize(images, size):
    """Returns a uint8 tensor, in a graph too.

    Args:
        images: uint8 `(height, width, channels)`, or a batch of them.
        size: `(height, width)`.
    """
    import tensorflow as tf

    floats = tf.image.resize(images, size)
    return tf.cast(tf.clip_by_value(tf.round(floats), 0, 255), tf.uint8)
