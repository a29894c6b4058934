"""Where a number comes from: the command that made it, and the versions that it depends on."""

import shlex
import sys
from pathlib import Path

# Flags that say where a machine keeps its files, and nothing about a number.
_PLACES = ("data_dir", "output_dir", "results_file", "zoo_dir")


def command_line():
    """Returns the command that started this process, free of the folder it was started from."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if spec is not None:
        return shlex.join(["python", "-m", spec.name.removesuffix(".__main__"), *sys.argv[1:]])
    return shlex.join(["python", Path(sys.argv[0]).name, *sys.argv[1:]])


def versions():
    """Returns the versions that a number depends on, by package name."""
    import keras
    import numpy as np
    import tensorflow as tf

    import tfpurify

    return {
        "python": ".".join(map(str, sys.version_info[:3])),
        "tfpurify": tfpurify.__version__,
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
    }


def portable_command(command):
    """Returns a command without what only says where this machine keeps its files."""
    kept, words = [], iter(shlex.split(command))
    for word in words:
        name, has_value, _ = word.lstrip("-").partition("=")
        if word.startswith("-") and name in _PLACES:
            if not has_value:
                next(words, "")
            continue
        kept.append(word)
    return shlex.join(kept)
