"""A detector's curve, and that an attacker who knows the detector pays for being seen."""

import numpy as np
import pytest
import tensorflow as tf

from tfpurify.attacks.pgd import PGD
from tfpurify.evaluation.detection import roc_curve
from tfpurify.purifiers.base import Purifier, detector_penalty, reconstruction_errors


def test_the_area_is_the_chance_of_a_higher_score_with_ties_half():
    rng = np.random.default_rng(0)
    clean, attacked = rng.integers(0, 5, 40), rng.integers(2, 7, 30)
    false, true, area = roc_curve(clean, attacked)
    pairs = attacked[:, None] - clean[None]
    assert area == pytest.approx(np.mean((pairs > 0) + 0.5 * (pairs == 0)))
    assert false[0] == true[0] == 0 and false[-1] == true[-1] == 1
    assert np.all(np.diff(false) >= 0) and np.all(np.diff(true) >= 0)


@pytest.mark.parametrize(
    ("clean", "attacked", "area"), [([0, 1], [2, 3], 1.0), ([2, 3], [0, 1], 0.0), ([1], [1], 0.5)]
)
def test_separated_scores_have_a_known_area(clean, attacked, area):
    assert roc_curve(clean, attacked)[2] == area


@pytest.mark.parametrize(
    ("clean", "message"), [([], "must not be empty"), ([np.nan], "must be finite")]
)
def test_scores_that_tell_nothing_are_refused(clean, message):
    with pytest.raises(ValueError, match=message):
        roc_curve(clean, [1.0])


class Darkener(Purifier):
    """Halves every pixel: bright images move far."""

    image_shape = (2, 2, 1)

    def call(self, images, training=False):
        return 0.5 * images


def classify(images):
    """Class 1 above a mean of 0.5, and far surer the brighter: that must not buy off a detector."""
    mean = tf.reduce_mean(images, axis=(1, 2, 3))
    return 1000.0 * tf.stack([0.5 - mean, mean - 0.5], axis=1)


def test_an_attacker_who_knows_the_detector_stays_below_its_threshold():
    purifier = Darkener()
    images, labels = np.full((1, 2, 2, 1), 0.45, np.float32), np.zeros(1, np.int64)
    threshold = 0.25 * 0.55**2
    found = {}
    for name, penalty in (("careless", None), ("careful", detector_penalty(purifier, threshold))):
        attacked = PGD(classify, 0.4, num_steps=40, penalty=penalty)(images, labels)
        assert np.argmax(classify(attacked)) == 1
        found[name] = float(reconstruction_errors(purifier, attacked)[0])
    assert found["careful"] <= threshold < found["careless"]
    with pytest.raises(ValueError, match="`threshold` must be > 0"):
        detector_penalty(purifier, 0.0)
