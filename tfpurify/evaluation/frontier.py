"""Points of the trade-off between what a purifier costs, protects, and takes of time.

The shipped `frontier.jsonl` holds what the presets were chosen from; `trainers.attack
--split=validation` with `--noise_scales` or `--descents` measures such points as records.
"""

import json
from operator import itemgetter
from pathlib import Path

from tfpurify.evaluation.store import JSONLines

read_frontier = JSONLines(None, itemgetter("dataset", "run", "settings", "epsilon", "split")).read


def read_speed(path):
    """Reads the points that `benchmarks.frontier` wrote; none if there is no such file."""
    path = Path(path)
    if not path.exists():
        return []
    return json.loads(path.read_text(encoding="utf-8"))["points"]
