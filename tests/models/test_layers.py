import keras
import numpy as np
import pytest
import tensorflow as tf

from tfpurify.models.layers import BatchNormalization, Conv2D, Conv2DTranspose


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
    _assert_equal(ours, theirs, keras.random.normal((2, 5, 6, 4), seed=1))


@pytest.mark.parametrize("kernel_size", [2, 3, (5, 1)])
@pytest.mark.parametrize("size", [(2, 2), (4, 4), (8, 2), (1, 3), (5, 4)])
def test_convolution_is_keras_s(kernel_size, size):
    keras.utils.set_random_seed(0)
    ours = Conv2D(3, kernel_size, activation="relu")
    theirs = keras.layers.Conv2D(3, kernel_size, padding="same", activation="relu")
    _assert_equal(ours, theirs, keras.random.normal((2, *size, 4), seed=1))


def test_convolution_of_a_small_map_uses_no_convolution_kernel():
    for size, expected in ((4, False), (5, True)):
        layer = Conv2D(3, 3)
        graph = tf.function(layer).get_concrete_function(tf.TensorSpec((None, size, size, 4))).graph
        assert ("Conv2D" in {op.type for op in graph.get_operations()}) == expected


def _assert_equal(ours, theirs, images):
    """Asserts that two layers give the same outputs and gradients."""
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


@pytest.mark.parametrize(
    "arguments",
    [{"strides": 2}, {"padding": "valid"}, {"dilation_rate": 2}, {"groups": 2}],
    ids=str,
)
def test_another_convolution_is_refused(arguments):
    with pytest.raises(ValueError, match="must be 1 and `padding` 'same'"):
        Conv2D(2, 3, **arguments)
