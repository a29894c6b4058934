"""Whether a purifier is worth it, in words, from what was measured with it and without it."""

import dataclasses

from tfpurify.evaluation.intervals import difference_interval
from tfpurify.vocabulary import display


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What is said of one purifier at one budget.

    Args:
        words: Sentences.
        is_worth_it: Whether it leaves more images right than no purifier does, under an attacker
            who knows it.
        is_worse_than_none: Whether it leaves no more images right than no purifier does under any
            of the attackers, and costs accuracy without one.
    """

    words: str
    is_worth_it: bool
    is_worse_than_none: bool


def judge(bare, blind, whitebox):
    """Returns the `Verdict` on a purifier.

    Differences count if their 95 % interval is on one side of zero.

    Args:
        bare: Record of the attacks on the bare classifier.
        blind: Record of the attackers who know the classifier alone.
        whitebox: Record of the attackers who know the purifier too.
    """
    name = display(whitebox["purifier"])
    cost = _lost(max((blind, whitebox), key=lambda record: record["n"]))
    gains = {"whitebox": _gain(whitebox, bare), "blind": _gain(blind, bare)}
    helps = {who: low > 0 for who, (_, low) in gains.items()}
    costs = (
        f"{name} costs {100 * cost:.1f} points of accuracy without an attack"
        if cost >= 0.0005
        else f"{name} costs no accuracy without an attack"
    )
    if helps["whitebox"]:
        advice = (
            f", and saves {_points(gains['whitebox'])} of what an attacker does who knows it: it "
            "is worth it where such attacks are to be expected."
        )
    elif helps["blind"]:
        advice = (
            f" and stops nothing{_measurable(gains['whitebox'])} of what an attacker who knows it "
            f"does; it saves {_points(gains['blind'])} from one who does not: do not rely on it."
        )
    else:
        advice = " and saves nothing from an attacker, whether he knows it or not: do not use it."
    is_worse = not any(helps.values()) and cost >= 0
    return Verdict(costs + advice, helps["whitebox"], is_worse)


def _lost(record):
    return record["clean_accuracy"] - record["purified_clean_accuracy"]


def _gain(record, bare):
    """Returns by how much more images stay right than without a purifier, and its lower bound."""
    pairs = [(one["robust_accuracy"], one["n"]) for one in (record, bare)]
    low, _ = difference_interval(*pairs[0], *pairs[1])
    return pairs[0][0] - pairs[1][0], low


def _measurable(gain):
    """Returns what is said of a gain that may be chance."""
    return " measurable" if gain[0] > 0 else ""


def _points(gain):
    return f"{100 * gain[0]:.1f} points (at least {100 * gain[1]:.1f} in 95 of 100 such cases)"
