"""Files that appear whole or not at all, and folders that one process at a time writes."""

import contextlib
import fcntl
import hashlib
import json
import os
from pathlib import Path


@contextlib.contextmanager
def aside(path):
    """Gives a hidden path next to `path` to write to; what is there takes its place at the end.

    Args:
        path: Its folder is made if missing. It stays as it was if the block raises.

    Raises:
        OSError: If the folder cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    hidden = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield hidden
        os.replace(hidden, path)
    finally:
        hidden.unlink(missing_ok=True)


def write_aside(path, content):
    """Writes next to `path`, then renames: a reader sees the old file or the new, never a part.

    Args:
        path: As in `aside`.
        content: str, written as UTF-8, or bytes.
    """
    with aside(path) as hidden:
        hidden.write_bytes(content.encode() if isinstance(content, str) else content)


def claim(path):
    """Takes a lock that other processes are refused until this one ends, however it ends.

    A process may take it again and again.

    Args:
        path: Of the lock's file, which stays; its folder is made if missing.

    Raises:
        OSError: If another process has it, or its folder cannot be written.
    """
    path = Path(path).absolute()
    if path in _claims:
        if path.exists() and os.path.samestat(os.stat(path), os.fstat(_claims[path])):
            return
        os.close(_claims.pop(path))  # deleted with its folder
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise OSError(
            f"One process at a time may write here. Received: another process has {path}"
        ) from error
    _claims[path] = descriptor  # closing it drops the lock


_claims = {}


def claim_beside(path):
    """Claims a file by a lock `.NAME.lock` beside it."""
    path = Path(path)
    claim(path.with_name(f".{path.name}.lock"))


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


def digest(path):
    """Returns the SHA-256 of a file, or of all files of a folder with their names.

    Links are followed, and hidden files left out.

    Args:
        path: The file or the folder.
    """
    path = Path(path)
    found = hashlib.sha256()
    files = [path]
    if path.is_dir():
        walked = os.walk(path, followlinks=True)
        files = sorted(Path(folder) / name for folder, _, names in walked for name in names)
    for file in files:
        if file.is_file() and not file.name.startswith("."):
            found.update(str(file.relative_to(path)).encode())
            found.update(file.read_bytes())
    return found.hexdigest()
