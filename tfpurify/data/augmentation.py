"""Random changes of a whole batch, drawn from a stateless seed: projective transforms, noise."""

import math

import tensorflow as tf

MAX_SHIFT = 2.0  # pixels
MAX_ROTATION = math.radians(10)
MAX_SCALING = 0.1
PADDING = 4  # pixels


def augment(images, kind, seed):
    """Augments a batch; the same seed gives the same images.

    Args:
        images: uint8 or float32 (B, H, W, C).
        kind: None; "shift" (translation up to 2 pixels, rotation up to 10 degrees and scale up to
            10 %, bilinear: digits); "flip" (from left to right in half of the images); "crop_flip"
            (pad by 4 and crop back, then "flip").
        seed: int tensor (2,).

    Returns:
        Images of the same shape, dtype and range; what comes from outside the image is 0.
    """
    if kind is None:
        return images
    height, width = images.shape[1:3]
    count = tf.shape(images)[0]
    if kind == "shift":
        return _transform(images, _shifts(count, height, width, seed), "BILINEAR")
    padding = PADDING if kind == "crop_flip" else 0
    return _transform(images, _crops(count, width, seed, padding), "NEAREST")


def add_noise(images, bound, period, seed):
    """Adds uniform noise whose bound each image draws between 0 and `bound`.

    Args:
        images: float32 (B, H, W, C) in [0, 1].
        bound: Largest bound, >= 0.
        period: Side of a square that half of the images repeat as their noise, in pixels; None:
            none does.
        seed: int tensor (2,).

    Returns:
        Images of the same shape, clipped to [0, 1].
    """
    height, width = images.shape[1:3]
    one_an_image = (tf.shape(images)[0], 1, 1, 1)
    seeds = [tf.random.fold_in(seed, stream) for stream in range(3)]
    noise = tf.random.stateless_uniform(tf.shape(images), seeds[0], -1.0, 1.0)
    if period:
        square = noise[:, :period, :period]
        repeated = tf.tile(square, (1, -(-height // period), -(-width // period), 1))
        is_repeated = tf.random.stateless_uniform(one_an_image, seeds[1]) < 0.5
        noise = tf.where(is_repeated, repeated[:, :height, :width], noise)
    bounds = tf.random.stateless_uniform(one_an_image, seeds[2], 0.0, bound)
    return tf.clip_by_value(images + bounds * noise, 0.0, 1.0)


def _transform(images, rows, interpolation):
    """Output pixel (x, y) is input pixel (a0 x + a1 y + a2, b0 x + b1 y + b2), rows (a, b)."""
    zeros = tf.zeros_like(rows[0])
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=tf.stack([*rows, zeros, zeros], axis=1),
        output_shape=tf.shape(images)[1:3],
        fill_value=0.0,
        interpolation=interpolation,
        fill_mode="CONSTANT",
    )


def _shifts(count, height, width, seed):
    uniform = tf.random.stateless_uniform([4, count], seed, -1.0, 1.0)
    shift_x, shift_y = MAX_SHIFT * uniform[0], MAX_SHIFT * uniform[1]
    angle, scale = MAX_ROTATION * uniform[2], 1.0 + MAX_SCALING * uniform[3]
    cos, sin = tf.cos(angle) / scale, tf.sin(angle) / scale
    center_x, center_y = (width - 1) / 2, (height - 1) / 2
    # The image's centre goes to the centre plus the shift.
    from_x, from_y = center_x + shift_x, center_y + shift_y
    offset_x = center_x - cos * from_x + sin * from_y
    offset_y = center_y - sin * from_x - cos * from_y
    return cos, -sin, offset_x, sin, cos, offset_y


def _crops(count, width, seed, padding):
    uniform = tf.random.stateless_uniform([3, count], seed)
    crop_x, crop_y = (tf.floor(uniform[i] * (2 * padding + 1)) - padding for i in (0, 1))
    flipped = tf.cast(uniform[2] < 0.5, tf.float32)
    ones, zeros = tf.ones_like(crop_x), tf.zeros_like(crop_x)
    # A flip reads column (width - 1) - x.
    return 1.0 - 2.0 * flipped, zeros, crop_x + flipped * (width - 1), zeros, ones, crop_y
