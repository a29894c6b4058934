"""How an attack went: what found what, whether its gradient lived, whether it had converged.

One line of `attacks.jsonl` goes with one record of `trainers.attack`.
"""

from operator import itemgetter

import numpy as np

from tfpurify.evaluation.checks import (
    check_budget_of_one,
    check_converged,
    check_gradient_norms,
    check_modes,
    check_randomness,
)
from tfpurify.evaluation.comparisons import PAIRED, with_pairwise_checks, without_flags
from tfpurify.evaluation.store import JSONLines
from tfpurify.vocabulary import (
    DEFENSE_MODES,
    ITERATIVE_ATTACKS,
    MEAN_SQUARED,
    SETTING_KEYS,
)

ATTACKS_FILE = "attacks.jsonl"
DIAGNOSTIC_KEYS = (
    *SETTING_KEYS,
    "gradient_mode",
    "seed",
    "num_steps",
    "num_restarts",
    "tried",
    "first_to_fool",
    "fooled_by_more_steps",
    "full_budget",
    "gradient_norms",
    "randomness",
    "command",
    "versions",
)
# Flags that are made when records are read, and not stored with one.
DERIVED = (*PAIRED, "not_diagnosed")
_UNDIAGNOSED = "not_diagnosed: no line of attacks.jsonl goes with it"
_PARTLY = "not_diagnosed: its line of attacks.jsonl says nothing of "
_QUANTILES = (0.0, 0.1, 0.5, 0.9, 1.0)
_SETTING = tuple(key for key in SETTING_KEYS if key not in ("data_source", "n"))
_identity = itemgetter(*_SETTING, "gradient_mode", "seed", "command")
_LINES = JSONLines(DIAGNOSTIC_KEYS, _identity)
read_diagnostics, update_diagnostics = _LINES.read, _LINES.update


def make_diagnostics(
    record, *, norms=None, fooled_by_more_steps=None, full_budget=None, randomness=None, **counts
):
    """Returns one line, and the flags that it raises.

    Args:
        record: The record that it goes with.
        norms: The L2 norms of the gradient at clean images, `(n,)` by gradient mode.
        fooled_by_more_steps: How many images only twice the steps fooled, or None.
        full_budget: Success rate at epsilon 1 and the number of images, or None.
        randomness: Success rates as `check_randomness` takes them, or None.
        **counts: `num_steps`, `num_restarts`, `tried` and `first_to_fool`.

    Returns:
        The line and a list of flags.
    """
    line = {key: record[key] for key in DIAGNOSTIC_KEYS if key in record}
    norms = norms or {}
    line |= {
        **counts,
        "fooled_by_more_steps": fooled_by_more_steps,
        "full_budget": full_budget,
        "gradient_norms": {mode: _quantiles(values) for mode, values in norms.items()},
        "randomness": randomness,
    }
    flags = [check_gradient_norms(values) for values in norms.values()]
    if fooled_by_more_steps is not None:
        flags.append(check_converged(fooled_by_more_steps, record["n"]))
    if full_budget is not None:
        flags.append(check_budget_of_one(*full_budget))
    if randomness is not None:
        flags.append(check_randomness(randomness))
    return {key: line[key] for key in DIAGNOSTIC_KEYS}, [flag for flag in flags if flag is not None]


def _quantiles(values):
    values = np.asarray(values, np.float64)
    finite = values[np.isfinite(values)]
    found = np.quantile(finite, _QUANTILES).tolist() if len(finite) else None
    return {"quantiles": found, "dead": int(len(values) - np.sum(finite > 0))}


def with_derived_checks(records, lines):
    """Returns copies of records with all flags that they raise beside each other and these lines.

    Args:
        records: Records as `tfpurify.evaluation.records.make_record` makes them.
        lines: Lines of diagnostics.
    """
    diagnosed = {_identity(line): line for line in lines}
    found = []
    for stored in with_pairwise_checks(records):
        line = diagnosed.get(_identity(stored))
        is_known = line is not None and stored["purifier"] in DEFENSE_MODES
        stale = ("not_diagnosed", "modes_missing") if is_known else ("not_diagnosed",)
        record = without_flags(stored, stale)
        found.append(record)
        if not _is_search(record):
            continue
        flags = [_UNDIAGNOSED] if line is None else _flags_of(record, line)
        record["checks"] += [flag for flag in flags if flag not in record["checks"]]
    return found


def _flags_of(record, line):
    """Returns the flags that a record's own line raises today, whenever it was written."""
    names = [key.partition(":")[0] for key in line["tried"]]
    flags = []
    if line["full_budget"] is not None:
        flags.append(check_budget_of_one(*line["full_budget"]))
    if set(names).intersection(ITERATIVE_ATTACKS):
        is_budget_known = line["full_budget"] is not None or record["attack"] in MEAN_SQUARED
        parts = ["success with a budget of 1"] * (not is_budget_known)
        parts += ["convergence"] * (line["fooled_by_more_steps"] is None)
        flags += [_PARTLY + " and ".join(parts)] if parts else []
    modes = [mode for _, _, mode in (key.partition(":") for key in line["tried"]) if mode]
    if record["gradient_mode"] == "strongest" or (
        record["attack"].startswith("worst_case") and record["gradient_mode"] is not None
    ):
        flags = [*flags, check_modes(modes, DEFENSE_MODES.get(record["purifier"], ()))]
    return [flag for flag in flags if flag]


def _is_search(record):
    """Says whether an attack looks for a success, as an AdvGAN and random noise do not."""
    is_trained = record["attack"].startswith("advgan")
    return not is_trained and record["attack"] not in ("none", "noise", "structured")
