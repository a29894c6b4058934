"""The fused optimizers take Keras's steps."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfpurify.models import optimizers

PAIRS = [
    (optimizers.Adam, keras.optimizers.Adam, {"learning_rate": 0.05}),
    (optimizers.Adam, keras.optimizers.Adam, {"learning_rate": 0.05, "beta_1": 0.5}),
    (optimizers.Adam, keras.optimizers.Adam, {"learning_rate": 0.05, "amsgrad": True}),
    (optimizers.Adam, keras.optimizers.Adam, {"learning_rate": 0.05, "weight_decay": 0.1}),
    (optimizers.SGD, keras.optimizers.SGD, {"learning_rate": 0.05, "momentum": 0.9}),
    (
        optimizers.SGD,
        keras.optimizers.SGD,
        {"learning_rate": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
    ),
    (optimizers.SGD, keras.optimizers.SGD, {"learning_rate": 0.05}),
]


def descend(optimizer, dtype="float32"):
    """Five steps on a quadratic; returns the weights and the optimizer's state."""
    weights = [keras.Variable([1.0, -2.0], dtype=dtype), keras.Variable([[3.0]], dtype=dtype)]
    optimizer.build(weights)

    @tf.function
    def step():
        gradients = [2.0 * tf.convert_to_tensor(w) + 0.5 for w in weights]
        optimizer.apply(gradients, weights)

    for _ in range(5):
        step()
    return [np.array(v, "float32") for v in [*weights, *optimizer.variables]]


@pytest.mark.parametrize(("ours", "theirs", "options"), PAIRS, ids=str)
def test_steps_and_state_are_keras_s(ours, theirs, options):
    pairs = zip(descend(ours(**options)), descend(theirs(**options)), strict=True)
    for found, expected in pairs:
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("ours", "theirs"), [PAIRS[0][:2], PAIRS[4][:2]])
def test_weights_of_another_precision_take_keras_s_way(ours, theirs):
    options = {"learning_rate": 0.05} | ({"momentum": 0.9} if ours is optimizers.SGD else {})
    pairs = zip(
        descend(ours(**options), "float16"), descend(theirs(**options), "float16"), strict=True
    )
    for found, expected in pairs:
        np.testing.assert_array_equal(found, expected)


def test_a_schedule_is_followed():
    schedule = keras.optimizers.schedules.CosineDecay(0.1, 5)
    found = descend(optimizers.Adam(schedule))
    for ours, theirs in zip(found, descend(keras.optimizers.Adam(schedule)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_replicas_of_a_strategy_stay_alike():
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    with strategy.scope():
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        model.compile(optimizers.Adam(0.1), "mse")
    inputs = np.ones((8, 3), "float32")
    before = model.evaluate(inputs, np.zeros(8), verbose=0)
    model.fit(inputs, np.zeros(8), epochs=10, verbose=0)
    assert model.evaluate(inputs, np.zeros(8), verbose=0) < before
