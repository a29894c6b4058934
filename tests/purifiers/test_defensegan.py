"""The projection: never worse for more effort, chosen for each image, the same every time."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfpurify.models.losses import projection_error
from tfpurify.purifiers.defensegan import DefenseGAN

Z0 = tf.random.stateless_normal((6, 4), seed=[5, 5])


@pytest.fixture
def images(batch):
    return tf.constant(batch[0])


@pytest.fixture(scope="session")
def defense_gan(generator):
    purifier = DefenseGAN(generator, num_steps=4, num_restarts=3)
    purifier.build()
    return purifier


def errors_of(generator, images, z):
    """The projection errors of z `(batch, R, latent_dim)`, one generated image at a time."""
    return np.array(
        [
            [np.mean((generator(start[None]).numpy()[0] - image) ** 2) for start in starts]
            for image, starts in zip(np.asarray(images), np.asarray(z), strict=True)
        ]
    )


def plain_descent(generator, images, z0, num_steps, step_size=10.0, momentum=0.7):
    """The descent as the paper has it: one image, one start, one step at a time."""
    best_z, best_errors = np.zeros((len(images), *z0.shape)), np.zeros((len(images), len(z0)))
    for i, image in enumerate(images):
        for j, start in enumerate(z0):
            z, velocity = start, tf.zeros_like(start)
            best_errors[i, j] = np.inf
            for step in range(num_steps + 1):
                with tf.GradientTape() as tape:
                    tape.watch(z)
                    error = tf.reduce_mean((generator(z[None])[0] - image) ** 2)
                if float(error) < best_errors[i, j]:
                    best_z[i, j], best_errors[i, j] = z, float(error)
                velocity = momentum * velocity + tape.gradient(error, z)
                z -= (step_size if step < 0.8 * num_steps else step_size / 10) * velocity
    return best_z, best_errors


def test_equals_a_plain_descent(generator, images):
    # Six steps reach past 80 %, where the step size falls.
    purifier = DefenseGAN(generator, num_steps=6, num_restarts=2)
    z, errors = purifier.project(images[:2], Z0[:2])
    expected_z, expected_errors = plain_descent(generator, images[:2], Z0[:2], num_steps=6)
    assert z.shape == (2, 2, 4) and errors.shape == (2, 2)
    np.testing.assert_allclose(errors, expected_errors, atol=1e-4)
    np.testing.assert_allclose(z, expected_z, atol=1e-2)  # a ReLU may switch by rounding
    assert np.all(errors < errors_of(generator, images[:2], [Z0[:2]] * 2))


def test_more_steps_never_raise_the_error(generator, images):
    # Each run's iterates before the step size falls are also the next run's.
    by_steps = [
        DefenseGAN(generator, num_steps=num_steps).project(images, Z0[:3])[1]
        for num_steps in (1, 4, 12)
    ]
    for fewer, more in zip(by_steps, by_steps[1:], strict=False):
        assert np.all(more <= fewer + 1e-6)
    assert np.mean(by_steps[-1]) < np.mean(by_steps[0])


def test_more_restarts_never_raise_the_error(generator, images):
    by_restarts = []
    for num_restarts in (1, 2, 5):
        purifier = DefenseGAN(generator, num_steps=2, num_restarts=num_restarts)
        by_restarts.append(projection_error(images, purifier(images)))
    for fewer, more in zip(by_restarts, by_restarts[1:], strict=False):
        assert np.all(more <= fewer + 1e-6)
    assert np.mean(by_restarts[-1]) < np.mean(by_restarts[0])


def test_the_restart_is_chosen_for_each_image(generator):
    # Every image is made from a start of its own, so every image needs another restart.
    purifier = DefenseGAN(generator, num_steps=1, num_restarts=6, step_size=1e-3)
    purifier.initial_z = lambda: Z0
    images = generator(Z0)
    _, errors = purifier.project(images, Z0)
    np.testing.assert_array_equal(np.argmin(errors, axis=1), np.arange(6))
    np.testing.assert_allclose(purifier(images), images, atol=1e-4)
    mean_over_batch = np.argmin(np.mean(errors, axis=0))
    assert np.delete(errors[:, mean_over_batch], mean_over_batch).min() > 1e-3


@pytest.mark.parametrize("step_size", [1e3, 1e20, np.inf])
def test_the_best_iterate_is_kept_however_absurd_the_step(generator, images, step_size):
    purifier = DefenseGAN(generator, num_steps=3, num_restarts=2, step_size=step_size)
    z, errors = purifier.project(images, Z0[:2])
    assert np.all(errors <= errors_of(generator, images, [Z0[:2]] * len(images)) + 1e-6)
    np.testing.assert_allclose(errors_of(generator, images, z), errors, atol=1e-5)


def test_purified_images_keep_shape_dtype_and_range(defense_gan, images):
    purified_images = defense_gan(images)
    assert purified_images.shape == images.shape
    assert purified_images.dtype == tf.float32
    assert np.all((purified_images >= 0) & (purified_images <= 1))
    candidates = defense_gan.candidates(images)
    assert candidates.shape == (8, 3, 28, 28, 1)
    nearest = np.argmin(np.mean((candidates - images[:, None]) ** 2, axis=(2, 3, 4)), axis=1)
    np.testing.assert_allclose(purified_images, candidates.numpy()[np.arange(8), nearest])


def test_an_image_is_projected_the_same_whatever_its_neighbours(defense_gan, images):
    purified_images = defense_gan(images)
    np.testing.assert_array_equal(defense_gan(images), purified_images)
    np.testing.assert_allclose(defense_gan(images[5:6]), purified_images[5:6], atol=1e-4)
    np.testing.assert_allclose(defense_gan(images[::-1])[::-1], purified_images, atol=1e-4)


@pytest.mark.parametrize("chunk_size", [1, 3, 8])
def test_the_chunk_size_does_not_change_the_result(defense_gan, generator, images, chunk_size):
    chunked = DefenseGAN(generator, num_steps=4, num_restarts=3, chunk_size=chunk_size)
    z, errors = defense_gan.project(images, Z0[:3])
    chunked_z, chunked_errors = chunked.project(images, Z0[:3])
    np.testing.assert_allclose(chunked_z, z, atol=1e-3)
    np.testing.assert_allclose(chunked_errors, errors, atol=1e-5)


def test_memory_is_bounded_by_the_chunk(generator, images, monkeypatch):
    purifier = DefenseGAN(generator, num_steps=1, num_restarts=2, chunk_size=3)
    descended = []
    descend = purifier._descend
    purifier._descend = lambda x, *starts: (
        descended.append(tf.numpy_function(lambda n: n, [tf.shape(x)[0]], tf.int32))
        or descend(x, *starts)
    )
    tf.config.run_functions_eagerly(True)
    try:
        purifier.project(images, Z0[:2])
    finally:
        tf.config.run_functions_eagerly(False)
    assert [int(count) for count in descended] == [3, 3, 2]


def test_starts_can_differ_between_images(defense_gan, images):
    starts = tf.stack([Z0[:3]] * 7 + [Z0[3:]])
    z, errors = defense_gan.project(images, starts)
    shared_z, shared_errors = defense_gan.project(images, Z0[:3])
    np.testing.assert_allclose(z[:7], shared_z[:7], atol=1e-4)
    assert np.all(errors[7] != shared_errors[7])


def test_the_number_of_starts_can_change_from_call_to_call(generator, images):
    purifier = DefenseGAN(generator, num_steps=2)
    by_starts = [purifier.project(images, Z0[:count]) for count in (3, 2, 5)]
    assert [errors.shape for _, errors in by_starts] == [(8, 3), (8, 2), (8, 5)]
    np.testing.assert_allclose(by_starts[2][1][:, :3], by_starts[0][1], atol=1e-5)


def test_starts_depend_on_the_seed_alone(generator):
    def starts(**kwargs):
        return DefenseGAN(generator, num_restarts=3, **kwargs).initial_z()

    np.testing.assert_array_equal(starts(), starts())
    np.testing.assert_array_equal(starts(seed=2), starts(seed=2))
    assert np.all(starts(seed=2) != starts(seed=3))
    unseeded = DefenseGAN(generator, seed=None)
    assert np.all(unseeded.initial_z() != unseeded.initial_z())


def test_the_generators_weights_never_move(defense_gan, generator, images, moved):
    generator_moved = moved(generator.weights)
    defense_gan(images)
    assert not any(generator_moved())


class SmoothGenerator(keras.Model):
    """Has no ReLU, at whose kinks the descent, which follows a gradient, jumps."""

    image_shape = (28, 28, 1)
    latent_dim = 4

    def __init__(self):
        super().__init__()
        self.hidden = keras.layers.Dense(16, activation="tanh")
        self.pixels = keras.layers.Dense(784, activation="sigmoid")

    def call(self, z, training=False):
        return tf.reshape(self.pixels(self.hidden(z)), (-1, *self.image_shape))

    def folded(self):
        return self

    def errors_and_gradient(self, z, images):
        with tf.GradientTape() as tape:
            tape.watch(z)
            generated = self(z)
            errors = projection_error(images, generated)
        return errors, tape.gradient(errors, z), generated


def test_the_gradient_crosses_the_descent(images):
    keras.utils.set_random_seed(4)
    purifier = DefenseGAN(SmoothGenerator(), num_steps=5, num_restarts=2)
    images = 0.1 + 0.8 * images  # so that both sides of the difference stay in [0, 1]

    def loss(inputs):
        z, _ = purifier.project(inputs, Z0[:2])
        return tf.reduce_sum(z**2)

    with tf.GradientTape() as tape:
        tape.watch(images)
        value = loss(images)
    gradient = tape.gradient(value, images)
    direction = 1e-2 * tf.random.stateless_normal(images.shape, seed=[1, 1])
    difference = (loss(images + direction) - loss(images - direction)) / 2
    assert abs(difference) > 1e-3
    np.testing.assert_allclose(tf.reduce_sum(gradient * direction), difference, rtol=0.02)


@pytest.mark.parametrize("name", ["num_steps", "num_restarts", "chunk_size"])
def test_nothing_to_do_is_refused(generator, name):
    with pytest.raises(ValueError, match=f"`{name}` must be >= 1. Received: {name}=0"):
        DefenseGAN(generator, **{name: 0})


@pytest.mark.parametrize("shape", [(4,), (3, 5), (8, 3, 5), (8, 1, 3, 4)])
def test_starts_of_another_shape_are_refused(defense_gan, images, shape):
    with pytest.raises(ValueError, match="`z0` must have shape .* with latent_dim=4. Received"):
        defense_gan.project(images, tf.zeros(shape))


def test_its_configuration_rebuilds_it(defense_gan, images):
    config = keras.saving.serialize_keras_object(defense_gan)
    again = keras.saving.deserialize_keras_object(config)
    again.generator.build()
    again.generator.set_weights(defense_gan.generator.get_weights())
    np.testing.assert_allclose(again(images), defense_gan(images), atol=1e-6)
    assert again.get_config() == defense_gan.get_config()


@pytest.mark.slow
def test_xla_agrees(defense_gan, generator, images):
    compiled = DefenseGAN(generator, num_steps=4, num_restarts=3, jit_compile=True)
    z, errors = defense_gan.project(images, Z0[:3])
    compiled_z, compiled_errors = compiled.project(images, Z0[:3])
    np.testing.assert_allclose(compiled_z, z, atol=1e-3)
    np.testing.assert_allclose(compiled_errors, errors, atol=1e-5)


def test_the_descent_stays_in_float32_in_a_bfloat16_run(defense_gan, generator, images):
    try:
        keras.config.set_dtype_policy("mixed_bfloat16")
        purifier = DefenseGAN(generator, num_steps=4, num_restarts=3)
    finally:
        keras.config.set_dtype_policy("float32")
    np.testing.assert_array_equal(purifier(images), defense_gan(images))
