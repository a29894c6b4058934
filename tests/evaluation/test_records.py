import json

import keras
import numpy as np
import pytest

from tfpurify.evaluation.records import make_record, read_records, write_records
from tfpurify.vocabulary import RECORD_KEYS

REQUIRED = {
    "dataset": "mnist",
    "data_source": "embedded",
    "split": "test",
    "n": 10,
    "classifier": "cnn",
}
# What `evaluate` returns, its extra keys included.
RESULT = {
    "n": 4,
    "clean_accuracy": 0.75,
    "purified_clean_accuracy": None,
    "correct_without_attack": 3,
    "robust_accuracy": 0.5,
    "attack_success_rate": 1 / 3,
    "attack_success_rate_low": 0.06,
    "attack_success_rate_high": 0.79,
    "epsilon": 0.2,
    "max_perturbation": 0.2,
    "wall_seconds": 1.5,
}


def test_a_record_has_exactly_the_keys_and_is_json():
    fields = {**REQUIRED, "n": np.int64(10), "seed": np.int32(1), "attack": "advgan"}
    record = make_record(RESULT, **fields, threat_model="whitebox")
    assert tuple(record) == RECORD_KEYS
    assert record == json.loads(json.dumps(record))
    assert record["attack_success_rate"] == 1 / 3
    assert record["n"] == 10 and record["epsilon"] == 0.2 and record["purifier"] == "none"
    assert record["checks"][0].startswith("few_images")
    assert record["versions"]["keras"] == keras.__version__
    assert record["command"].startswith("python ")
    assert "/" not in record["command"].split(" -- ")[0].split()[1]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"asr": 0.5}, r"unknown \['asr'\]"),
        ({"n": None}, "must give `n`"),
        ({"n": 0}, "`n` must be >= 1"),
        ({"data_source": "auto"}, "`data_source` must be one of"),
        ({"threat_model": "greybox"}, "`threat_model` must be one of"),
        ({"clean_accuracy": 99.5}, r"`clean_accuracy` must be in \[0, 1\]"),
        ({"robust_accuracy": float("nan")}, r"`robust_accuracy` must be in \[0, 1\]"),
    ],
)
def test_a_wrong_record_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        make_record(**{**REQUIRED, **fields})


def test_a_value_that_is_not_json_is_refused():
    with pytest.raises(TypeError, match="values must be JSON"):
        make_record(**REQUIRED, seed=object())


def test_records_survive_a_round_trip(tmp_path):
    path = tmp_path / "run" / "records.jsonl"
    records = [make_record(**REQUIRED, seed=seed) for seed in range(3)]
    write_records(path, records)
    assert read_records(path) == records
    write_records(path, records[:1])
    assert read_records(path) == records[:1]
    assert [file.name for file in path.parent.iterdir()] == ["records.jsonl"]


def test_what_records_raise_beside_each_other_is_derived_when_read(tmp_path):
    path = tmp_path / "records.jsonl"
    attack = {"attack": "pgd", "epsilon": 0.1, "attack_success_rate": 0.5, "seed": 0}
    whitebox = make_record(**REQUIRED, **attack, threat_model="whitebox")
    blind = make_record(**REQUIRED, **{**attack, "attack_success_rate": 0.75}, threat_model="blind")
    stale = {**blind, "checks": ["whitebox_below_blind: once", "few_images: still"]}
    write_records(path, [whitebox, stale])
    stored = [json.loads(line)["checks"] for line in path.read_text().splitlines()]
    assert stored == [[], ["few_images: still"]]
    flags = [[flag.partition(":")[0] for flag in record["checks"]] for record in read_records(path)]
    assert flags == [["whitebox_below_blind", "not_diagnosed"], ["few_images", "not_diagnosed"]]


def test_a_refused_record_leaves_the_old_file(tmp_path):
    path = tmp_path / "records.jsonl"
    records = [make_record(**REQUIRED)]
    write_records(path, records)
    with pytest.raises(ValueError, match="record 1 must be an object with exactly the keys"):
        write_records(path, [*records, {"n": 1}])
    assert read_records(path) == records
    assert len(list(tmp_path.iterdir())) == 1


def test_a_damaged_line_is_named(tmp_path):
    path = tmp_path / "records.jsonl"
    line = json.dumps(make_record(**REQUIRED))
    path.write_text(line + "\n" + line[:40] + "\n")
    with pytest.raises(ValueError, match="line 2 must be JSON"):
        read_records(path)
