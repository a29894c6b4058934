"""Trainings in processes of their own, which are killed, starved of disk and raced."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

_LIMIT_SECONDS = 600
_ARGUMENTS = (
    "--dataset=mnist",
    "--data_source=embedded",
    "--epochs=6",
    "--steps_per_epoch=20",
    "--batch_size=32",
    "--validation_examples=250",
    "--eval_examples=2",
    "--num_steps=2",
    "--num_restarts=1",
)
NAME = "dcgan_mnist"  # of the run; it has two optimizers


def command(folder, trainer="defensegan", arguments=_ARGUMENTS):
    """Returns the command line of a short training."""
    return [sys.executable, "-m", f"trainers.{trainer}", *arguments, f"--output_dir={folder}"]


def train(folder, **more):
    """Trains to the end; returns the process, whose `returncode` and `stderr` tell how it ended."""
    return subprocess.run(
        command(folder, **more),
        capture_output=True,
        text=True,
        timeout=_LIMIT_SECONDS,
        check=False,
    )


def train_and_kill(folder, seconds=_LIMIT_SECONDS, epoch=None):
    """Trains for so many seconds, or until an epoch begins, and kills.

    Args:
        folder: Of the output.
        seconds: Until the kill.
        epoch: Whose beginning is the moment, if it comes before; counted from 1.

    Returns:
        The number of epochs that had ended by then, None if all had and the process too.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "killed.log"
    told = {**os.environ, "PYTHONUNBUFFERED": "1"}  # what it has printed is all that it tells
    with open(path, "w", encoding="utf-8") as log:
        process = subprocess.Popen(command(folder), stdout=log, stderr=subprocess.STDOUT, env=told)
        end = time.monotonic() + seconds
        while time.monotonic() < end and (epoch is None or _begun(path) < epoch):
            if process.poll() is not None:
                return None
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    return max(1, _begun(path)) - 1


def _begun(log):
    """Returns the last epoch that a training's log tells of; 0 if none."""
    epochs = re.findall(r"^Epoch (\d+)/", log.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return max(map(int, epochs), default=0)


def weights(folder, name=NAME):
    """Returns what a run's `model.keras` holds, its optimizers' state included, as arrays."""
    from tfpurify import load_model
    from tfpurify.training import checkpoints

    model = load_model(folder / "runs" / name / "model.keras")
    state = checkpoints.optimizer_variables(model)
    return [variable.numpy() for variable in (*model.weights, *state)]  # no seeds: none is saved


def summary(folder, name=NAME):
    """Returns a run's `summary.json`."""
    return json.loads((folder / "runs" / name / "summary.json").read_text(encoding="utf-8"))


def half_written(folder):
    """Returns the files of an output folder that are neither whole nor logs that were cut off."""
    from tfpurify.training import checkpoints

    found = []
    for path in Path(folder).rglob("*"):
        if path.name.startswith("."):
            is_bad = path.name != ".lock"
        elif path.name.endswith(".weights.h5"):
            is_bad = not checkpoints.is_whole(path)
        elif path.suffix == ".keras":
            is_bad = _is_damaged_archive(path)
        else:
            is_bad = path.suffix == ".json" and not _is_json(path)
        found += [path] if is_bad else []
    return found


def _is_damaged_archive(path):
    import zipfile

    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is not None
    except zipfile.BadZipFile:
        return True


def _is_json(path):
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return True


def errors(process):
    """Returns the lines that a user is told an error in, and whether there is a traceback."""
    lines = [line for line in process.stderr.splitlines() if line.startswith("error: ")]
    return lines, "Traceback" in process.stderr


def race(folder):
    """Starts a second training of a run that is under way; returns both processes' endings."""
    first = subprocess.Popen(command(folder), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + _LIMIT_SECONDS
        while not (folder / "runs" / NAME / "config.json").exists():
            if first.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("The first training did not start")
            time.sleep(0.1)
        second = train(folder)
        return first.wait(timeout=_LIMIT_SECONDS), second
    finally:
        first.kill()
        first.wait()
