"""Points of the trade-off between what a purifier costs, protects, and takes of time."""

import json
from operator import itemgetter
from pathlib import Path

from tfpurify.evaluation.store import JSONLines

_LINES = JSONLines(None, itemgetter("dataset", "run", "settings", "epsilon", "split"))
read_frontier, update_frontier = _LINES.read, _LINES.update


def read_speed(path):
    """Reads the points that `benchmarks.frontier` wrote; none if there is no such file."""
    path = Path(path)
    if not path.exists():
        return []
    return json.loads(path.read_text(encoding="utf-8"))["points"]
