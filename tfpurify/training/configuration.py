"""A run's whole configuration: the preset, what was given over it, and whether that makes sense."""

import math
import os
import re

from tfpurify.training import presets
from tfpurify.vocabulary import CLASSIFIERS, DATASETS, DISTRIBUTIONS

# Settings that decide no number of a model, or none that matters: a run may go on with more or
# fewer devices. Which images it saw says the run's `source`.
_NO_NUMBER = frozenset(
    (
        *("data_dir", "data_source", "distribution", "eval_examples", "output_dir", "resume"),
        "trainer",
    )
)

_COUNTS = (
    *("epochs", "batch_size", "train_steps", "steps_per_epoch", "num_steps", "num_restarts"),
    *("validation_examples", "eval_examples"),
)


def resolve(trainer, overrides):
    """Returns a run's whole configuration: the preset, and what was given over it.

    Args:
        trainer: `classifier`, `puvae`, `defensegan` or `advgan`.
        overrides: Options by flag name; None means not given.

    Raises:
        ValueError: If an option is unknown or out of range, or two exclude each other.
        TypeError: If an option is of another type than its flag.
    """
    given = {name: value for name, value in (overrides or {}).items() if value is not None}
    dataset = given.get("dataset", presets.COMMON["dataset"])
    _require_choice("dataset", dataset, DATASETS)
    config = {**presets.COMMON, "dataset": dataset, **presets.PRESETS[trainer](dataset, given)}
    unknown = sorted(set(given) - set(config))
    if unknown:
        raise ValueError(
            f"Options of the {trainer} trainer are {sorted(config)}. Received: {unknown}"
        )
    _require_types(config, given)
    config |= given
    _require_choice("classifier", config["classifier"], CLASSIFIERS)
    _require_choice("distribution", config["distribution"], DISTRIBUTIONS)
    if trainer == "classifier":
        _require_choice("optimizer", config["optimizer"], ("adamw", "sgd"))
    if "steps_per_epoch" in given and "epochs" not in given:
        raise ValueError(
            "`steps_per_epoch` changes what an epoch is, so it needs `epochs`. "
            f"Received: steps_per_epoch={config['steps_per_epoch']}, epochs=None"
        )
    for name in _COUNTS:
        if config.get(name) is not None and config[name] < 1:
            raise ValueError(f"`{name}` must be >= 1. Received: {name}={config[name]}")
    for name, value in config.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"`{name}` must be finite. Received: {name}={value}")
    require_name(config["name"])
    if trainer == "advgan":
        _check_threat_model(config, given)
    return config


def require_name(name):
    """Refuses what is no name of a folder within the output's; None, the usual one, passes."""
    if name is not None and not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
        raise ValueError(
            "`name` must be letters, digits, '.', '_' and '-', and start with one of the first "
            f"two. Received: name={name!r}"
        )


def _require_choice(name, value, choices):
    if value not in choices:
        raise ValueError(f"`{name}` must be one of {list(choices)}. Received: {name}={value!r}")


def _require_types(preset, given):
    """Refuses what no flag would have let through; TFX's `custom_config` never was a flag."""
    for name, value in given.items():
        kind = int if name in _COUNTS else type(preset[name])
        accepted = {float: (int, float), str: (str, os.PathLike), type(None): object}
        is_right = isinstance(value, accepted.get(kind, kind))
        # Python takes True for 1.
        if not is_right or (kind in (int, float) and isinstance(value, bool)):
            raise TypeError(f"`{name}` must be of type {kind.__name__}. Received: {name}={value!r}")


def _check_threat_model(config, given):
    if config["whitebox"] and config["blackbox"] != "none":
        raise ValueError(
            "`whitebox` and `blackbox` exclude each other: the attacker knows everything or "
            f"nothing. Received: whitebox=True, blackbox={config['blackbox']!r}"
        )
    if not 0 < config["epsilon"] <= 1:
        raise ValueError(f"`epsilon` must be in (0, 1]. Received: epsilon={config['epsilon']}")
    if "target_class" in given and not config["targeted"]:
        raise ValueError(
            "`target_class` needs `targeted`. "
            f"Received: target_class={config['target_class']}, targeted=False"
        )
    is_through_purifier = config["whitebox"] and config["defense"] != "none"
    if "gradient_mode" in given and not is_through_purifier:
        raise ValueError(
            "`gradient_mode` needs `whitebox` and a `defense`: only then does a gradient cross a "
            f"purifier. Received: whitebox={config['whitebox']}, defense={config['defense']!r}"
        )


def changed(before, now):
    """Returns the settings that make another model of the same run: its name -> (before, now).

    Args:
        before: A run's configuration, as its `config.json` has it.
        now: The configuration asked for.
    """
    return {
        name: (before.get(name), now.get(name))
        for name in sorted({*before, *now} - _NO_NUMBER)
        if before.get(name) != now.get(name)
    }
