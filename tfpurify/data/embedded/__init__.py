"""The embedded sample: 2,000 train and 1,000 test images per data set, class-balanced.

Written by `python -m tfpurify.data.embedded.make`; licences and
citations are in README.md beside it.
"""

from pathlib import Path

SAMPLE_SIZES = {"train": 2000, "test": 1000}
SAMPLE_VALIDATION_SIZE = 200


def sample_path(name, part, folder=None):
    """Returns the TFRecord file of data set `name` that holds `part` ("train" or "test")."""
    return Path(folder or Path(__file__).parent) / f"{name}_{part}.tfrecord"
