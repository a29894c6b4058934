"""A run's folder: who may write there, and with which settings the run was begun."""

import csv
import json
import os
import shutil
from pathlib import Path

from tfpurify.files import claim, write_aside
from tfpurify.training import configuration

_CONFIG = "config.json"
_LOCK = ".lock"


def require_writable(folder):
    """Checks, without writing, that a folder is there or can be made."""
    parent = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise _not_writable(folder, f"{parent} is no folder that can be written")


def finished_run(run):
    """Returns the folder of a finished run; raises ValueError if it is none."""
    if not run:
        raise ValueError("`run` must be a run's folder, runs/NAME. Received: nothing")
    folder = Path(run)
    missing = [
        name
        for name in ("config.json", "summary.json", "model.keras")
        if not (folder / name).exists()
    ]
    if missing:
        raise ValueError(f"`run` must be a finished run. Received: {run} without {missing}")
    return folder


def begin(folder, config):
    """Claims the folder for this process, empties it if the run starts over, and says of what.

    Args:
        folder: The run's.
        config: All of its settings; `resume` among them.

    Raises:
        OSError: If another process has it, or it cannot be written.
    """
    claim(folder / _LOCK)
    try:
        if not config["resume"] and (folder / _CONFIG).exists():
            _empty(folder)
        write_aside(folder / _CONFIG, json.dumps(config, indent=2, sort_keys=True) + "\n")
    except OSError as error:
        raise _not_writable(folder, error.strerror) from error


def _empty(folder):
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != _LOCK:
            path.unlink()


def has_checkpoints(folder):
    return any(folder.glob("**/checkpoints/[!.]*.weights.h5"))


def require_same_config(folder, config):
    """Refuses to go on with a run that was started with other settings."""
    if not has_checkpoints(folder):
        return
    path = folder / _CONFIG
    if not path.exists():
        raise ValueError(
            f"{path} must be there to go on with the checkpoints beside it: nothing else says "
            "how they were trained. Start over with --noresume"
        )
    try:
        before = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path} must be JSON to go on with the run. Received: {error}. "
            "Start over with --noresume"
        ) from error
    changed = configuration.changed(before, config)
    changed.pop("epochs", None)  # a run may go on for longer
    if changed:
        raise ValueError(
            f"{folder} must hold a run with these settings to go on with it. Received: "
            f"{changed} (before, now). Start over with --noresume, or give another --name"
        )


def require_chief_s_config(folder, config):
    """Checks that a worker trains what the chief trains, and reads where the chief writes."""
    path = folder / _CONFIG
    if not path.exists():
        raise ValueError(
            "`output_dir` must be a folder that all workers share. "
            f"Received: {folder}, without the chief's {path.name}"
        )
    changed = configuration.changed(json.loads(path.read_text()), config)
    if changed:
        raise ValueError(
            "All workers must be started with the same options. "
            f"Received: {changed} (the chief's, this worker's)"
        )


def require_same_epoch(folder, epochs):
    """Checks that all workers found the same last checkpoint; `epochs` has one for each."""
    if len(set(epochs)) > 1:
        raise ValueError(
            "`output_dir` must show the same checkpoints to all workers. "
            f"Received: {folder}, with checkpoints of the epochs {epochs} by worker"
        )


def cut_history(path, epochs):
    """Drops from `keras.callbacks.CSVLogger`'s file what comes after so many whole epochs."""
    if not path.exists():
        return
    text = path.read_text(encoding="utf-8")
    whole, _, _ = text.rpartition("\n")  # what has no end was cut off
    header, *rows = list(csv.reader(whole.splitlines())) or [[]]
    kept = [header, *(row for row in rows if int(row[0]) < epochs)]
    cut = "".join(",".join(row) + "\n" for row in kept if row)
    if cut != text:
        write_aside(path, cut)


def _not_writable(folder, reason):
    return OSError(f"`output_dir` must be a writable folder. Received: {folder} ({reason})")
