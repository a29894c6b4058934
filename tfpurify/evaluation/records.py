"""One cell of a table is one record, and one record is one JSON line."""

import json
import os
from pathlib import Path

import numpy as np

from tfpurify.evaluation.checks import run_checks
from tfpurify.evaluation.comparisons import without_flags
from tfpurify.evaluation.diagnostics import (
    ATTACKS_FILE,
    DERIVED,
    read_diagnostics,
    with_derived_checks,
)
from tfpurify.evaluation.distances import DISTANCES_FILE, update_distances
from tfpurify.evaluation.store import replace_lines, same_measurement
from tfpurify.files import read_json_lines, write_json_lines
from tfpurify.provenance import command_line, versions
from tfpurify.vocabulary import (
    GRADIENT_MODES,
    RATE_KEYS,
    RECORD_KEYS,
    RECORDED_SOURCES,
    THREAT_MODELS,
)

_CHOICES = {
    "data_source": RECORDED_SOURCES,
    "gradient_mode": (None, *GRADIENT_MODES, "strongest"),  # several, the worst for each image
    "threat_model": THREAT_MODELS,
}
_REQUIRED_KEYS = ("dataset", "data_source", "split", "n", "classifier")


def make_record(evaluation=None, /, **fields):
    """Builds one cell of a table: a dict with exactly the keys of `vocabulary.RECORD_KEYS`.

    Args:
        evaluation: Optional, what `evaluate` returned. Fills the rates, n, epsilon and
            wall_seconds, and `checks` from `run_checks`.
        **fields: Any of the record's keys; they go before what the evaluation says. `purifier`,
            `threat_model` and `attack` are "none" unless given, `command` and `versions` those of
            this process, everything else that is left out None.

    Returns:
        A JSON-serialisable dict in the order of `RECORD_KEYS`.

    Raises:
        ValueError: If a key is unknown or missing, or a value is out of its range.
        TypeError: If a value cannot be written as JSON.
    """
    record = dict.fromkeys(RECORD_KEYS)
    record.update(purifier="none", threat_model="none", attack="none", checks=[])
    record.update(command=command_line(), versions=versions())
    if evaluation is not None:
        record.update({key: evaluation[key] for key in RECORD_KEYS if key in evaluation})
        record["checks"] = run_checks(evaluation) if "checks" not in fields else []
    record.update(fields)
    record = json.loads(json.dumps(record, default=_plain))
    _require_record(record, "record")
    return record


def _plain(value):
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"A record's values must be JSON. Received: {value!r}")


def _require_record(record, where):
    if not isinstance(record, dict) or set(record) != set(RECORD_KEYS):
        keys = set(record) if isinstance(record, dict) else set()
        raise ValueError(
            f"{where} must be an object with exactly the keys of RECORD_KEYS. Received: unknown "
            f"{sorted(keys - set(RECORD_KEYS))}, missing {sorted(set(RECORD_KEYS) - keys)}"
        )
    for key in _REQUIRED_KEYS:
        if record[key] is None:
            raise ValueError(f"{where} must give `{key}`. Received: {key}=None")
    for key, choices in _CHOICES.items():
        if record[key] not in choices:
            raise ValueError(f"{where}: `{key}` must be one of {choices}. Received: {record[key]}")
    if record["n"] < 1:
        raise ValueError(f"{where}: `n` must be >= 1. Received: n={record['n']}")
    for key in RATE_KEYS:
        if record[key] is not None and not 0 <= record[key] <= 1:
            raise ValueError(f"{where}: `{key}` must be in [0, 1]. Received: {key}={record[key]}")


def write_records(path, records):
    """Writes records as JSON lines; the file whole or not at all.

    Flags that records raise beside each other are left out: `read_records` makes them.
    """
    records = list(records)
    for index, record in enumerate(records):
        _require_record(record, f"record {index}")
    write_json_lines(path, [without_flags(record, DERIVED) for record in records])


def read_records(path):
    """Reads records, with the flags that they raise beside each other and `attacks.jsonl`.

    Args:
        path: JSON lines file that `write_records` wrote; `attacks.jsonl` may stand beside it.

    Raises:
        ValueError: If a line is damaged; names it.
    """
    records = []
    for where, record in read_json_lines(path):
        _require_record(record, where)
        records.append(record)
    return with_derived_checks(records, read_diagnostics(Path(path).with_name(ATTACKS_FILE)))


def update_records(path, records, distances=()):
    """Puts records into a file in place of older ones of the same measurement; the rest stays.

    An older record of more images stays too, as `store.replace_lines` says.

    Args:
        path: JSON lines file of records, made if missing.
        records: Records as `make_record` makes them.
        distances: Lines for `distances.jsonl` beside it, in the same way.
    """
    path = Path(path)
    older = read_records(path) if path.exists() else []
    write_records(path, replace_lines(older, records, same_measurement))
    if distances:
        update_distances(path.with_name(DISTANCES_FILE), distances)
