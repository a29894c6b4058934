"""Puts what was measured into files beside what was measured before."""

from pathlib import Path

from tfpurify.evaluation.distances import DISTANCES_FILE, read_distances, write_distances
from tfpurify.evaluation.records import read_records, write_records
from tfpurify.files import replace_lines

_IDENTITY = (
    "dataset",
    "split",
    "classifier",
    "purifier",
    "threat_model",
    "attack",
    "epsilon",
    "gradient_mode",
    "seed",
)


def update_records(path, records, distances=()):
    """Puts records into a file in place of older ones of the same measurement; the rest stays.

    An older record of more images stays too, as `replace_lines` says.

    Args:
        path: JSON lines file of records, made if missing.
        records: Records as `tfpurify.evaluation.records.make_record` makes them.
        distances: Lines for `distances.jsonl` beside it, in the same way.
    """
    path = Path(path)
    _update(path, records, read_records, write_records)
    if distances:
        _update(path.with_name(DISTANCES_FILE), distances, read_distances, write_distances)


def _update(path, lines, read, write):
    older = read(path) if path.exists() else []
    write(path, replace_lines(older, lines, _identity))


def _identity(line):
    """Returns what makes two records the same measurement.

    The attacks that a command lists, and their steps, stand in the command alone. An AdvGAN is what
    it is, however it is measured.
    """
    is_search = line["attack"] != "none" and not line["attack"].startswith("advgan")
    return [line.get(name) for name in (*_IDENTITY, *["command"] * is_search)]
