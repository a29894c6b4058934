"""The generator of AdvGAN: images to perturbations."""

import keras
from keras import layers, ops

from tfpurify.models.base import ImageStack
from tfpurify.models.image_sizes import doublings
from tfpurify.models.layers import instance_normalization


@keras.saving.register_keras_serializable("tfpurify")
class PerturbationGenerator(ImageStack):
    """Images -> perturbations in [-1, 1].

    Five convolutions with instance normalisation down to a quarter of the size and
    `bottleneck_channels` channels, five upsampling stages with instance normalisation back, and an
    output convolution with tanh.

    Differs from the study: two of the five stages halve the size, not all, because instance
    normalisation over a 1 x 1 map erases its input.

    Args:
        image_shape: `(height, width, channels)`. Images whose height or width is no multiple of 4
            are mirrored at their edges up to one, and what is made is cut back.
        bottleneck_channels: 32 for MNIST and Fashion-MNIST, 96 for CIFAR-10.
        width: Channels of the first convolution; the middle ones have up to four times as many.

    Source: the study, section 3.1.4.
    """

    def __init__(self, image_shape, bottleneck_channels=32, width=16, **kwargs):
        super().__init__(**kwargs)
        self.image_shape = tuple(image_shape)
        doublings(self.image_shape)  # refuses what is too large
        self.bottleneck_channels = bottleneck_channels
        self.width = width
        down = ((width, 1), (2 * width, 2), (4 * width, 2), (4 * width, 1))
        up = ((4 * width, 1), (4 * width, 1), (4 * width, 2), (2 * width, 2), (width, 1))
        stack = []
        for filters, stride in (*down, (bottleneck_channels, 1)):
            stack += [layers.Conv2D(filters, 3, stride, padding="same", use_bias=False)]
            stack += [instance_normalization(), layers.ReLU()]
        for filters, stride in up:
            stack += [layers.Conv2DTranspose(filters, 3, stride, padding="same", use_bias=False)]
            stack += [instance_normalization(), layers.ReLU()]
        stack += [
            layers.Conv2D(self.image_shape[-1], 3, padding="same"),
            layers.Activation("tanh", dtype="float32"),
        ]
        self.stack = keras.Sequential(stack, name="stack")

    def call(self, images, training=False):
        height, width, _ = self.image_shape
        if height % 4 == 0 and width % 4 == 0:
            return super().call(images, training=training)
        margins = [[0, 0], [0, -height % 4], [0, -width % 4], [0, 0]]
        perturbations = super().call(ops.pad(images, margins, "symmetric"), training=training)
        return perturbations[:, :height, :width]

    def build(self, input_shape=None):
        height, width, channels = self.image_shape
        self.stack.build((None, height + -height % 4, width + -width % 4, channels))
        self.built = True
