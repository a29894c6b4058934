import numpy as np
import pytest
import tensorflow as tf

from tfpurify.attacks.expectation import Expectation


def test_the_logits_of_several_draws_are_averaged():
    generator = tf.random.Generator.from_seed(0)

    def target(images):
        return tf.reduce_sum(images, axis=(1, 2, 3))[:, None] + generator.normal((len(images), 2))

    images = tf.zeros((50, 2, 2, 1))
    spread = {count: np.std(Expectation(target, count)(images)) for count in (1, 25)}
    assert spread[25] < 0.4 * spread[1]


def test_no_draw_is_refused():
    with pytest.raises(ValueError, match="`num_draws` must be >= 1. Received: num_draws=0"):
        Expectation(None, 0)
