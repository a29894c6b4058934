"""The layers that more than one model is built from."""

import math

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from tfpurify.models.image_sizes import doublings


@keras.saving.register_keras_serializable("tfpurify")
class BatchNormalization(layers.BatchNormalization):
    """Keras's batch normalisation of images, by TensorFlow's fused kernel.

    Same weights and outputs as Keras's layer, whose separate mean, variance and affine steps cost
    as much as VGG13's convolutions on a CPU. The moving variance takes the unbiased estimate.

    Input: `(batch, height, width, channels)`, float32 or bfloat16.
    """

    def call(self, inputs, training=None, mask=None):
        is_training = bool(training and self.trainable)
        statistics = () if is_training else (self.moving_mean, self.moving_variance)
        mean, variance = (ops.cast(value, "float32") for value in statistics or ([], []))
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=ops.cast(self.gamma, "float32"),
            offset=ops.cast(self.beta, "float32"),
            mean=mean,
            variance=variance,
            epsilon=self.epsilon,
            is_training=is_training,
        )
        if is_training:
            for moving, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
                moving.assign(moving * self.momentum + value * (1.0 - self.momentum))
        return outputs


@keras.saving.register_keras_serializable("tfpurify")
class Conv2D(layers.Conv2D):
    """Keras's convolution, on maps of at most 4 x 4 pixels as products of matrices.

    Same weights and outputs. On a CPU, TensorFlow's kernel for the weights' gradient runs at a
    fifth of the rate of a product where maps are small and channels many, as at VGG13's end.

    Args: as Keras's; `strides` and `dilation_rate` are 1, `groups` is 1 and `padding` is `same`.
    """

    def __init__(self, filters, kernel_size, strides=1, padding="same", **kwargs):
        super().__init__(filters, kernel_size, strides, padding, **kwargs)
        found = (self.strides, self.dilation_rate, self.groups, self.padding)
        if found != ((1, 1), (1, 1), 1, "same"):
            raise ValueError(
                "`strides`, `dilation_rate` and `groups` must be 1 and `padding` 'same'. "
                f"Received: (strides, dilation_rate, groups, padding)={found}"
            )

    def call(self, inputs):
        height, width, channels = inputs.shape[1:]
        if height * width > 16:
            return super().call(inputs)
        # The patches are gathered by a product, because then their gradient is a product too.
        gather = ops.cast(_patch_matrix(height, width, self.kernel_size), self.compute_dtype)
        patches = ops.matmul(gather, ops.reshape(inputs, (-1, height * width, channels)))
        patches = ops.reshape(patches, (-1, math.prod(self.kernel.shape[:3])))
        kernel = ops.reshape(self.kernel, (-1, self.filters))
        outputs = ops.reshape(ops.matmul(patches, kernel), (-1, height, width, self.filters))
        return self.activation(ops.add(outputs, self.bias) if self.use_bias else outputs)


