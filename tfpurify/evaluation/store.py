"""JSON-lines files of measurements: what was measured replaces what it repeats."""

import json
from pathlib import Path

from absl import logging

from tfpurify.files import read_json_lines, write_json_lines


class JSONLines:
    """One kind of file, whose lines are objects of the same keys.

    Args:
        keys: What each line has; anything if None.
        identity: Function of a line -> what makes two lines the same measurement.
    """

    def __init__(self, keys, identity):
        self.keys = keys
        self.identity = identity

    def read(self, path):
        """Reads the lines that were written; none if there is no such file.

        Raises:
            ValueError: If a line is damaged; names it.
        """
        if not Path(path).exists():
            return []
        lines = []
        for where, line in read_json_lines(path):
            if self.keys and (not isinstance(line, dict) or set(line) != set(self.keys)):
                names = ", ".join(self.keys)
                raise ValueError(
                    f"{where} must be an object of {names}. Received: {str(line)[:60]!r}"
                )
            lines.append(line)
        return lines

    def write(self, path, lines):
        """Writes lines, the file whole or not at all."""
        write_json_lines(path, lines)

    def update(self, path, lines):
        """Puts lines into a file in place of older ones of the same, as `replace_lines` does."""
        self.write(path, replace_lines(self.read(path), lines, self.identity))


def replace_lines(older, newer, identity):
    """Returns measurements in which the newer ones stand in place of older ones of the same thing.

    An older one stays, with a warning, if it counts more images, or TFDS's where the newer counts
    the embedded sample's.

    Args:
        older: Lines with `n` and `data_source`.
        newer: Lines of the same kind.
        identity: Function of a line -> what makes two lines the same measurement.
    """
    found = {_key(line, identity): line for line in older}
    for line in newer:
        before = found.get(_key(line, identity))
        if before and _weight(line) < _weight(before):
            logging.warning("What was measured on more images stays: %s", before)
            continue
        found[_key(line, identity)] = line
    return list(found.values())


def same_measurement(line):
    """Returns what makes two records the same measurement, or what was measured along with them.

    The attacks that a command lists, and their steps, stand in the command alone. An AdvGAN is what
    it is, however it is measured.
    """
    is_search = line["attack"] != "none" and not line["attack"].startswith("advgan")
    names = ("dataset", "split", "classifier", "purifier", "threat_model", "attack", "epsilon")
    names += ("gradient_mode", "seed", *["command"] * is_search)
    return [line.get(name) for name in names]


def _key(line, identity):
    return json.dumps(identity(line), sort_keys=True)


def _weight(line):
    return line["data_source"] == "tfds", line["n"]
