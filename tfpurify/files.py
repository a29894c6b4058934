"""Files that appear whole or not at all."""

import json
import os
from pathlib import Path


def write_aside(path, content):
    """Writes next to `path`, then renames: a reader sees the old file or the new, never a part.

    Args:
        path: Its folder is made if missing.
        content: str, written as UTF-8, or bytes.

    Raises:
        OSError: If the folder cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        aside.write_bytes(content.encode() if isinstance(content, str) else content)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def read_json_lines(path):
    """Yields `(where, value)` for each line of a JSON lines file.

    Raises:
        ValueError: If a line is damaged; names it.
        OSError: If there is no such file.
    """
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            where = f"{path}, line {number}"
            try:
                yield where, json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{where} must be JSON. Received: {line[:60]!r}") from error


def write_json_lines(path, values):
    """Writes values as JSON, one a line; the file whole or not at all."""
    write_aside(path, "".join(json.dumps(value, allow_nan=False) + "\n" for value in values))
