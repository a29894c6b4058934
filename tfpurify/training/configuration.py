"""A run's whole configuration: the preset, what was given over it, and whether that makes sense."""

import re

from tfpurify.data import own
from tfpurify.training import own_classifier, presets
from tfpurify.training.options import OPTIONS

# Settings that decide no number of a model, or none that matters: a run may go on with more or
# fewer devices. Which images it saw says the run's `source`.
_NO_NUMBER = {"data_dir", "data_source", "distribution", "eval_examples", "output_dir", "resume"}
_NO_NUMBER |= {"trainer"}


def resolve(trainer, overrides):
    """Returns a run's whole configuration: the preset, and what was given over it.

    Args:
        trainer: One of `options.OPTIONS`.
        overrides: Options by flag name; None means not given.

    Raises:
        ValueError: If an option is unknown or out of range, or two exclude each other.
        TypeError: If an option is of another type than its flag.
    """
    given = {name: value for name, value in (overrides or {}).items() if value is not None}
    for name, value in given.items():
        if name in OPTIONS[trainer]:
            OPTIONS[trainer][name].check(value)
    dataset = given.get("dataset", presets.COMMON["dataset"])
    given["dataset"] = own.register(dataset, given.get("image_size"), given.get("data_dir"))
    classifier = own_classifier.register(given)
    given |= {"classifier": classifier} if classifier is not None else {}
    config = presets.preset_of(trainer, given["dataset"], given)
    unknown = sorted(set(given) - set(config))
    if unknown:
        raise ValueError(
            f"Options of the {trainer} trainer are {sorted(config)}. Received: {unknown}"
        )
    config |= given
    if own_classifier.is_own(config["classifier"]):
        config |= own_classifier.described(config["classifier"])
    if "steps_per_epoch" in given and "epochs" not in given:
        raise ValueError(
            "`steps_per_epoch` changes what an epoch is, so it needs `epochs`. "
            f"Received: steps_per_epoch={config['steps_per_epoch']}, epochs=None"
        )
    if not 0 < config.get("epsilon", 1) <= 1:
        raise ValueError(f"`epsilon` must be in (0, 1]. Received: epsilon={config['epsilon']}")
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


def _check_threat_model(config, given):
    if config["whitebox"] and config["blackbox"] != "none":
        raise ValueError(
            "`whitebox` and `blackbox` exclude each other: the attacker knows everything or "
            f"nothing. Received: whitebox=True, blackbox={config['blackbox']!r}"
        )
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
