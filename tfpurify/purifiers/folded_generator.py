"""A trained generator, rewritten so that its value and its gradient cost as little as they can."""

import math

import numpy as np
import tensorflow as tf

from tfpurify.models.layers import plain_kernel

# A transposed 4 x 4 convolution of stride 2 is a plain 2 x 2 one that makes 2 x 2 pixels: from the
# input rows m - 1 and m the output rows 2m - 1 and 2m. For each of the two that are made: the
# kernel's rows that multiply the two that are seen.
_KERNEL_ROWS = np.array([[2, 0], [3, 1]])
_OUTSIDE = -1e9  # bias of made rows and columns outside the image: ReLU gives 0, its gradient too


class FoldedGenerator:
    """`Generator` with fixed weights: batch normalisation folded, no transposed convolution.

    Same function as `Generator` in inference, up to rounding. Value and gradient together take
    about three quarters of the time that TensorFlow's tape takes through the Keras layers.

    Args:
        dense: `(kernel, bias)`, `(latent_dim, rows * columns * filters)`.
        transposed: `(kernel, bias)` of each transposed convolution, batch normalisation folded.
        convolution: `(kernel, bias)` of the last, 4 x 4.
        image_shape: `(height, width, channels)`.
        grid: `(rows, columns)` before the transposed convolutions.
    """

    def __init__(self, dense, transposed, convolution, image_shape, grid):
        self.image_shape, self.grid = image_shape, grid
        self.dense_kernel, self.dense_bias = dense
        self.kernels = [plain_kernel(kernel, _KERNEL_ROWS) for kernel, _ in transposed]
        self.biases = [
            _as_window_bias(bias, [size * 2**index for size in grid])
            for index, (_, bias) in enumerate(transposed)
        ]
        self.kernels.append(_as_block_kernel(convolution[0]))
        self.last_bias = convolution[1]
        # Blocks of 2 x 2 pixels that start at row -1. Where the crop leaves out an edge block on
        # each side, it is not computed.
        self._made = [size * 2 ** len(transposed) for size in grid]
        margins = [made - size for made, size in zip(self._made, image_shape[:2], strict=True)]
        offsets = [margin // 2 for margin in margins]
        ends = [margin - offset for margin, offset in zip(margins, offsets, strict=True)]
        self._block_padding = 0 if min(*offsets, *ends) >= 1 else 1
        self._crop = [offset - 1 + 2 * self._block_padding for offset in offsets]

    def __call__(self, z):
        """Returns the images of z `(batch, latent_dim)`, in [0, 1]."""
        return tf.sigmoid(self._forward(z)[0])

    def errors_and_gradient(self, z, images):
        """Returns what a descent needs.

        Args:
            z: `(batch, latent_dim)`.
            images: `(batch, height, width, channels)`.

        Returns:
            `(errors, gradient, generated)`: the mean over pixels of (G(z) - x)^2 `(batch,)`, its
            gradient `(batch, latent_dim)` and G(z).
        """
        logits, activations = self._forward(z)
        generated = tf.sigmoid(logits)
        residual = generated - images
        slope = generated * (1.0 - generated)
        gradient = self._backward(activations, residual * slope * (2.0 / np.prod(images.shape[1:])))
        return tf.reduce_mean(tf.square(residual), axis=(1, 2, 3)), gradient, generated

    def curvature(self, z):
        """Returns the mean over a batch of J^T J / pixels, `(latent_dim, latent_dim)`.

        Args:
            z: `(batch, latent_dim)`; J is the Jacobian of G there.
        """
        logits, activations = self._forward(z)
        slope = tf.math.sigmoid(logits) * (1.0 - tf.math.sigmoid(logits))

        def column(direction):
            tangents = tf.broadcast_to(direction, tf.shape(z))
            return tf.reshape(slope * self._push(activations, tangents), (-1,))

        columns = tf.map_fn(column, tf.eye(z.shape[1]))
        return columns @ tf.transpose(columns) / tf.cast(tf.shape(columns)[1], tf.float32)

    def _forward(self, z):
        """Returns the logits of the images and each layer's output after its ReLU."""
        outputs = tf.nn.relu(z @ self.dense_kernel + self.dense_bias)
        activations = [outputs]
        outputs = self._as_image(outputs)
        for index, (kernel, bias) in enumerate(zip(self.kernels[:-1], self.biases, strict=True)):
            if index:
                outputs = tf.nn.depth_to_space(outputs, 2)
            outputs = tf.nn.relu(tf.nn.conv2d(outputs, kernel, 1, "VALID") + bias)
            activations.append(outputs)
        return self._last(outputs) + self.last_bias, activations

    def _push(self, activations, tangents):
        """Returns the logits' derivative along `tangents`, one direction in z an image."""
        outputs = _through_relu(tangents @ self.dense_kernel, activations[0])
        outputs = self._as_image(outputs)
        for index, kernel in enumerate(self.kernels[:-1]):
            if index:
                outputs = tf.nn.depth_to_space(outputs, 2)
            outputs = tf.nn.conv2d(outputs, kernel, 1, "VALID")
            outputs = _through_relu(outputs, activations[index + 1])
        return self._last(outputs)

    def _backward(self, activations, upstream):
        """Returns the gradient with respect to z of sum(upstream * logits)."""
        height, width = self.image_shape[:2]
        rows, columns = (made + 2 - 4 * (1 - self._block_padding) for made in self._made)
        top, left = self._crop
        margins = [[0, 0], [top, rows - height - top], [left, columns - width - left], [0, 0]]
        outputs = tf.nn.space_to_depth(tf.pad(upstream, margins), 2)
        outputs = _convolve_back(outputs, self.kernels[-1], 2 - self._block_padding)
        for index in range(len(self.kernels) - 2, -1, -1):
            outputs = _through_relu(outputs, activations[index + 1])
            # Of the first layer's padded places only the inner ones have a gradient.
            outputs = _convolve_back(outputs, self.kernels[index], 1 if index else 0)
            if index:
                outputs = tf.nn.space_to_depth(outputs, 2)
        outputs = tf.reshape(outputs, (-1, self.dense_kernel.shape[1]))
        outputs = _through_relu(outputs, activations[0])
        return tf.matmul(outputs, self.dense_kernel, transpose_b=True)

    def _as_image(self, outputs):
        outputs = tf.reshape(outputs, (-1, *self.grid, outputs.shape[1] // math.prod(self.grid)))
        return _pad(outputs, 1)

    def _last(self, outputs):
        blocks = tf.nn.conv2d(_pad(outputs, self._block_padding), self.kernels[-1], 1, "VALID")
        (top, left), (height, width, _) = self._crop, self.image_shape
        pixels = tf.nn.depth_to_space(blocks, 2)
        return pixels[:, top : top + height, left : left + width]


def _pad(outputs, margin):
    return tf.pad(outputs, [[0, 0], [margin, margin], [margin, margin], [0, 0]])


def _through_relu(derivative, activation):
    return tf.raw_ops.ReluGrad(gradients=derivative, features=activation)


def _convolve_back(upstream, kernel, margin):
    """Returns the gradient with respect to a convolution's input, itself as a convolution."""
    flipped = tf.transpose(kernel[::-1, ::-1], (0, 1, 3, 2))
    return tf.nn.conv2d(_pad(upstream, margin), flipped, 1, "VALID")


def _as_window_bias(bias, size):
    """Returns a bias for each place: what lies outside twice `size` pixels is put out."""
    rows, columns = (np.zeros((one + 1, 2), bool) for one in size)
    for outside in (rows, columns):
        outside[0, 0] = outside[-1, 1] = True
    is_outside = rows[:, None, :, None] | columns[None, :, None, :]
    places = tf.where(is_outside[..., None], _OUTSIDE, bias)
    return tf.reshape(places, (1, len(rows), len(columns), 4 * bias.shape[0]))


def _as_block_kernel(kernel):
    """Returns (4, 4, in, out) of a convolution as one from 2 x 2 blocks to 2 x 2 blocks."""
    # Counted from the first row of the block before, made row p is row p + 2, and its tap t reads
    # row p + 1 + t.
    choice = np.zeros((3, 2, 2, 4), np.float32)  # block, row in it, made row, tap
    for made in range(2):
        for tap in range(4):
            row = made + 1 + tap
            choice[row // 2, row % 2, made, tap] = 1.0
    blocks = tf.einsum("bpmt,cqnu,tuio->bcpqimno", choice, choice, kernel)
    _, _, in_channels, out = kernel.shape
    return tf.reshape(blocks, (3, 3, 4 * in_channels, 4 * out))
