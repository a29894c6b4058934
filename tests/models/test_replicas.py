"""Alone, a train step owes nothing to other replicas; `tests/trainers/two_devices.py` tests two."""

import keras
import numpy as np
import tensorflow as tf

from tfpurify.models import replicas


def test_one_replica_takes_the_optimizer_s_own_step():
    found, expected = (keras.Variable([1.0, -2.0]) for _ in range(2))
    gradient = tf.constant([0.5, 3.0])
    replicas.apply_mean(keras.optimizers.SGD(0.1), [gradient], [found])
    keras.optimizers.SGD(0.1).apply([gradient], [expected])
    np.testing.assert_array_equal(found, expected)


def test_one_replica_keeps_the_step_s_number():
    step = tf.constant(7, tf.int64)
    assert replicas.own_step(step) is step
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():  # where no replica is being run
        assert replicas.own_step(step) is step
