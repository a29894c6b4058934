"""The folded generator against the Keras layers that it stands for."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfpurify.models.losses import projection_error
from tfpurify.purifiers.dcgan import Generator

Z = tf.random.stateless_normal((5, 6), seed=[1, 2])


@pytest.fixture(
    scope="module",
    params=[(28, 28, 1), (32, 32, 3), (12, 9, 2), (31, 28, 1)],
    ids=lambda shape: "x".join(map(str, shape)),
)
def trained(request):
    """A generator whose every weight, the statistics included, is as if trained."""
    keras.utils.set_random_seed(0)
    generator = Generator(request.param, latent_dim=6)
    generator.build()
    rng = np.random.default_rng(0)
    for variable in generator.variables:
        noise = 0.3 * rng.standard_normal(variable.shape)
        variable.assign(abs(noise) + 0.5 if "variance" in variable.name else variable + noise)
    return generator


def test_images_are_the_layers(trained):
    np.testing.assert_allclose(trained.folded()(Z), trained(Z, training=False), atol=1e-4)


def test_error_and_gradient_are_the_tapes(trained):
    images = tf.random.stateless_uniform((5, *trained.image_shape), seed=[3, 4])
    with tf.GradientTape() as tape:
        tape.watch(Z)
        expected = projection_error(images, trained(Z, training=False))
    expected_gradient = tape.gradient(expected, Z)
    errors, gradient, generated = trained.folded().errors_and_gradient(Z, images)
    np.testing.assert_allclose(errors, expected, rtol=1e-4)
    np.testing.assert_allclose(gradient, expected_gradient, atol=1e-4 * np.abs(gradient).max())
    np.testing.assert_allclose(generated, trained(Z), atol=1e-4)


def test_curvature_is_the_jacobians_square(trained):
    columns = []  # one at a time: a tape's whole Jacobian takes gigabytes
    for direction in tf.eye(Z.shape[1]):
        with tf.autodiff.ForwardAccumulator(Z, tf.broadcast_to(direction, Z.shape)) as forward:
            generated = trained(Z, training=False)
        columns.append(tf.reshape(forward.jvp(generated), (-1,)))
    jacobian = tf.stack(columns, axis=1).numpy()
    expected = jacobian.T @ jacobian / len(jacobian)
    curvature = trained.folded().curvature(Z)
    np.testing.assert_allclose(curvature, expected, atol=1e-4 * np.abs(expected).max())


def test_it_follows_the_weights(trained):
    generator = Generator.from_config(trained.get_config())
    generator.build()
    fold = tf.function(lambda z: generator.folded()(z))  # noqa: PLW0108 - folded anew at each call
    before = fold(Z)
    generator.set_weights(trained.get_weights())
    assert np.abs(fold(Z) - before).max() > 0.01
    np.testing.assert_allclose(fold(Z), trained(Z), atol=1e-4)
