"""Every model works from 16 x 16 to 128 x 128, and is what it was up to 32 x 32."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfpurify.attacks.advgan import AdvGAN
from tfpurify.models.image_sizes import doublings
from tfpurify.purifiers.adversarial_puvae import AdversarialPuVAE
from tfpurify.purifiers.dcgan import DCGAN, Generator
from tfpurify.purifiers.defensegan import DefenseGAN
from tfpurify.purifiers.latent_encoder import LatentEncoder
from tfpurify.purifiers.puvae import PuVAE

SHAPES = [
    (64, 48, 1),
    *[
        pytest.param(shape, marks=pytest.mark.slow)
        for shape in ((28, 28, 1), (33, 50, 3), (16, 16, 3), (20, 128, 3))
    ],
]


@pytest.fixture
def narrow(monkeypatch):
    """PuVAEs with few hidden units, which decide nothing about sizes and most of the time."""
    monkeypatch.setattr(PuVAE, "hidden_units", 16)


def batch_of(shape, n=4):
    images = np.random.default_rng(0).uniform(size=(n, *shape)).astype(np.float32)
    return tf.data.Dataset.from_tensors((images, np.arange(n) % 3)), images


def classifier_of(shape):
    model = keras.Sequential(
        [keras.Input(shape), keras.layers.AveragePooling2D(8), keras.layers.Flatten()]
    )
    model.add(keras.layers.Dense(3))
    return model


def assert_round_trip(model, inputs, path):
    model.save(path)
    loaded = keras.saving.load_model(path, compile=False)
    np.testing.assert_allclose(loaded(inputs), model(inputs), atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_puvae_trains_purifies_and_comes_back(shape, tmp_path, narrow):
    batch, images = batch_of(shape)
    model = PuVAE(shape, 3, latent_dim=4, classifier=classifier_of(shape), batch_normalization=True)
    model.build()
    model.compile("adam")
    before = [tf.identity(weight) for weight in model.trainable_variables]
    model.fit(batch, verbose=0)
    assert all(
        np.any(now != old) for now, old in zip(model.trainable_variables, before, strict=True)
    )
    assert model(images).shape == images.shape
    assert model.candidates(images).shape == (4, 3, *shape)
    assert_round_trip(model, images, tmp_path / "model.keras")


@pytest.mark.parametrize("shape", SHAPES)
def test_the_prior_its_descent_and_its_encoder_train_and_project(shape, tmp_path):
    batch, images = batch_of(shape)
    prior = DCGAN(shape, latent_dim=6)
    prior.build()
    prior.compile("adam", "adam")
    prior.fit(batch, verbose=0)
    generator = prior.generator
    z = tf.random.stateless_normal((3, 6), seed=(0, 0))
    assert generator(z).shape == (3, *shape)
    folded = generator.folded()
    np.testing.assert_allclose(folded(z), generator(z), atol=1e-4)
    with tf.GradientTape() as tape:
        tape.watch(z)
        errors = tf.reduce_mean(tf.square(generator(z) - images[:3]), axis=(1, 2, 3))
    expected = tape.gradient(errors, z)
    found_errors, gradient, _ = folded.errors_and_gradient(z, tf.constant(images[:3]))
    np.testing.assert_allclose(found_errors, errors, rtol=1e-4)
    np.testing.assert_allclose(gradient, expected, rtol=1e-2, atol=1e-6)
    encoder = LatentEncoder(shape, 6, generator, units=16)
    encoder.build()
    encoder.compile("adam")
    encoder.fit(batch, verbose=0)
    encoder.fit_preconditioner()
    purifier = DefenseGAN(generator, encoder)
    purifier.build()
    assert purifier(images).shape == images.shape
    assert_round_trip(encoder, images, tmp_path / "encoder.keras")


@pytest.mark.parametrize("shape", [*SHAPES, (30, 29, 1)])
def test_advgan_trains_stays_in_its_ball_and_comes_back(shape, tmp_path):
    batch, images = batch_of(shape)
    model = AdvGAN(shape, classifier_of(shape), width=4, bottleneck_channels=4, epsilon=0.1)
    model.build()
    model.compile("adam", "adam")
    model.fit(batch, verbose=0)
    moved = np.abs(model(images) - images)
    assert moved.shape == images.shape and 0 < moved.max() <= 0.1 + 1e-6
    assert moved[:, -1, -1].max() > 0  # the corner that padding touches
    assert_round_trip(model, images, tmp_path / "model.keras")


def test_the_adversarially_trained_one_takes_larger_images_too():
    shape = (64, 48, 1)
    images = np.zeros((2, *shape), np.float32)
    model = AdversarialPuVAE(shape, num_classes=3, latent_dim=4)
    model.build()
    assert model.candidates(images).shape == (2, 3, *shape)
    assert model.features_dense.kernel.shape == (8 * 6 * 64, 512)


def test_the_largest_images_pass():
    images = np.zeros((1, 128, 128, 3), np.float32)
    model = PuVAE((128, 128, 3), 2, latent_dim=4)
    model.build()
    assert model(images).shape == images.shape
    # The features stay as many as those of 32 x 32.
    assert model.features_dense.kernel.shape == (32 * 32 * 32, 1024)


@pytest.mark.parametrize(
    ("build", "count"),
    [
        # Counted before images above 32 x 32 were allowed: the shipped weights have to fit.
        (lambda: PuVAE((28, 28, 1)), 27_088_709),
        (lambda: PuVAE((32, 32, 3)), 34_959_303),
        (lambda: AdversarialPuVAE((28, 28, 1)), 2_443_572),
        (lambda: DCGAN((28, 28, 1)), 192_594),
        (lambda: DCGAN((32, 32, 3)), 193_364),
        (lambda: AdvGAN((28, 28, 1), lambda images: images), 205_754),
        (lambda: LatentEncoder((32, 32, 3)), 4_429_464),
    ],
)
def test_models_up_to_32_are_what_they_were(build, count):
    model = build()
    model.build()
    assert sum(int(tf.size(weight)) for weight in model.weights) == count


def test_a_stage_more_stands_for_each_doubling():
    sizes = [((16, 16, 1), 0), ((32, 32, 1), 0), ((33, 8, 1), 1), ((64, 64, 1), 1)]
    for shape, count in [*sizes, ((65, 1, 1), 2), ((128, 128, 1), 2)]:
        assert doublings(shape) == count


@pytest.mark.parametrize("build", [PuVAE, Generator, lambda shape: AdvGAN(shape, lambda x: x)])
def test_images_over_128_pixels_are_refused(build):
    with pytest.raises(ValueError, match="at most 128. Received: image_shape=.129, 64, 3"):
        build((129, 64, 3))


def test_weights_over_2_gb_are_refused_with_a_number():
    with pytest.raises(ValueError, match="at most 2 GB of weights. Received: .* GB"):
        Generator((128, 128, 3), width=64)
