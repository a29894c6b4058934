"""Points of the trade-off between what a purifier costs and what it protects, as JSON lines."""

from pathlib import Path

from tfpurify.files import read_json_lines, replace_lines, write_json_lines

_IDENTITY = ("dataset", "run", "settings", "epsilon", "split")


def read_frontier(path):
    """Reads the lines that `trainers.frontier` wrote; none if there is no such file."""
    path = Path(path)
    if not path.exists():
        return []
    return [line for _, line in read_json_lines(path)]


def update_frontier(path, lines):
    """Puts lines into a file in place of older ones of the same point, as `replace_lines` does."""
    write_json_lines(path, replace_lines(read_frontier(path), lines, _IDENTITY))
