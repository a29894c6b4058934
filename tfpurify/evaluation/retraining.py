"""Trains what the tables need, one process per part, so that memory is returned in between."""

import json
import os
import subprocess
import sys
from pathlib import Path

from absl import logging

from tfpurify.data import loading
from tfpurify.evaluation import experiments
from tfpurify.training import configuration

# Handed on to every trainer, where given.
_SHARED = ("data_source", "data_dir", "output_dir", "seed", "train_steps")


def retrain(dataset, options):
    """Runs a data set's trainers in order; what is finished is skipped, the rest goes on.

    Args:
        dataset: Name of the data set.
        options: `reproduce`'s flags.

    Raises:
        ChildProcessError: If a training fails.
        ValueError: If a finished run was trained with other settings or from other images.
    """
    parts = list(experiments.parts(dataset, options["transfer"]).values())
    shared = [(name, options[name]) for name in _SHARED if options[name] is not None]
    source = loading.resolve_source(dataset, options["data_dir"], options["data_source"])
    for index, part in enumerate(parts, start=1):
        folder = Path(options["output_dir"]) / "runs" / part.name
        if is_finished(folder):
            _require_same_run(folder, part, dict(shared), source)
            logging.info("[%d/%d] %s is already trained", index, len(parts), part.name)
            continue
        logging.info("[%d/%d] %s: %s", index, len(parts), part.name, part.command)
        arguments = part.arguments + [f"--{name}={value}" for name, value in shared]
        # Progress bars go to stderr, so that stdout holds the tables alone.
        status = subprocess.run(
            [sys.executable, *arguments],
            env=subprocess_environment(),
            stdout=sys.stderr,
            check=False,
        ).returncode
        if status or not is_finished(folder):
            raise ChildProcessError(
                f"Training {part.name} must succeed. Received: exit status {status} of "
                f"`{part.command}`. The same command line goes on where it stopped"
            )


def is_finished(folder):
    """Says whether a run's folder holds a trained model and its summary."""
    return all((folder / name).exists() for name in ("summary.json", "model.keras"))


def _require_same_run(folder, part, shared, source):
    """Refuses a finished run that is not what its part's command would train now."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    expected = configuration.resolve(part.trainer, {**dict(part.options), **shared})
    changed = configuration.changed(config, {**expected, "source": source})
    if changed:
        name, (before, now) = next(iter(changed.items()))
        raise ValueError(
            f"`output_dir` must hold runs of the settings asked for. Received: {name}={now}, and a "
            f"finished run in {folder} with {name}={before}. Remove that folder, or name another "
            "output_dir"
        )


def subprocess_environment():
    """Returns the environment with this copy of the packages in front."""
    root = str(Path(__file__).resolve().parents[2])
    before = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([root, before] if before else [root])}
