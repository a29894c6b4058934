"""Points of the trade-off between what a purifier costs, protects, and takes of time."""

import json
from operator import itemgetter
from pathlib import Path

from tfpurify.files import read_json_lines, replace_lines, write_json_lines

_IDENTITY = ("dataset", "run", "settings", "epsilon", "split")


def read_frontier(path):
    """Reads the lines that `trainers.frontier` wrote; none if there is no such file."""
    path = Path(path)
    if not path.exists():
        return []
    return [line for _, line in read_json_lines(path)]


def read_speed(path):
    """Reads the points that `benchmarks.frontier` wrote; none if there is no such file."""
    path = Path(path)
    if not path.exists():
        return []
    return json.loads(path.read_text(encoding="utf-8"))["points"]


def update_frontier(path, lines):
    """Puts lines into a file in place of older ones of the same point, as `replace_lines` does."""
    write_json_lines(path, replace_lines(read_frontier(path), lines, itemgetter(*_IDENTITY)))
