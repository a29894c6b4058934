"""Classifiers: images -> logits, trained on clean images and never changed afterwards."""

import keras
from keras import layers

from tfpurify.arguments import require_one_of
from tfpurify.models.base import ImageStack, Pretrained
from tfpurify.models.layers import BatchNormalization, Conv2D
from tfpurify.vocabulary import CLASSIFIERS


class Classifier(Pretrained, ImageStack):
    """Base of the classifiers: one stack of layers from images to logits.

    Args:
        image_shape: `(height, width, channels)`.
        num_classes: Number of logits.

    Input: images `(batch, height, width, channels)` in [0, 1]. Output: logits
    `(batch, num_classes)`.
    """

    def __init__(self, image_shape, num_classes=10, **kwargs):
        super().__init__(**kwargs)
        self.image_shape = tuple(image_shape)
        self.num_classes = num_classes
        # Logits stay float32 under mixed precision: a margin of bfloat16 logits is too coarse.
        self.stack = keras.Sequential(
            [*self.hidden_layers(), layers.Dense(num_classes, dtype="float32", name="logits")],
            name="stack",
        )

    def hidden_layers(self):
        """Returns the layers between the images and the logits."""
        raise NotImplementedError


@keras.saving.register_keras_serializable("tfpurify")
class CNN(Classifier):
    """The study's classifier for MNIST and Fashion-MNIST.

    conv3-32, conv3-32, max pool, conv3-64, conv3-64, max pool, dense.

    Differs from the study: batch normalisation after each convolution and dropout before the dense
    layer, because the study's 99.5 % is hard to reach without them. `Classifier` gives the rest.

    Source: the study, section 3.1.1.
    """

    def hidden_layers(self):
        for filters in (32, 64):
            for _ in range(2):
                yield from _normalised_conv(filters)
            yield layers.MaxPooling2D(2)
        yield layers.Flatten()
        yield layers.Dropout(0.4)


@keras.saving.register_keras_serializable("tfpurify")
class VGG13(Classifier):
    """VGG configuration B for 32 x 32 images.

    Two 3 x 3 convolutions of 64, 128, 256, 512 and 512 filters, each pair followed by a pool.

    Differs from the paper: batch normalisation, and one dense layer instead of three, as is usual
    for 32 x 32 inputs.

    Source: Simonyan and Zisserman 2015, Table 1, column B.
    """

    def hidden_layers(self):
        for filters in (64, 128, 256, 512, 512):
            for _ in range(2):
                yield from _normalised_conv(filters)
            yield layers.MaxPooling2D(2, padding="same")
        yield layers.Flatten()
        yield layers.Dropout(0.5)


def _normalised_conv(filters):
    yield Conv2D(filters, 3, use_bias=False)
    yield BatchNormalization()
    yield layers.ReLU()


class _StridedClassifier(Classifier):
    """The A to D networks: three or two strided convolutions and dense layers.

    Source: the networks A to D of the PuVAE paper's supplementary site.
    """

    convolutions = ()  # (filters, kernel, stride)
    dense_units = ()
    first_dropout = 0.25

    def hidden_layers(self):
        for filters, kernel, stride in self.convolutions:
            yield layers.Conv2D(filters, kernel, stride, padding="same", activation="relu")
        yield layers.Dropout(self.first_dropout)
        yield layers.Flatten()
        for index, units in enumerate(self.dense_units):
            yield layers.Dense(units, activation="relu")
            if index == 0:
                yield layers.Dropout(0.5)


@keras.saving.register_keras_serializable("tfpurify")
class NetworkA(_StridedClassifier):
    """64 x 5, 64 x 5 stride 2, dense 128."""

    convolutions = ((64, 5, 1), (64, 5, 2))
    dense_units = (128,)


@keras.saving.register_keras_serializable("tfpurify")
class NetworkB(_StridedClassifier):
    """128 x 3, 64 x 3 stride 2, dense 128."""

    convolutions = ((128, 3, 1), (64, 3, 2))
    dense_units = (128,)


@keras.saving.register_keras_serializable("tfpurify")
class NetworkC(_StridedClassifier):
    """64 x 5, 128 x 5, 256 x 5 stride 2, dense 512 and 256; meant for CIFAR-10."""

    convolutions = ((64, 5, 1), (128, 5, 1), (256, 5, 2))
    dense_units = (512, 256)


@keras.saving.register_keras_serializable("tfpurify")
class NetworkD(_StridedClassifier):
    """128 x 3, 256 x 3, 512 x 3 stride 2, dense 512; meant for CIFAR-10."""

    convolutions = ((128, 3, 1), (256, 3, 1), (512, 3, 2))
    dense_units = (512,)


_CLASSES = dict(zip(CLASSIFIERS, (CNN, VGG13, NetworkA, NetworkB, NetworkC, NetworkD), strict=True))


def build_classifier(name, spec):
    """Returns a built classifier.

    Args:
        name: One of `cnn`, `vgg13`, `a`, `b`, `c`, `d`.
        spec: A `DatasetSpec`; its `image_shape` and `num_classes` are used.

    Raises:
        ValueError: If `name` is unknown.
    """
    require_one_of(_CLASSES, name=name)
    classifier = _CLASSES[name](spec.image_shape, spec.num_classes, name=name)
    classifier.build()
    return classifier
