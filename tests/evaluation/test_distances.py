"""Every image is counted once, and a damaged file is named."""

import numpy as np
import pytest

from tfpurify.evaluation import distances
from tfpurify.evaluation.records import make_record

RECORD = make_record(
    dataset="mnist",
    data_source="embedded",
    split="test",
    n=4,
    classifier="cnn",
    purifier="puvae",
    threat_model="blind",
    attack="advgan",
    epsilon=0.2,
    command="python -m trainers.reproduce",
)
ERRORS = {"clean": [0.0, 0.1, 0.1, 0.2], "adversarial": [0.3, 0.5, 0.9, 1.0]}


def test_a_line_counts_each_image_and_comes_back(tmp_path):
    line = distances.make_distances(RECORD, ERRORS, 0.5)
    assert line["clean_mean"] == pytest.approx(0.1)
    assert line["adversarial_mean"] == pytest.approx(0.675)
    assert sum(line["clean_counts"]) == sum(line["adversarial_counts"]) == 4
    assert line["edges"][-1] == 1.0 and line["adversarial_counts"][-1] == 1
    distances.write_distances(tmp_path / "distances.jsonl", [line, line])
    assert distances.read_distances(tmp_path / "distances.jsonl") == [line, line]


@pytest.mark.parametrize("clean", [[0.1], [0.1, 0.1, 0.1, np.nan], []])
def test_errors_must_be_one_finite_value_an_image(clean):
    with pytest.raises(ValueError, match="`errors` must hold 4 finite values of clean images"):
        distances.make_distances(RECORD, {**ERRORS, "clean": clean}, 0.5)


@pytest.mark.parametrize("text", ["{", "[]", '{"dataset": "mnist"}'])
def test_a_damaged_line_is_named(tmp_path, text):
    path = tmp_path / "distances.jsonl"
    path.write_text(text + "\n")
    with pytest.raises(ValueError, match="distances.jsonl, line 1 must be"):
        distances.read_distances(path)
