"""Files that appear whole or not at all."""

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
