"""The convolutions of PuVAE's two ends; their number follows from the images' size."""

import math

from keras import layers

from tfpurify.models.image_sizes import doublings, first_grid
from tfpurify.models.layers import BatchNormalization, Conv2DTranspose

_FILTERS, _KERNEL_SIZE = 32, 7


def encoder_layers(image_shape, batch_normalization):
    """Yields the layers from images to features: three dilated convolutions.

    Before them stands a convolution of stride 2 for each doubling above 32 x 32.

    Args:
        image_shape: `(height, width, channels)`.
        batch_normalization: Whether each convolution is batch normalised.
    """
    extra = doublings(image_shape)
    for options in [{"strides": 2}] * extra + [{"dilation_rate": 2}] * 3:
        if batch_normalization:
            yield layers.Conv2D(_FILTERS, _KERNEL_SIZE, padding="same", use_bias=False, **options)
            yield BatchNormalization()
            yield layers.ReLU()
        else:
            yield layers.Conv2D(
                _FILTERS, _KERNEL_SIZE, padding="same", activation="relu", **options
            )


def num_features(image_shape):
    """Returns how many features `encoder_layers` makes of an image."""
    scale = 2 ** doublings(image_shape)
    return _FILTERS * math.prod(math.ceil(size / scale) for size in image_shape[:2])


def decoder_layers(image_shape):
    """Yields the layers from a code and a label to an image's logits: doublings, then a crop.

    Args:
        image_shape: `(height, width, channels)`.
    """
    height, width, channels = image_shape
    grid = first_grid(image_shape)
    yield layers.Dense(math.prod(grid) * _FILTERS, activation="relu")
    yield layers.Reshape((*grid, _FILTERS))
    yield Conv2DTranspose(_FILTERS, _KERNEL_SIZE, activation="relu")
    for _ in range(1 + doublings(image_shape)):
        yield layers.Conv2DTranspose(_FILTERS, _KERNEL_SIZE, 2, padding="same", activation="relu")
    yield Conv2DTranspose(channels, _KERNEL_SIZE)
    yield layers.CenterCrop(height, width)
