"""What happens each epoch: checkpoints, image rows, a stop where a loss is not finite."""

import json
import math
import os
import re
import time
from pathlib import Path

import keras
import tensorflow as tf
from absl import logging

from tfpurify.files import write_aside


class EpochCheckpoint(keras.callbacks.Callback):
    """Saves weights and the state of every optimizer each epoch, and restores the last epoch.

    `keras.callbacks.BackupAndRestore` writes weights and epoch into two files in place; a process
    killed in between resumes at the wrong epoch or not at all. Here the epoch is in the file's
    name, and a file appears whole or not at all.

    Args:
        folder: Where the checkpoints live; the last one is kept.
    """

    def __init__(self, folder):
        super().__init__()
        self.folder = Path(folder)

    def _checkpoints(self):
        found = {}
        for path in self.folder.glob("epoch-*.weights.h5"):
            matched = re.fullmatch(r"epoch-(\d+)\.weights\.h5", path.name)
            if matched:
                found[int(matched[1])] = path
        return dict(sorted(found.items()))

    def restore(self, model):
        """Loads the last checkpoint into a compiled model and returns its epoch; 0 if none."""
        checkpoints = self._checkpoints()
        if not checkpoints:
            return 0
        epoch, path = list(checkpoints.items())[-1]
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
        logging.info("Resuming after epoch %d from %s", epoch, path)
        return epoch

    def on_epoch_end(self, epoch, logs=None):
        self.folder.mkdir(parents=True, exist_ok=True)
        older = self._checkpoints().values()
        aside = self.folder / ".writing.weights.h5"
        self.model.save_weights(aside, overwrite=True)
        path = self.folder / f"epoch-{epoch + 1:04d}.weights.h5"
        os.replace(aside, path)
        for old in older:
            if old != path:
                old.unlink()


class KeepBest(keras.callbacks.Callback):
    """Keeps the weights of the epoch with the highest value of a validation metric.

    `keras.callbacks.ModelCheckpoint` forgets the best value when a run goes on; here it is in the
    file beside the weights.

    Args:
        folder: Of the run; the files are in its `checkpoints/`.
        metric: Name without `val_`; None keeps nothing.
    """

    def __init__(self, folder, metric):
        super().__init__()
        self.weights_path = Path(folder) / "checkpoints" / "best.weights.h5"
        self.logs_path = self.weights_path.with_name("best.json")
        self.metric = metric and f"val_{metric}"

    def _best(self):
        return json.loads(self.logs_path.read_text()) if self.logs_path.exists() else {}

    def on_epoch_end(self, epoch, logs=None):
        if self.metric is None or logs[self.metric] <= self._best().get(self.metric, -math.inf):
            return
        self.weights_path.parent.mkdir(parents=True, exist_ok=True)
        aside = self.weights_path.with_name(".best.weights.h5")
        self.model.save_weights(aside, overwrite=True)
        os.replace(aside, self.weights_path)
        best = {"epoch": epoch + 1, **{name: float(value) for name, value in logs.items()}}
        write_aside(self.logs_path, json.dumps(best))

    def restore(self, model, logs):
        """Leaves the model with its best weights and returns their logs; `logs` if none is kept."""
        if self.metric is None or not self.logs_path.exists():
            return logs
        best = self._best()
        model.load_weights(self.weights_path)
        logging.info(
            "Epoch %d is the best: %s = %.4f", best.pop("epoch"), self.metric, best[self.metric]
        )
        return best


class CpuSeconds(keras.callbacks.Callback):
    """Adds `cpu_seconds` to an epoch's logs: processor time of this process since the last one."""

    def on_train_begin(self, logs=None):
        self.before = time.process_time()

    def on_epoch_end(self, epoch, logs=None):
        now = time.process_time()
        logs["cpu_seconds"] = round(now - self.before, 1)
        self.before = now


class StopOnNonFiniteLoss(keras.callbacks.Callback):
    """Raises FloatingPointError as soon as any logged loss is not finite.

    `keras.callbacks.TerminateOnNaN` looks at `loss` alone; AdvGAN and DCGAN have several.
    """

    def on_train_batch_end(self, batch, logs=None):
        for name, value in (logs or {}).items():
            if not math.isfinite(value):
                raise FloatingPointError(
                    f"`{name}` must be finite. Received: {value} at step {batch} of the epoch"
                )


class ImageRow(keras.callbacks.Callback):
    """Draws a row of images for TensorBoard each epoch.

    Args:
        log_dir: TensorBoard's folder.
        images: `(n, height, width, channels)` in [0, 1].
        image_row: Function images -> dictionary of name -> images in [0, 1].
    """

    def __init__(self, log_dir, images, image_row):
        super().__init__()
        self.writer = tf.summary.create_file_writer(os.path.join(log_dir, "images"))
        self.images = images
        self.image_row = image_row

    def on_epoch_end(self, epoch, logs=None):
        rows = {"clean": self.images, **self.image_row(self.images)}
        with self.writer.as_default(step=epoch):
            for name, images in rows.items():
                row = tf.concat(tf.unstack(images[:8]), axis=1)
                tf.summary.image(name, row[None])
        self.writer.flush()


def _first_line(error):
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
