import keras
import numpy as np
import pytest
import tensorflow as tf

from tfpurify.layers import BatchNormalization, Conv2DTranspose, require_at_most_32
from tfpurify.purifiers.dcgan import Generator
from tfpurify.purifiers.puvae import PuVAE


@pytest.mark.parametrize("build", [require_at_most_32, Generator, PuVAE])
def test_images_over_32_pixels_are_refused(build):
    with pytest.raises(ValueError, match="at most 32. Received: image_shape=\\(64, 64, 3\\)"):
        build((64, 64, 3))


def _two_normalizations():
    rng = np.random.default_rng(0)
    fused, plain = BatchNormalization(), keras.layers.BatchNormalization()
    weights = [rng.uniform(0.5, 1.5, 3) for _ in range(4)]
    for layer in (fused, plain):
        layer.build((None, 4, 4, 3))
        layer.set_weights(weights)
    return fused, plain, tf.constant(rng.normal(size=(8, 4, 4, 3)), tf.float32)


@pytest.mark.parametrize("training", [False, True])
def test_fused_batch_normalization_is_keras_own(training):
    fused, plain, images = _two_normalizations()
    outputs, gradients = [], []
    for layer in (fused, plain):
        with tf.GradientTape() as tape:
            tape.watch(images)
            output = layer(images, training=training)
            loss = tf.reduce_sum(tf.sin(output))
        outputs.append(output)
        gradients.append(tape.gradient(loss, [images, layer.gamma.value, layer.beta.value]))
    np.testing.assert_allclose(*outputs, atol=1e-5)
    for ours, theirs in zip(*gradients, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-4)
    np.testing.assert_allclose(fused.moving_mean, plain.moving_mean, rtol=1e-5)
    count = 8 * 4 * 4  # the fused kernel's variance is the unbiased one
    before = _two_normalizations()[0].moving_variance.numpy()
    step = (plain.moving_variance.numpy() - 0.99 * before) * count / (count - 1)
    expected = 0.99 * before + step if training else before
    np.testing.assert_allclose(fused.moving_variance, expected, rtol=1e-4)


def test_frozen_batch_normalization_keeps_its_statistics():
    fused, _, images = _two_normalizations()
    fused.trainable = False
    before = fused(images, training=False).numpy()
    np.testing.assert_array_equal(fused(images, training=True), before)
    np.testing.assert_array_equal(fused(images, training=False), before)


def test_batch_normalization_takes_reduced_precision():
    layer = BatchNormalization(dtype="mixed_bfloat16")
    output = layer(tf.ones((2, 4, 4, 3), tf.bfloat16), training=True)
    assert output.dtype == tf.bfloat16
    assert layer.moving_mean.dtype == "float32"


@pytest.mark.parametrize("kernel_size", [2, 3, 4, 5, 7])
def test_transposed_convolution_is_keras_s(kernel_size):
    keras.utils.set_random_seed(0)
    ours = Conv2DTranspose(3, kernel_size, activation="relu")
    theirs = keras.layers.Conv2DTranspose(3, kernel_size, 2, padding="same", activation="relu")
    images = keras.random.normal((2, 5, 6, 4), seed=1)
    for layer in (ours, theirs):
        layer.build(images.shape)
    theirs.set_weights([w + 0.1 for w in ours.get_weights()])
    ours.set_weights(theirs.get_weights())
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(images)
        outputs = [layer(images) for layer in (ours, theirs)]
        losses = [tf.reduce_sum(output**2) for output in outputs]
    np.testing.assert_allclose(*outputs, atol=1e-5)
    for sources in (lambda layer: layer.kernel.value, lambda layer: layer.bias.value):
        gradients = [
            tape.gradient(loss, sources(layer))
            for loss, layer in zip(losses, (ours, theirs), strict=True)
        ]
        np.testing.assert_allclose(*gradients, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(*[tape.gradient(loss, images) for loss in losses], atol=1e-4)


@pytest.mark.parametrize(
    "arguments", [{"strides": 1}, {"padding": "valid"}, {"kernel_size": 1}], ids=str
)
def test_another_transposed_convolution_is_refused(arguments):
    with pytest.raises(ValueError, match="`strides` must be 2, `padding` 'same'"):
        Conv2DTranspose(**{"filters": 1, "kernel_size": 7, **arguments})
