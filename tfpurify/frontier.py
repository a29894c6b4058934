"""Points of the trade-off between what a purifier costs and what it protects, as JSON lines."""

import json
from pathlib import Path

from tfpurify.files import write_aside

_IDENTITY = ("dataset", "run", "settings", "epsilon", "split")


def read_frontier(path):
    """Reads the lines that `trainers.frontier` wrote; none if there is no such file."""
    path = Path(path)
    if not path.exists():
        return []
    return [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()]


def update_frontier(path, lines):
    """Puts lines into a file in place of older ones of the same point; the rest stays."""

    def identity(line):
        return json.dumps([line[key] for key in _IDENTITY], sort_keys=True)

    found = {identity(line): line for line in read_frontier(path)}
    found |= {identity(line): line for line in lines}
    write_aside(path, "".join(json.dumps(line, allow_nan=False) + "\n" for line in found.values()))
