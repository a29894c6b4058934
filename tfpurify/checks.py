"""One check per pitfall: each returns a flag to stand beside a number, or None.

A flag is one line, `name: what was seen`.
"""

from absl import logging


def check_purifier_cost(evaluation, tolerance=0.10):
    """Flags a purifier that costs more than `tolerance` of clean accuracy."""
    clean, purified = evaluation["clean_accuracy"], evaluation["purified_clean_accuracy"]
    if purified is None or clean - purified <= tolerance:
        return None
    return f"purifier_cost: purified clean accuracy {purified:.4f} against {clean:.4f} clean"


def check_success_rate_defined(evaluation):
    """Flags a success rate that has no images to be counted on."""
    if evaluation["robust_accuracy"] is None or evaluation["attack_success_rate"] is not None:
        return None
    return "no_success_rate: the target gets no image right even without the attack"


def check_attack_moved(evaluation):
    """Flags an attack that returned the images it was given."""
    if evaluation.get("max_perturbation") != 0:
        return None
    return "attack_moved_nothing: max |x' - x| is 0"


def check_budget_used(evaluation, share=0.5):
    """Flags an attack whose largest step stays below a `share` of epsilon."""
    largest, epsilon = evaluation.get("max_perturbation"), evaluation["epsilon"]
    if not largest or largest >= share * epsilon:
        return None
    return f"budget_unused: max |x' - x| is {largest:.4g} of epsilon {epsilon:.4g}"


def check_interval_width(evaluation, width=0.10):
    """Flags a success rate known to no better than `width`, for want of images."""
    low, high = evaluation["attack_success_rate_low"], evaluation["attack_success_rate_high"]
    if low is None or high - low <= width:
        return None
    return f"few_images: the success rate is only known to lie in [{low:.4f}, {high:.4f}]"


def check_whitebox_strongest(whitebox, weaker):
    """Flags a whitebox attack that does worse than one which knows less: it is the weak part.

    Args:
        whitebox: A record with threat model `whitebox`.
        weaker: A `blind` or `blackbox` record, or `whitebox` evaluation of a transferred attack, on
            the same data set, classifier, purifier and epsilon.

    Returns:
        The flag, or None.

    Raises:
        ValueError: If the records are not of one setting, or carry no success rate.
    """
    for key in ("dataset", "split", "classifier", "purifier", "epsilon"):
        if whitebox[key] != weaker[key]:
            raise ValueError(
                f"records must agree on `{key}`. Received: {whitebox[key]} and {weaker[key]}"
            )
    strong, weak = whitebox["attack_success_rate"], weaker["attack_success_rate"]
    if strong is None or weak is None:
        raise ValueError(f"records must carry a success rate. Received: {strong} and {weak}")
    if strong >= weak:
        return None
    return (
        f"whitebox_below_{weaker['threat_model']}: success rate {strong:.4f} whitebox against "
        f"{weak:.4f} {weaker['threat_model']}; suspect masked gradients or an attack stopped early"
    )


def compare_threat_models(records):
    """Yields each whitebox record with each flag of `check_whitebox_strongest` that it raises."""
    for whitebox in records:
        if whitebox["threat_model"] != "whitebox":
            continue
        for weaker in records:
            is_weaker = weaker["threat_model"] in ("blind", "blackbox")
            is_same = all(
                weaker[key] == whitebox[key]
                for key in ("dataset", "split", "purifier", "classifier", "epsilon")
            )
            rates = (weaker["attack_success_rate"], whitebox["attack_success_rate"])
            if not (is_weaker and is_same) or None in rates:
                continue
            flag = check_whitebox_strongest(whitebox, weaker)
            if flag is not None:
                yield whitebox, flag


def run_checks(evaluation):
    """Runs every check of a single evaluation, logs what it raises and returns the flags."""
    checks = (
        check_purifier_cost,
        check_success_rate_defined,
        check_attack_moved,
        check_budget_used,
        check_interval_width,
    )
    flags = [flag for check in checks if (flag := check(evaluation)) is not None]
    for flag in flags:
        logging.warning("Check raised: %s", flag)
    return flags
