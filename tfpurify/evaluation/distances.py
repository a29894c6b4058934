"""How far a purifier moves images, clean ones and attacked ones, and how long it takes.

One line of `distances.jsonl` goes with one blind record; the report's histograms and its table of
priors are made from them.
"""

import numpy as np

from tfpurify.evaluation.store import JSONLines, same_measurement
from tfpurify.vocabulary import SETTING_KEYS

DISTANCES_FILE = "distances.jsonl"
DISTANCE_KEYS = (
    *SETTING_KEYS,
    "seed",
    "clean_mean",
    "adversarial_mean",
    "edges",
    "clean_counts",
    "adversarial_counts",
    "seconds_per_image",
    "command",
    "versions",
)
_LINES = JSONLines(DISTANCE_KEYS, same_measurement)
read_distances, write_distances, update_distances = _LINES.read, _LINES.write, _LINES.update
_NUM_BINS = 40


def make_distances(record, errors, seconds_per_image):
    """Returns one line: mean over pixels of (purified - image)^2, counted over images.

    Args:
        record: The record of the cell, whose fields say what was measured.
        errors: `clean` and `adversarial`: one value for each image, `(n,)`.
        seconds_per_image: Of the purifier, on this machine.

    Raises:
        ValueError: If a value is not finite, or the two do not hold one value an image.
    """
    values = {kind: np.asarray(errors[kind], np.float64) for kind in ("clean", "adversarial")}
    for kind, found in values.items():
        if found.shape != (record["n"],) or not np.all(np.isfinite(found)):
            raise ValueError(
                f"`errors` must hold {record['n']} finite values of {kind} images. "
                f"Received: shape {found.shape}"
            )
    edges = np.linspace(0.0, max(found.max() for found in values.values()) or 1.0, _NUM_BINS + 1)
    line = {key: record[key] for key in DISTANCE_KEYS if key in record}
    for kind, found in values.items():
        line[f"{kind}_mean"] = float(found.mean())
        line[f"{kind}_counts"] = np.histogram(found, edges)[0].tolist()
    line |= {"edges": edges.tolist(), "seconds_per_image": seconds_per_image}
    return {key: line[key] for key in DISTANCE_KEYS}
