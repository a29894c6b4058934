"""DCGAN's two parts take turns, each moves only itself, and WGAN-GP keeps its own rhythm."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tfpurify.purifiers.dcgan import DCGAN, Generator


def make_dcgan(**kwargs):
    keras.utils.set_random_seed(0)
    model = DCGAN((28, 28, 1), latent_dim=4, **kwargs)
    model.build()
    model.compile(keras.optimizers.Adam(1e-3), keras.optimizers.Adam(1e-3))
    return model


def kernels(part):
    """A bias in front of a normalisation has no gradient; every kernel has one."""
    return [variable for variable in part.trainable_variables if len(variable.shape) > 1]


@pytest.mark.parametrize("gan_loss", ["dcgan", "wgan-gp"])
def test_a_step_moves_both_parts_once(gan_loss, batch, moved):
    model = make_dcgan(gan_loss=gan_loss, critic_steps=1)
    generator_moved = moved(kernels(model.generator))
    discriminator_moved = moved(kernels(model.discriminator))
    logs = model.train_step(batch)
    assert all(generator_moved()) and all(discriminator_moved())
    assert int(model.generator_optimizer.iterations) == 1
    assert int(model.discriminator_optimizer.iterations) == 1
    assert set(logs) == {"generator_loss", "discriminator_loss"}
    assert np.all(np.isfinite([float(value) for value in logs.values()]))


def test_the_generators_step_leaves_the_discriminator(moved):
    model = make_dcgan()
    generator_moved = moved(kernels(model.generator))
    discriminator_moved = moved(model.discriminator.trainable_variables)
    model._generator_step(tf.random.stateless_normal((8, 4), [0, 0]))
    assert all(generator_moved())
    assert not any(discriminator_moved())


@pytest.mark.parametrize("gan_loss", ["dcgan", "wgan-gp"])
def test_the_discriminators_steps_leave_the_generator(gan_loss, batch, moved):
    model = make_dcgan(gan_loss=gan_loss, critic_steps=100)
    model._apply_to_generator = lambda tape, loss: None
    generator_moved = moved(model.generator.trainable_variables)
    discriminator_moved = moved(kernels(model.discriminator))
    model.train_step(batch)
    assert all(discriminator_moved())
    assert not any(generator_moved())


def test_wgan_gps_generator_moves_after_every_critic_steps_steps(batch, moved):
    model = make_dcgan(gan_loss="wgan-gp", critic_steps=3)
    turns = []
    for _ in range(6):
        generator_moved = moved(kernels(model.generator))
        model.fit(*batch, batch_size=8, epochs=1, verbose=0)
        turns.append(any(generator_moved()))
    assert turns == [False, False, True, False, False, True]
    assert int(model.generator_optimizer.iterations) == 2
    assert int(model.discriminator_optimizer.iterations) == 6


def test_wgan_gps_cycle_of_steps_is_what_train_step_chooses(batch):
    chosen, cycled = (make_dcgan(gan_loss="wgan-gp", critic_steps=2) for _ in range(2))
    cycle = cycled.step_cycle()
    assert len(cycle) == 2
    for turn in range(4):
        chosen.train_step(batch)
        cycle[turn % 2](batch)
    assert int(cycled.generator_optimizer.iterations) == 2
    for one, other in zip(chosen.weights, cycled.weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("norm", "penalty"), [(1.0, 0.0), (3.0, 4.0), (0.0, 1.0)])
def test_the_gradient_penalty_of_a_linear_critic_is_known(norm, penalty, batch):
    model = make_dcgan(gan_loss="wgan-gp")
    critic = keras.Sequential([keras.Input((28, 28, 1)), layers.Flatten(), layers.Dense(1)])
    direction = np.random.default_rng(0).normal(size=(784, 1))
    critic.layers[-1].kernel.assign(norm * direction / np.linalg.norm(direction))
    model._score = lambda images, training=True: critic(images)[:, 0]
    images = tf.constant(batch[0])
    penalties = model._gradient_penalty(images, tf.zeros_like(images))
    np.testing.assert_allclose(penalties, penalty, atol=1e-5)
    # A critic without a bias scores black images zero.
    np.testing.assert_allclose(
        model.discriminator_loss(images, tf.zeros_like(images)),
        10.0 * penalty - np.mean(critic(images)),
        atol=1e-4,
    )


def test_only_wgan_gps_critic_goes_without_batch_normalisation():
    def has_normalization(gan_loss):
        model = DCGAN((28, 28, 1), gan_loss=gan_loss)
        return any(isinstance(i, layers.BatchNormalization) for i in model.discriminator.layers)

    assert has_normalization("dcgan")
    assert not has_normalization("wgan-gp")


def test_training_repeats_and_draws_new_z_at_each_step(batch):
    first, second = make_dcgan(), make_dcgan()
    for model in (first, second):
        model.train_step(batch)
    for ours, theirs in zip(first.generator.weights, second.generator.weights, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    drawn = first._random(tf.random.stateless_normal, (2, 4), 0)
    first.train_step(batch)
    assert np.all(first._random(tf.random.stateless_normal, (2, 4), 0) != drawn)
    other = make_dcgan(seed=1)
    other.train_step(batch)
    assert np.all(other._random(tf.random.stateless_normal, (2, 4), 0) != drawn)


def test_evaluate_scores_without_moving_anything(batch, moved):
    model = make_dcgan()
    anything_moved = moved(model.generator.weights + model.discriminator.weights)
    logs = model.evaluate(*batch, batch_size=8, verbose=0, return_dict=True)
    assert set(logs) == {"generator_loss", "discriminator_loss"}
    assert np.all(np.isfinite(list(logs.values())))
    assert not any(anything_moved())


@pytest.mark.parametrize("image_shape", [(28, 28, 1), (32, 32, 3), (8, 8, 1)])
def test_generated_images_have_the_data_sets_shape_and_range(image_shape):
    generator = Generator(image_shape, latent_dim=4)
    generator.build()
    for scale in (1.0, 1e4):
        images = generator(scale * tf.random.stateless_normal((3, 4), [0, 0])).numpy()
        assert images.shape == (3, *image_shape)
        assert images.min() >= 0 and images.max() <= 1


def test_images_are_cropped_from_the_middle_of_32_pixels():
    keras.utils.set_random_seed(0)
    whole = Generator((32, 32, 1), latent_dim=4)
    whole.build()
    cropped = Generator((28, 28, 1), latent_dim=4)
    cropped.build()
    cropped.set_weights(whole.get_weights())
    z = tf.random.stateless_normal((2, 4), [0, 0])
    np.testing.assert_allclose(cropped(z), whole(z)[:, 2:30, 2:30], atol=1e-6)


def test_width_multiplies_the_channels_of_both_parts():
    wide = DCGAN((28, 28, 1), latent_dim=4, width=2)

    def channels(part):
        convolutions = (layers.Conv2D, layers.Conv2DTranspose)
        return [layer.filters for layer in part.layers if isinstance(layer, convolutions)]

    assert channels(wide.generator.stack) == [64, 32, 16, 1]
    assert channels(wide.discriminator) == [32, 64, 128]
    assert channels(DCGAN((28, 28, 1)).generator.stack) == [32, 16, 8, 1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"gan_loss": "wgan"}, r"`gan_loss` must be one of \['dcgan', 'wgan-gp'\]. .*'wgan'"),
        ({"width": 0}, "`width` must be >= 1. Received: width=0"),
        ({"latent_dim": 0}, "latent_dim=0"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        DCGAN((28, 28, 1), **arguments)
