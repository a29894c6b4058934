"""Measures attacks on a defence: one record of what they find together, and how they went."""

from typing import NamedTuple

from absl import logging

from tfpurify import provenance
from tfpurify.attacks.worst_case import WorstCase
from tfpurify.data.specs import get_spec
from tfpurify.evaluation import attack_diagnosis, checks, records
from tfpurify.evaluation.attacks_by_name import NEEDS_NO_GRADIENT, make_attacks
from tfpurify.evaluation.rates import evaluate
from tfpurify.evaluation.trained_advgans import TrainedAdvGANs
from tfpurify.vocabulary import MEAN_SQUARED_ATTACKS


class MeasuredAttack(NamedTuple):
    """What came out of attacks on a defence.

    Args:
        record: As `tfpurify.evaluation.records.make_record` makes it.
        diagnostics: Its line of `attacks.jsonl`; None if it was not diagnosed.
    """

    record: dict
    diagnostics: dict | None


def measure_attack(
    defence,
    names,
    settings,
    batches,
    *,
    modes=None,
    advgans=None,
    traced_classifier=None,
    observed_purifier=None,
    is_diagnosed=False,
    **fields,
):
    """Attacks a defence, and counts an image as fooled if any of the attacks fools it.

    Args:
        defence: A `Defence`.
        names: Of `vocabulary.ATTACKS`, in the order of their turn.
        settings: `attacks_by_name.Settings`.
        batches: Iterable of images (B, H, W, C) and labels (B,).
        modes: Gradient modes to take each gradient through; all of the defence if None.
        advgans: `TrainedAdvGANs`, where `advgan` is among the names.
        traced_classifier: What is evaluated in the classifier's place: the same, traced before.
        observed_purifier: What is evaluated in the purifier's place: the same, observed.
        is_diagnosed: Whether to check gradients, convergence and randomness too, which takes
            longer than the attack.
        **fields: The record's `data_source` and `split`, and whatever else is to stand in it in
            place of what is found here: its `classifier`, `attack`, `gradient_mode`, `command`.

    Returns:
        A `MeasuredAttack`. The record carries the flags of this attack alone; those that it raises
        beside others come from `diagnostics.with_derived_checks`.

    Raises:
        ValueError: If a mode does not fit the purifier, an attack needs what is not there, or a
            gradient is dead.
    """
    advgans = advgans or TrainedAdvGANs()
    attacks = make_attacks(names, defence, settings, modes, advgans.models)
    search = WorstCase(attacks, defence.served)
    attack = _AttackWithMemory(search) if is_diagnosed else search
    rates = evaluate(
        batches,
        traced_classifier or defence.classifier,
        purifier=observed_purifier or defence.purifier,
        attack=attack,
        epsilon=settings.epsilon,
        norm="mean_squared" if is_mean_squared(names) else "linf",
    )
    used = _used_modes(defence, names, modes, advgans)
    found = {
        "dataset": defence.dataset,
        "classifier": get_spec(defence.dataset).default_classifier,
        "purifier": defence.name,
        "threat_model": defence.threat_model,
        "attack": _attack_name(names, advgans),
        "gradient_mode": "strongest" if len(used) > 1 else used[0] if used else None,
        "seed": settings.seed,
        "command": provenance.portable_command(provenance.command_line()),
    }
    record = records.make_record(rates, **{**found, **fields})
    logging.info("The first to fool it, by attack: %s", search.successes)
    line, flags = None, []
    if is_diagnosed:
        line, flags = attack_diagnosis.diagnose(
            defence, modes, settings, record, search, attack.batches
        )
    is_worst = len(used) > 1 or (used and record["attack"].startswith("worst_case"))
    left_out = checks.check_modes(used, defence.modes) if is_worst else None
    for flag in (checks.check_advgans(advgans.missing), left_out, *flags):
        if flag is not None:
            logging.warning("Check raised: %s", flag)
            record["checks"].append(flag)
    return MeasuredAttack(record, line)


def is_mean_squared(names):
    """Says whether attacks bound the mean squared difference, not the largest one."""
    return bool(set(names) & set(MEAN_SQUARED_ATTACKS))


class _AttackWithMemory:
    """An attack that keeps the batches: images, what it made of them, and labels."""

    def __init__(self, attack):
        self.attack = attack
        self.batches = []

    def __call__(self, images, labels):
        adversarial_images = self.attack(images, labels)
        self.batches.append((images, adversarial_images, labels))
        return adversarial_images


def _used_modes(defence, names, modes, advgans):
    """Returns the gradient modes that took part, () if no gradient crossed a purifier."""
    if not defence.is_crossed:
        return ()
    if set(names) - set(NEEDS_NO_GRADIENT):
        return modes or defence.modes
    return tuple(advgans.modes.values()) if len(advgans.models) == 1 else ()


def _attack_name(names, advgans):
    """Returns a record's word for attacks: the one, or the worst case of several.

    `advgan` is the one that was trained for this attacker, alone.
    """
    if list(names) == ["advgan"] and list(advgans.models) != [advgans.own]:
        return "worst_case"
    if len(names) == 1:
        return names[0]
    return "worst_case_l2" if is_mean_squared(names) else "worst_case"
