"""Checks of two records beside each other: which of them says that the other is too low."""

from tfpurify.vocabulary import ITERATIVE_ATTACKS, MEAN_SQUARED, THREAT_MODELS

# What these checks raise. Never stored: made from the records that stand together, when read.
PAIRED = (
    "whitebox_below_blind",
    "whitebox_below_blackbox",
    "blind_below_blackbox",
    "worst_case_below_attack",
    "iterative_below_single_step",
    "noise_as_strong",
    "full_budget_fails",
)
_UNAIMED = ("noise", "structured")  # which need no model
_YARDSTICKS = (*_UNAIMED, "fgsm")  # which nobody takes for the strongest attack
_SAME = ("dataset", "split", "classifier", "purifier", "epsilon")


def check_whitebox_strongest(stronger, weaker):
    """Flags an attack that does worse than one which knows less: it is the weak part.

    Worse by more than chance, where they are not of the same images.

    Args:
        stronger: A record with threat model `whitebox` or `blind`.
        weaker: A record of one that knows less, on the same data set, classifier, purifier and
            epsilon.

    Returns:
        The flag, or None.

    Raises:
        ValueError: If the records are not of one setting, or carry no success rate.
    """
    knows_more, knows_less = stronger["threat_model"], weaker["threat_model"]
    return _flag_if_below(
        f"{knows_more}_below_{knows_less}",
        (stronger, knows_more),
        (weaker, f"{knows_less}; suspect masked gradients or an attack stopped early"),
    )


def check_iterative_strongest(iterative, single_step):
    """Flags an iterative attack that does worse than a single step through the same gradient.

    Arguments and errors as for `check_whitebox_strongest`.
    """
    return _flag_if_below(
        "iterative_below_single_step",
        (iterative, "with many steps"),
        (single_step, "with one; suspect a gradient that misleads"),
    )


def check_worst_case(worst, single):
    """Flags a worst case over attacks that does worse than a single attack.

    Arguments and errors as for `check_whitebox_strongest`.
    """
    words = f"by {single['attack']} alone ({single['gradient_mode'] or 'no mode'})"
    return _flag_if_below("worst_case_below_attack", (worst, "of all"), (single, words))


def check_noise_weaker(attacked, noise, share=0.5):
    """Flags an attack that noise or patterns of the same size do a `share` of, or more.

    Arguments and errors as for `check_whitebox_strongest`.
    """
    strong, random = _success_rates(attacked, noise)
    if not random or random < share * strong:
        return None
    kind = "random noise" if noise["attack"] == "noise" else "patterns that need no model"
    return f"noise_as_strong: success rate {random:.4f} by {kind} against {strong:.4f}"


def check_full_budget(attacked, unbounded, least=0.95):
    """Flags an attack whose success rate stays below `least` with a budget of 1.

    Args:
        attacked: The record to be flagged.
        unbounded: The record of the same attack and gradient mode at epsilon 1.
        least: In (0, 1].

    Raises:
        ValueError: As `check_whitebox_strongest`.
    """
    _, rate = _success_rates(attacked, unbounded, but="epsilon")
    if rate >= least:
        return None
    return f"full_budget_fails: success rate {rate:.4f} at epsilon 1"


def _flag_if_below(name, ours, other):
    """Returns the flag `name` if a record's success rate is below another's.

    Args:
        name: Of the flag.
        ours: The record that should not be below, and what the flag says after its rate.
        other: The record that it should not be below, and what the flag says after that one's.
    """
    (stronger, strong_words), (weaker, weak_words) = ours, other
    strong, weak = _success_rates(stronger, weaker)
    if not _is_below(stronger, weaker):
        return None
    return f"{name}: success rate {strong:.4f} {strong_words} against {weak:.4f} {weak_words}"


def _success_rates(first, second, but=None):
    for key in _SAME:
        if key != but and first[key] != second[key]:
            raise ValueError(
                f"records must agree on `{key}`. Received: {first[key]} and {second[key]}"
            )
    rates = first["attack_success_rate"], second["attack_success_rate"]
    if None in rates:
        raise ValueError(f"records must carry a success rate. Received: {rates[0]} and {rates[1]}")
    return rates


def _is_below(record, other):
    """Says whether a rate is below another: by more than chance where the images differ.

    Records of one source and n are of the same images, the first of the split. Of others, each rate
    has to lie outside the other's 95 % interval.
    """
    rate, higher = record["attack_success_rate"], other["attack_success_rate"]
    if all(record[key] == other[key] for key in ("n", "data_source")):
        return rate < higher
    low, high = other["attack_success_rate_low"], record["attack_success_rate_high"]
    return rate < low and higher > high


def compare_records(records):
    """Yields each record with each flag that another record raises beside it."""
    known = [record for record in records if record["attack_success_rate"] is not None]
    for record in known:
        for other in known:
            for flag in _compare(record, other):
                if flag is not None:
                    yield record, flag


def _compare(record, other):
    """Yields the flags that one record raises beside another, None among them."""
    if any(record[key] != other[key] for key in _SAME if key != "epsilon"):
        return
    if (record["attack"] in MEAN_SQUARED) != (other["attack"] in MEAN_SQUARED):
        return
    is_same_threat = record["threat_model"] == other["threat_model"]
    modes = record["gradient_mode"], other["gradient_mode"]
    is_yardstick = record["attack"] in _YARDSTICKS
    is_same_attack = is_same_threat and record["attack"] == other["attack"] and modes[0] == modes[1]
    if other["epsilon"] == 1 and is_same_attack and not is_yardstick:
        yield check_full_budget(record, other)
    if record["epsilon"] != other["epsilon"]:
        return
    if other["attack"] in _UNAIMED and record["attack"] not in _UNAIMED:
        yield check_noise_weaker(record, other)
    places = [THREAT_MODELS.index(one["threat_model"]) for one in (record, other)]
    if places[0] > places[1] and not is_yardstick:
        yield check_whitebox_strongest(record, other)
    if not is_same_threat:
        return
    is_worst = record["attack"].startswith("worst_case")
    if is_worst and not other["attack"].startswith("worst_case"):
        yield check_worst_case(record, other)
    is_pair = other["attack"] == "fgsm" and record["attack"] in ITERATIVE_ATTACKS
    if is_pair and (modes[0] == modes[1] or "strongest" in modes):
        yield check_iterative_strongest(record, other)


def with_pairwise_checks(records):
    """Returns copies of records with the flags that they raise beside each other now.

    What a record carries of a comparison that was made before is left out.
    """
    flagged = [without_flags(record, PAIRED) for record in records]
    for record, flag in compare_records(flagged):
        if flag not in record["checks"]:
            record["checks"].append(flag)
    return flagged


def without_flags(record, names):
    """Returns a copy of a record without the flags of these names."""
    kept = [flag for flag in record["checks"] if flag.partition(":")[0] not in names]
    return {**record, "checks": kept}
