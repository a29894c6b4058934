"""Detection by reconstruction error: how far a purifier moves an image tells attacked from clean.

One line of `detection.jsonl` is one attack on one purifier as a detector.
"""

from operator import itemgetter

import numpy as np

from tfpurify.evaluation.store import JSONLines
from tfpurify.vocabulary import SETTING_KEYS

DETECTION_FILE = "detection.jsonl"
FALSE_ALARMS = (0.01, 0.05)  # of clean validation images, at which thresholds are set
DETECTION_KEYS = (
    *SETTING_KEYS,
    "gradient_mode",
    "seed",
    "knows_detector",
    "auc",
    "false_positive_rates",
    "true_positive_rates",
    "thresholds",
    "false_alarms",
    "success_rate",
    "undetected_success_rates",
    "command",
    "versions",
)
_SETTING = tuple(key for key in SETTING_KEYS if key not in ("data_source", "n"))
_identity = itemgetter(*_SETTING, "gradient_mode", "seed", "knows_detector", "command")
_LINES = JSONLines(DETECTION_KEYS, _identity)
read_detection, update_detection = _LINES.read, _LINES.update


def errors_over(batches, purifier):
    """Returns how far a purifier moves each image, the mean squared difference: `(n,)`.

    Args:
        batches: Of images `(batch, height, width, channels)` and labels.
        purifier: Callable, images -> images.
    """
    return np.concatenate(
        [np.mean(np.square(purifier(images) - images), axis=(1, 2, 3)) for images, _ in batches]
    )


def roc_curve(clean, attacked):
    """Returns the receiver operating characteristic of a score that is higher for attacked images.

    Args:
        clean: Scores of clean images, `(n,)`.
        attacked: Scores of attacked ones, `(m,)`.

    Returns:
        False positive rates, true positive rates, both rising from 0 to 1, and the area under the
        curve: the probability that an attacked image scores higher, ties counted half.

    Raises:
        ValueError: If a score is not finite, or one side has none.
    """
    clean, attacked = np.asarray(clean, np.float64), np.asarray(attacked, np.float64)
    if not len(clean) or not len(attacked):
        raise ValueError(f"Scores must not be empty. Received: {len(clean)} and {len(attacked)}")
    scores = np.concatenate([clean, attacked])
    if not np.all(np.isfinite(scores)):
        raise ValueError("Scores must be finite. Received: NaN or infinity")
    thresholds = np.unique(scores)[::-1]
    rates = [
        np.concatenate([[0.0], np.mean(side[:, None] >= thresholds, axis=0)])
        for side in (clean, attacked)
    ]
    return rates[0], rates[1], float(np.trapezoid(rates[1], rates[0]))
