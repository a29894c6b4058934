"""One training in a process of its own, of as many steps as fit into its time."""

import subprocess
import sys
import time
from pathlib import Path

from absl import logging

from tfpurify.evaluation.retraining import is_finished, subprocess_environment
from tfpurify.evaluation.step_speed import seconds_per_step
from tfpurify.purifiers.purified_classifier import PurifiedClassifier
from tfpurify.training import configuration, presets, trained_parts

_STARTING_SECONDS = 25.0  # imports, graphs, and the record and the bundle at the end
_SLOWER = 1.15  # than the steps that were timed: checkpoints and validation
_FEWEST_STEPS = 50
_EPOCHS = 10  # after each of which a training is saved
_MEASURED = {"validation_examples": 200, "eval_examples": 200}


def train_within(part, seconds, place, architecture, log_folder):
    """Trains a part; a run that was begun goes on with the steps that it was begun with.

    Args:
        part: A `Part`.
        seconds: What it may take, its start and its end included.
        place: The trainer's `data_dir`, `data_source`, `seed` and `output_dir`, and whatever else
            it is told.
        architecture: Name of the classifier.
        log_folder: Where its output is kept.

    Raises:
        ChildProcessError: If the training fails.
    """
    folder = Path(place["output_dir"]) / "runs" / part.name
    place = {name: value for name, value in place.items() if value is not None}
    if (folder / "config.json").exists():
        begun = trained_parts.describe(part.name, place["output_dir"])
        names = {*_planned(part, dict(part.options), 1), *place, "mixed_precision"}
        options = {name: begun[name] for name in names}
    else:
        given = {**dict(part.options), **place}
        steps, is_mixed = _steps(part, given, seconds, place["output_dir"], architecture)
        options = {**_planned(part, given, steps), **place, "mixed_precision": is_mixed}
    log = Path(log_folder) / f"{part.name}.log"
    named = {name for name, _ in part.options}
    arguments = part.arguments + [
        f"--{name}={value}" for name, value in options.items() if name not in named
    ]
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "a", encoding="utf-8") as file:
        status = subprocess.run(
            [sys.executable, *arguments],
            env=subprocess_environment(),
            stdout=file,
            stderr=subprocess.STDOUT,
            check=False,
        ).returncode
    if status or not is_finished(folder):
        last = log.read_text(encoding="utf-8").strip().splitlines()[-1:]
        raise ChildProcessError(
            f"Training {part.name} must succeed. Received: exit status {status}, "
            f"{last[0] if last else 'no word'} ({log}). The same command line goes on"
        )


def _planned(part, given, steps):
    """Returns the options that make a training of so many steps."""
    options = {"epochs": _EPOCHS, "steps_per_epoch": -(-steps // _EPOCHS), **_MEASURED}
    if part.trainer == "puvae":
        config = configuration.resolve(part.trainer, given)
        usual = config["classification_warmup_steps"]
        options["classification_warmup_steps"] = min(usual, steps // 4)
        if config["adversarial"]:
            options["epsilon_warmup_steps"] = min(config["epsilon_warmup_steps"], steps // 4)
    if part.trainer == "advgan" and dict(part.options).get("defense", "none") != "none":
        options["warm_start"] = True
    return options


def _steps(part, given, seconds, output_dir, architecture):
    """Returns how many steps fit, at most those of the preset, and whether bfloat16 is faster."""
    started = time.monotonic()
    config = configuration.resolve(part.trainer, given)
    target = trained_parts.load_classifier(config["dataset"], output_dir, architecture)
    if config.get("defense", "none") != "none":
        names = ("num_steps", "num_restarts")
        descent = {name: config[name] for name in names if config[name] is not None}
        if not config["defense"].startswith("defensegan"):
            descent = {}
        purifier = trained_parts.load_purifier(
            config["defense"], config["dataset"], output_dir, **descent
        )
        target = PurifiedClassifier(purifier, target, config["gradient_mode"])
        target.build()
    step, is_mixed = seconds_per_step(part.trainer, given, target), config["mixed_precision"]
    if part.trainer == "puvae" and not is_mixed:
        # Three times as fast where the processor multiplies in bfloat16, slower elsewhere.
        reduced = seconds_per_step(part.trainer, {**given, "mixed_precision": True}, target)
        step, is_mixed = min((step, False), (reduced, True))
    spent = time.monotonic() - started
    most = presets.usual_steps(config)
    steps = int((seconds - spent - _STARTING_SECONDS) / (_SLOWER * step))
    steps = max(min(steps, most), _FEWEST_STEPS)
    logging.info("%s: %d steps of %.2f s", part.name, steps, step)
    return steps, is_mixed
