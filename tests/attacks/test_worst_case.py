"""The worst case is at least as strong as each of its attacks, and says which was the first."""

import numpy as np
import pytest
import tensorflow as tf

from tfpurify.attacks.worst_case import WorstCase

IMAGES = np.full((4, 1, 1, 1), 0.5, np.float32)
LABELS = np.zeros(4, np.int64)


def target(images):
    """Two classes: the first while the pixel is below 0.6."""
    pixel = tf.reshape(tf.convert_to_tensor(images), (-1,))
    return tf.stack([0.6 - pixel, tf.zeros_like(pixel)], axis=1)


def test_each_attack_gets_what_is_left():
    seen = []

    def first(images, labels):
        seen.append(len(images))
        assert len(labels) == len(images)
        steps = np.array([0.2, 0.05, 0.0, -0.1], np.float32).reshape(-1, 1, 1, 1)
        return images + steps

    def second(images, labels):
        seen.append(len(images))
        steps = np.array([0.0, 0.3, 0.02], np.float32).reshape(-1, 1, 1, 1)
        return images + steps

    search = WorstCase({"first": first, "second": second}, target)
    found = search(IMAGES, LABELS)
    assert seen == [4, 3]
    np.testing.assert_allclose(found.ravel(), [0.7, 0.55, 0.8, 0.52], atol=1e-6)
    assert search.successes == {"first": 1, "second": 1}


def test_what_is_wrong_already_is_left_alone():
    search = WorstCase({"any": lambda *_: pytest.fail("attacked")}, target)
    np.testing.assert_array_equal(search(IMAGES + 0.3, LABELS), IMAGES + np.float32(0.3))


def test_no_attack_is_refused():
    with pytest.raises(ValueError, match="`attacks` must hold at least one attack"):
        WorstCase({}, target)
