"""Settings of the test run, and the tiny images and models that many tests share."""

import gc
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# oneDNN keeps the memory of every graph that ever ran: 2.4 GB after ten tests, 0.8 without it.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
if "PYTEST_XDIST_WORKER" in os.environ:
    # Each of several test processes has a core; their programs' processes inherit it.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")

import keras
import numpy as np
import pytest
from absl import flags
from keras import layers

from tfpurify.data import loading
from tfpurify.purifiers.dcgan import Generator
from tfpurify.purifiers.puvae import PuVAE

SMALL_SHAPE = (8, 8, 1)


def pytest_configure(config):
    # absl refuses to give the value of a flag before a command line was parsed.
    flags.FLAGS.mark_as_parsed()


@pytest.fixture(scope="module", autouse=True)
def released_memory():
    """Gives the graphs and buffers of a test module back before the next one begins."""
    yield
    keras.backend.clear_session()
    gc.collect()


@pytest.fixture(scope="session")
def digits():
    """500 MNIST images (500, 28, 28, 1) and their labels, from the embedded sample."""
    stream = loading.load_dataset("mnist", "train", source="embedded").take(500)
    images, labels = zip(*stream.as_numpy_iterator(), strict=True)
    return np.stack(images), np.array(labels)


@pytest.fixture(scope="session")
def batch(digits):
    """Eight MNIST images and their labels."""
    images, labels = digits
    return images[:8], labels[:8]


@pytest.fixture(scope="session")
def small_batch():
    """Four random images of `SMALL_SHAPE`, for what grows with the number of pixels."""
    images = np.random.default_rng(0).uniform(size=(4, *SMALL_SHAPE)).astype("float32")
    return images, np.array([3, 1, 4, 1])


@pytest.fixture(scope="session")
def classifier(digits):
    """A tiny classifier that knows nine of ten of `digits`; no test may change it."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(8, 5, 2, activation="relu"),
            layers.Flatten(),
            layers.Dense(10),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(5e-3), loss, metrics=["accuracy"])
    history = model.fit(*digits, batch_size=50, epochs=6, verbose=0)
    assert history.history["accuracy"][-1] > 0.9
    trained = keras.Sequential.from_config(model.get_config())  # without the optimizer
    trained.set_weights(model.get_weights())
    return trained


@pytest.fixture(scope="session")
def small_classifier():
    """An untrained linear classifier of images of `SMALL_SHAPE`."""
    keras.utils.set_random_seed(1)
    return keras.Sequential([keras.Input(SMALL_SHAPE), layers.Flatten(), layers.Dense(10)])


@pytest.fixture(scope="session")
def make_puvae():
    """A function that builds a PuVAE on images of `SMALL_SHAPE`, always with the same weights."""

    def make(**kwargs):
        keras.utils.set_random_seed(2)
        model = PuVAE(SMALL_SHAPE, latent_dim=4, **kwargs)
        model.build()
        return model

    return make


@pytest.fixture(scope="session")
def puvae(make_puvae):
    """An untrained PuVAE without noise whose candidates differ; no test may change it."""
    model = make_puvae()
    _make_lively(model.decoder, 3.0)
    return model


@pytest.fixture(scope="session")
def generator():
    """An untrained DCGAN generator of MNIST's shape whose images differ clearly from each other."""
    keras.utils.set_random_seed(3)
    model = Generator((28, 28, 1), latent_dim=4)
    model.build()
    _make_lively(model, 4.0)
    return model


def _make_lively(part, factor):
    for variable in part.trainable_variables:
        if len(variable.shape) > 1:
            variable.assign(factor * variable)


@pytest.fixture
def moved():
    """Tells which variables a step moved: `changes = moved(variables); step(); changes()`."""

    def watch(variables):
        before = [variable.numpy() for variable in variables]
        return lambda: [
            not np.array_equal(old, variable.numpy())
            for old, variable in zip(before, variables, strict=True)
        ]

    return watch
