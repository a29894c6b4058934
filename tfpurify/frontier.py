"""Points of the trade-off between what a purifier costs and what it protects, as JSON lines."""

import json
from pathlib import Path

from tfpurify.files import read_json_lines, write_json_lines

_IDENTITY = ("dataset", "run", "settings", "epsilon", "split")


def read_frontier(path):
    """Reads the lines that `trainers.frontier` wrote; none if there is no such file."""
    path = Path(path)
    if not path.exists():
        return []
    return [line for _, line in read_json_lines(path)]


def update_frontier(path, lines):
    """Puts lines into a file in place of older ones of the same point; the rest stays."""

    def identity(line):
        return json.dumps([line[key] for key in _IDENTITY], sort_keys=True)

    found = {identity(line): line for line in read_frontier(path)}
    found |= {identity(line): line for line in lines}
    write_json_lines(path, found.values())
