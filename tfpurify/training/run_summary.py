"""What a run says of itself: `summary.json`, and its settings for TensorBoard."""

import csv
import json
import time

import tensorflow as tf
from tensorboard.plugins.hparams import api as hparams

from tfpurify import provenance
from tfpurify.files import write_aside


def write_summary(run, model, logs):
    """Writes command, versions, time and validation figures; a run that was over keeps its own.

    Args:
        run: A `runner.Run`.
        model: Compiled; measured on validation images if `logs` has nothing of them.
        logs: What `run.train` returned.
    """
    path = run.folder / "summary.json"
    if not logs and path.exists():
        return
    validation = {
        name.removeprefix("val_"): value for name, value in logs.items() if name.startswith("val_")
    } or model.evaluate(run.images.validation_batches(), return_dict=True, verbose=0)
    summary = {
        "name": run.name,
        "trainer": run.trainer,
        "command": provenance.command_line(),
        "seed": run.config["seed"],
        "dataset": run.config["dataset"],
        "versions": provenance.versions(),
        "wall_seconds": round(time.time() - run.started, 1),
        "cpu_seconds": _cpu_seconds(run.folder),
        "resumed_after_epoch": run.resumed_after_epoch,
        "validation": validation,
    }
    write_aside(path, json.dumps(summary, indent=2, sort_keys=True) + "\n")


def _cpu_seconds(folder):
    """Returns the processor time of all epochs, also before a pause; None if unknown."""
    rows = []
    for path in folder.glob("**/history.csv"):
        with open(path, newline="", encoding="utf-8") as file:
            rows += csv.DictReader(file)
    try:
        return round(sum(float(row["cpu_seconds"]) for row in rows), 1)
    except (KeyError, TypeError, ValueError):  # written without it, or cut off by a full disk
        return None


def write_hparams(log_dir, run):
    """Writes a run's settings where TensorBoard compares runs by them."""
    with tf.summary.create_file_writer(log_dir).as_default():
        hparams.hparams(
            {
                name: value if isinstance(value, (int, float, str, bool)) else str(value)
                for name, value in run.config.items()
            },
            trial_id=run.name,
        )
