"""No measurement gives way to a weaker one."""

import logging

import pytest

from tfpurify.evaluation.store import replace_lines


@pytest.mark.parametrize(
    ("n", "data_source", "is_kept"),
    [(9, "tfds", True), (20, "embedded", True), (10, "tfds", False), (11, "tfds", False)],
)
def test_only_a_measurement_of_as_many_images_replaces(n, data_source, is_kept, caplog):
    older = {"cell": {"of": "a"}, "n": 10, "data_source": "tfds", "rate": 0.5}
    other = {**older, "cell": {"of": "b"}, "n": 3}
    newer = {**older, "n": n, "data_source": data_source, "rate": 0.25}
    with caplog.at_level(logging.WARNING, logger="absl"):
        found = replace_lines([older, other], [newer], lambda line: line["cell"])
    assert found == [older if is_kept else newer, other]
    assert ("more images stays" in caplog.text) == is_kept
