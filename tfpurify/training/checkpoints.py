"""A run's checkpoints: a file appears whole or not at all, and a damaged one is known as such.

The name of each has the digest of what is in it: `STEM-DIGEST.weights.h5`.
"""

import hashlib
import json
import math
import os
import re
import shutil
from pathlib import Path

import keras
import tensorflow as tf
from absl import logging

from tfpurify.files import write_aside

_HEADERS = 2**20  # bytes, more than HDF5's own


class EpochCheckpoint(keras.callbacks.Callback):
    """Saves weights and the state of every optimizer each epoch, and restores the last epoch.

    `keras.callbacks.BackupAndRestore` writes weights and epoch into two files in place; a process
    killed in between resumes at the wrong epoch or not at all. Here the epoch is in the file's
    name.

    Args:
        folder: Where the checkpoints live; the last two are kept.
    """

    def __init__(self, folder):
        super().__init__()
        self.folder = Path(folder)
        self.last = None

    def _checkpoints(self):
        """Returns pairs of epoch and path, the last first."""
        found = []
        for path in self.folder.glob("epoch-*.weights.h5"):
            matched = re.match(r"epoch-(\d+)-", path.name)
            if matched:
                found.append((int(matched[1]), path))
        return sorted(found, reverse=True)

    def last_epoch(self):
        """Returns the epoch of the last checkpoint; 0 if there is none."""
        return max((epoch for epoch, _ in self._checkpoints()), default=0)

    def restore(self, model):
        """Loads the last whole checkpoint into a compiled model and returns its epoch; 0 if none.

        Raises:
            ValueError: If there are checkpoints and all are damaged, or one does not fit the model.
        """
        checkpoints = self._checkpoints()
        for epoch, path in checkpoints:
            if is_whole(path):
                self._load(model, path)
                self.last = path
                logging.info("Resuming after epoch %d from %s", epoch, path)
                return epoch
            logging.warning("%s is damaged and is not used", path)
        if checkpoints:
            names = ", ".join(path.name for _, path in checkpoints)
            raise ValueError(
                f"{self.folder} must hold a whole checkpoint to go on from. Received: {names}, "
                "damaged. Start over with --noresume"
            )
        return 0

    def _load(self, model, path):
        optimizer = getattr(model, "optimizer", None)
        if optimizer is not None and not optimizer.built:
            optimizer.build(model.trainable_variables)
        try:
            model.load_weights(path)
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(
                f"The checkpoint must fit the model. Received: {path} ({_first_line(error)}). "
                "Start over with --noresume, or remove the file"
            ) from error

    def on_epoch_end(self, epoch, logs=None):
        path = _save_weights(self.model, self.folder, f"epoch-{epoch + 1:04d}")
        for _, older in self._checkpoints():
            if older not in (path, self.last):
                older.unlink()
        self.last = path


class KeepBest(keras.callbacks.Callback):
    """Keeps the weights of the epoch with the highest value of a validation metric.

    `keras.callbacks.ModelCheckpoint` forgets the best value when a run goes on; here it is in
    `best.json`, which names the file of the weights.

    Args:
        folder: Of the run; the files are in its `checkpoints/`.
        metric: Name without `val_`; None keeps nothing.
    """

    def __init__(self, folder, metric):
        super().__init__()
        self.folder = Path(folder) / "checkpoints"
        self.path = self.folder / "best.json"
        self.metric = metric and f"val_{metric}"

    def _best(self):
        """Returns `file`, `epoch` and `logs` of the best epoch, or None.

        Raises:
            ValueError: If what was kept is damaged.
        """
        # A kill may part the two before the first epoch's checkpoint, never after it.
        is_lost = any(self.folder.glob("best-*")) and any(self.folder.glob("epoch-*"))
        if not self.path.exists() and not is_lost:
            return None
        try:
            best = json.loads(self.path.read_text(encoding="utf-8"))
            is_damaged = not is_whole(self.folder / best["file"])
        except (OSError, ValueError, KeyError, TypeError):
            is_damaged = True
        if is_damaged:
            raise ValueError(
                f"{self.path} and the weights that it names must be whole. Received: damaged. "
                "Start over with --noresume, or remove the file: then the best of the epochs to "
                "come is kept"
            )
        return best

    def on_train_begin(self, logs=None):
        if self.metric is not None:
            self._best()

    def on_epoch_end(self, epoch, logs=None):
        if self.metric is None:
            return
        before = self._best()
        if before is not None and logs[self.metric] <= before["logs"].get(self.metric, -math.inf):
            return
        path = _save_weights(self.model, self.folder, "best")
        values = {name: float(value) for name, value in logs.items()}
        write_aside(self.path, json.dumps({"file": path.name, "epoch": epoch + 1, "logs": values}))
        for older in self.folder.glob("best-*.weights.h5"):
            if older != path:
                older.unlink()

    def restore(self, model, logs):
        """Leaves the model with its best weights and returns their logs; `logs` if none is kept.

        Raises:
            ValueError: If what was kept is damaged.
        """
        best = None if self.metric is None else self._best()
        if best is None:
            return logs
        model.load_weights(self.folder / best["file"])
        value = best["logs"][self.metric]
        logging.info("Epoch %d is the best: %s = %.4f", best["epoch"], self.metric, value)
        return best["logs"]


def _save_weights(model, folder, stem):
    """Writes a model's weights and its optimizers' state; returns the file's path.

    Raises:
        OSError: If the folder cannot be written; nothing is left in it then.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _require_space(model, folder)
    aside = folder / f".{stem}.weights.h5"
    try:
        model.save_weights(aside, overwrite=True)
        path = folder / f"{stem}-{_digest(aside)}.weights.h5"
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
    return path


def _require_space(model, folder):
    """Raises OSError where a model's weights do not fit: HDF5 crashes on a disk that gets full."""
    variables = [*model.variables, *optimizer_variables(model)]
    sizes = (math.prod(one.shape) * tf.as_dtype(one.dtype).size for one in variables)
    needed = _HEADERS + sum(sizes)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(
            f"{folder} must have {needed / 1e6:.1f} MB free for a checkpoint. "
            f"Received: {free / 1e6:.1f} MB"
        )


def optimizer_variables(model):
    """Returns the variables of all optimizers of a model, however many it has."""
    owners = [value for key, value in vars(model).items() if key.endswith("optimizer")]
    return [one for owner in owners if owner is not None for one in owner.variables]


def is_whole(path):
    """Returns whether a file is what its name says."""
    return path.name.endswith(f"-{_digest(path)}.weights.h5")


def _digest(path):
    """Returns the first 64 bits of a file's SHA-256: enough against accidents."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _first_line(error):
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