def _patch_matrix(height, width, kernel_size):
    """Returns the matrix that gathers, for each pixel, the pixels that the kernel covers there.

    There is one row for each pixel and each place of the kernel, `(pixels * places, pixels)`. It
    holds a 1 at the pixel which lies under that place when the kernel's centre lies on the pixel,
    and zeros alone where that would be outside the image.
    """
    pixels = np.eye(height * width).reshape(height, width, -1)
    padding = [((size - 1) // 2, size // 2) for size in kernel_size]
    pixels = np.pad(pixels, [*padding, (0, 0)])
    patches = np.lib.stride_tricks.sliding_window_view(pixels, kernel_size, axis=(0, 1))
    return np.moveaxis(patches, 2, -1).reshape(-1, height * width)


@keras.saving.register_keras_serializable("tfpurify")
class Conv2DTranspose(layers.Conv2DTranspose):
    """Keras's transposed convolution of stride 2, as a plain convolution.

    A transposed convolution of stride 2 doubles height and width: where there was one pixel there
    are 2 x 2. The plain convolution computes these four as four times as many channels of the
    small image, and `depth_to_space` spreads them out.

    Same weights and outputs. TensorFlow's own kernel takes three times as long on a CPU where there
    are only an image's channels to make, and half as long again on 4 x 4 places; on larger maps of
    many channels it is as fast, and the faster one in training.

    Args: as Keras's, with `kernel_size` and `filters`; `strides` is 2 and `padding` is `same`.
    """

    def __init__(self, filters, kernel_size, strides=2, padding="same", **kwargs):
        super().__init__(filters, kernel_size, strides, padding, **kwargs)
        if self.strides != (2, 2) or self.padding != "same" or self.kernel_size[0] < 2:
            raise ValueError(
                "`strides` must be 2, `padding` 'same' and `kernel_size` >= 2. Received: "
                f"strides={strides}, padding={padding!r}, kernel_size={kernel_size}"
            )

    def call(self, inputs):
        (before, after), kernel_rows = _as_plain_convolution(self.kernel_size[0])
        # One row and column of zeros more, for what `kernel_rows` has no row for.
        kernel = plain_kernel(ops.pad(self.kernel, [[0, 1], [0, 1], [0, 0], [0, 0]]), kernel_rows)
        padded = ops.pad(inputs, [[0, 0], [before, after], [before, after], [0, 0]])
        outputs = tf.nn.depth_to_space(tf.nn.conv2d(padded, kernel, 1, "VALID"), 2)
        return self.activation(ops.add(outputs, self.bias) if self.use_bias else outputs)


def plain_kernel(kernel, kernel_rows):
    """Returns a transposed convolution's kernel as that of a plain one, which makes 2 x 2 pixels.

    Args:
        kernel: `(size, size, filters, channels)`.
        kernel_rows: Two lists, for the upper and the lower of the two rows that are made: for each
            input row that the plain convolution sees, the row of `kernel` that multiplies it.
            Columns are treated alike.

    Returns:
        `(rows, rows, channels, 2 * 2 * filters)`, for `depth_to_space`.
    """
    rows, (_, _, filters, channels) = len(kernel_rows[0]), kernel.shape
    for axis in (0, 2):
        kernel = ops.take(kernel, kernel_rows, axis=axis)
    kernel = ops.transpose(kernel, (1, 3, 5, 0, 2, 4))
    return ops.reshape(kernel, (rows, rows, channels, 4 * filters))


def _as_plain_convolution(kernel_size):
    """Returns what makes the two output rows 2m and 2m + 1, for any m.

    The transposed convolution adds input row i times kernel row k to output row 2i + k - padding.
    Read from the output's side: row 2m + p, with p = 0 or 1, is the sum over d of input row m + d
    times kernel row k = p - 2d + padding, wherever the kernel has such a row.

    Returns:
        `((before, after), kernel_rows)`: how many input rows before m and after m are needed, and
        for p = 0 and p = 1 the k of each of them, from m - before to m + after. `kernel_size`
        stands where the kernel has no such row.
    """
    padding, sizes = (kernel_size - 2) // 2, range(kernel_size)
    first = -((kernel_size - padding - 1) // 2)  # the least d and the greatest with a row at all
    offsets = range(first, (padding + 1) // 2 + 1)
    kernel_rows = [
        [row if (row := p - 2 * d + padding) in sizes else kernel_size for d in offsets]
        for p in range(2)
    ]
    return (-offsets[0], offsets[-1]), kernel_rows


def instance_normalization():
    """Returns a layer that normalises each channel of each image over its pixels.

    Source: Ulyanov et al. 2016, Eq. (4); a group normalisation with one channel a group.
    """
    return layers.GroupNormalization(groups=-1)


def strided_discriminator_layers(filters, normalization, image_shape):
    """Yields the layers of a discriminator: 4 x 4 convolutions of stride 2 down to one logit.

    Args:
        filters: The convolutions' filters, first to last; of images above 32 x 32 the last again,
            once for each doubling.
        normalization: Function that returns a normalisation layer, used after every convolution
            but the first, or None for no normalisation at all.
        image_shape: `(height, width, channels)`.

    Source: Radford et al. 2016, section 3.
    """
    filters = [*filters, *[filters[-1]] * doublings(image_shape)]
    for index, width in enumerate(filters):
        yield layers.Conv2D(width, 4, 2, padding="same")
        if normalization is not None and index > 0:
            yield normalization()
        yield layers.LeakyReLU(negative_slope=0.2)
    yield layers.Flatten()
    yield layers.Dense(1, dtype="float32")
