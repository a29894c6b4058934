"""The six networks have the layers that their sources give and turn images into logits."""

import dataclasses

import keras
import numpy as np
import pytest
from keras import layers

from tfpurify.data.specs import DATASETS
from tfpurify.models.classifiers import build_classifier
from tfpurify.vocabulary import CLASSIFIERS

# (filters, kernel, stride) of the convolutions, then the dense layers' units.
ARCHITECTURES = {
    "cnn": ([(32, 3, 1)] * 2 + [(64, 3, 1)] * 2, [10]),
    "vgg13": (
        [(filters, 3, 1) for filters in (64, 64, 128, 128, 256, 256, 512, 512, 512, 512)],
        [10],
    ),
    "a": ([(64, 5, 1), (64, 5, 2)], [128, 10]),
    "b": ([(128, 3, 1), (64, 3, 2)], [128, 10]),
    "c": ([(64, 5, 1), (128, 5, 1), (256, 5, 2)], [512, 256, 10]),
    "d": ([(128, 3, 1), (256, 3, 1), (512, 3, 2)], [512, 10]),
}
SMALL = dataclasses.replace(DATASETS["mnist"], name="small", image_shape=(8, 8, 1))


@pytest.fixture
def zero_weights(monkeypatch):
    """Draws no random weights: network D has 68 million."""
    initializer = keras.initializers.GlorotUniform
    monkeypatch.setattr(
        initializer, "__call__", lambda self, shape, dtype=None: keras.ops.zeros(shape, dtype)
    )


@pytest.mark.parametrize("dataset", ["mnist", "cifar10"])
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_builds_and_gives_logits(name, dataset, zero_weights):
    spec = DATASETS[dataset]
    classifier = build_classifier(name, spec)
    assert classifier.built
    logits = classifier(np.zeros((1, *spec.image_shape), "float32"))
    assert logits.shape == (1, spec.num_classes)
    assert logits.dtype == "float32"


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_has_the_layers_of_its_source(name):
    stack = build_classifier(name, SMALL).stack.layers
    convolutions = [
        (layer.filters, layer.kernel_size[0], layer.strides[0])
        for layer in stack
        if isinstance(layer, layers.Conv2D)
    ]
    dense = [layer.units for layer in stack if isinstance(layer, layers.Dense)]
    assert (convolutions, dense) == ARCHITECTURES[name]


@pytest.mark.parametrize("name", ["CNN", "resnet", "", None])
def test_an_unknown_name_is_refused(name):
    with pytest.raises(ValueError, match=r"`name` must be one of \['cnn', .*Received: name="):
        build_classifier(name, SMALL)


def test_logits_are_linear_and_the_same_twice():
    classifier = build_classifier("cnn", SMALL)
    images = np.random.default_rng(0).uniform(size=(16, 8, 8, 1)).astype("float32")
    logits = classifier(images).numpy()
    assert logits.min() < 0
    assert not np.allclose(logits.sum(axis=1), 1.0)
    np.testing.assert_array_equal(classifier(images), logits)


def test_logits_stay_float32_under_mixed_precision():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        classifier = build_classifier("cnn", SMALL)
    finally:
        keras.config.set_dtype_policy(before)
    assert classifier(np.zeros((1, 8, 8, 1), "float32")).dtype == "float32"


def test_its_configuration_rebuilds_it():
    classifier = build_classifier("b", SMALL)
    again = type(classifier).from_config(classifier.get_config())
    again.build()
    assert [w.shape for w in again.weights] == [w.shape for w in classifier.weights]
    assert again.get_config() == classifier.get_config()
