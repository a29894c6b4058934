"""Attacks on a trained defence at several budgets: what `trainers.attack` does."""

import math
from pathlib import Path

from absl import logging

from tfpurify.arguments import parse_epsilon
from tfpurify.attacks.worst_case import WorstCase
from tfpurify.data import loading
from tfpurify.evaluation import diagnostics, records
from tfpurify.evaluation.attack_measurement import is_mean_squared, measure_attack
from tfpurify.evaluation.attack_sheet import make_sheet
from tfpurify.evaluation.attacks_by_name import (
    PUBLISHED_MEAN_SQUARED,
    Settings,
    make_attacks,
    require_names,
)
from tfpurify.evaluation.defences import load_defence
from tfpurify.evaluation.trained_advgans import load_advgans
from tfpurify.vocabulary import DEFAULT_ATTACKS, GRADIENT_MODES, STUDY_EPSILON


def attack_trained_defence(options, show, draw=None):
    """Attacks a defence once for each epsilon, and writes down what comes out.

    Args:
        options: `trainers.attack`'s flags by name.
        show: Function of a record, called as soon as it is measured.
        draw: Function of `ImageRow`s: images of the first budget, to look at. None: none are made.

    Returns:
        The records, with the flags that they raise beside each other.

    Raises:
        ValueError: If an attack or a mode is unknown, a part is not trained, or a gradient is dead.
    """
    names = list(options["attack"] or DEFAULT_ATTACKS[options["threat_model"]])
    dataset = options["dataset"]
    require_names(names, options["threat_model"])
    usual = PUBLISHED_MEAN_SQUARED if is_mean_squared(names) else STUDY_EPSILON
    epsilons = [parse_epsilon(word) for word in options["epsilon"] or [usual]]
    folder, architecture = options["output_dir"], options["classifier"]
    swept = _purifier_settings(options)
    source = loading.resolve_source(dataset, options["data_dir"], options["data_source"])
    images = loading.load_dataset(dataset, options["split"], options["data_dir"], source)
    batches = images.take(options["limit"]).batch(options["batch_size"])
    found, lines = [], []
    for changes in swept:
        defence = load_defence(
            dataset,
            options["defense"],
            options["threat_model"],
            folder,
            architecture,
            run=options["purifier_run"],
            **changes,
        )
        modes = _modes(options, defence)
        words = [options["purifier_run"] or options["defense"]]
        words += [f"{name}={value}" for name, value in changes.items()]
        for epsilon in epsilons:
            advgans = None
            if "advgan" in names:
                advgans = load_advgans(defence, epsilon, folder, options["advgans"], architecture)
            numbers = ("num_steps", "num_restarts", "num_draws", "seed", "soft_candidates")
            record, line = measure_attack(
                defence,
                names,
                Settings(epsilon, **{name: options[name] for name in numbers}),
                batches,
                modes=modes,
                advgans=advgans,
                is_diagnosed=options["diagnose"],
                data_source=source,
                split=options["split"],
                classifier=architecture or loading.get_spec(dataset).default_classifier,
                purifier=" ".join(words),
            )
            found.append(record)
            lines += [line] if line is not None else []
            if options["results_file"]:
                _write(Path(options["results_file"]), found, line)
            else:
                found = diagnostics.with_derived_checks(found, lines)
            for flag in set(found[-1]["checks"]).difference(record["checks"]):
                logging.warning("Check raised: %s", flag)
            show(found[-1])
            if draw is not None and len(found) == 1:
                models = advgans.models if advgans is not None else {}
                settings = Settings(epsilon, **{name: options[name] for name in numbers})
                attacks = make_attacks(names, defence, settings, modes, models)
                draw(make_sheet(defence, batches, WorstCase(attacks, defence.served)))
    return found


def _purifier_settings(options):
    """Returns what is changed of the purifier, a dictionary for each point; one empty if nothing.

    A purifier with changes is called by them in its records, so that no point replaces another.
    """
    noises, descents, name = options["noise_scales"], options["descents"], options["defense"]
    if noises and not name.startswith("puvae"):
        raise ValueError(f"`noise_scales` needs a PuVAE. Received: defense={name!r}")
    if descents and not name.startswith("defensegan"):
        raise ValueError(f"`descents` needs a DefenseGAN. Received: defense={name!r}")
    try:
        if noises:
            scales = [float(noise) for noise in noises]
            if not all(0 <= scale < math.inf for scale in scales):
                raise ValueError
            return [{"noise_scale": scale} for scale in scales]
        pairs = [map(int, descent.split("x")) for descent in descents]
        found = [{"num_steps": steps, "num_restarts": starts} for steps, starts in pairs]
        if any(number < 1 for point in found for number in point.values()):
            raise ValueError
        return found or [{}]
    except ValueError:
        raise ValueError(
            "`noise_scales` must be numbers >= 0, and `descents` steps x starts, as in 200x10. "
            f"Received: {noises or descents}"
        ) from None


def _modes(options, defence):
    """Returns the gradient modes that were asked for, or None for all that the defence has."""
    asked = options["gradient_mode"]
    if not asked:
        return None
    if not defence.is_crossed:
        raise ValueError(
            "`gradient_mode` needs a `defense` that the attacker knows. "
            f"Received: defense={options['defense']!r}, threat_model={options['threat_model']!r}"
        )
    choices = (*GRADIENT_MODES, "strongest")
    unknown = sorted(set(asked) - set(choices))
    if unknown:
        raise ValueError(f"`gradient_mode` must be among {list(choices)}. Received: {unknown}")
    return None if "strongest" in asked else tuple(asked)


def _write(path, found, line):
    """Writes the run's records with the flags that they and those on file raise beside them."""
    lines_path = path.with_name(diagnostics.ATTACKS_FILE)
    if line is not None:
        diagnostics.update_diagnostics(lines_path, [line])
    lines = diagnostics.read_diagnostics(lines_path)
    older = records.read_records(path) if path.exists() else []
    older = [record for record in older if record not in found]
    found[:] = diagnostics.with_derived_checks([*older, *found], lines)[len(older) :]
    records.update_records(path, found)
