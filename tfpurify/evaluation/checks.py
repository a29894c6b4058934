"""One check per pitfall: each returns a flag to stand beside a number, or None.

A flag is one line, `name: what was seen`.
"""

import numpy as np
from absl import logging

# What each flag means for the reader of the number beside it.
MEANINGS = {
    "purifier_cost": "The purifier costs more than 10 points of clean accuracy.",
    "no_success_rate": "No image is right without an attack, so there is nothing to succeed on.",
    "attack_moved_nothing": "The attack returned its images: the figure is none of an attack.",
    "budget_unused": "The attack left half of its budget or more: it could have gone further.",
    "few_images": "The 95 % interval is wider than 10 points.",
    "whitebox_below_blind": "An attacker who knows less did better: the whitebox figure is a lower "
    "bound.",
    "whitebox_below_blackbox": "An attacker who knows nothing did better: the whitebox figure is a "
    "lower bound.",
    "blind_below_blackbox": "An attacker who knows nothing did better: the blind figure is a lower "
    "bound.",
    "worst_case_below_attack": "A single attack did better than the worst case, whose attacks "
    "were others or stopped earlier: take the single one.",
    "advgan_missing": "An AdvGAN that this attacker would have was not trained: it took no part.",
    "modes_missing": "Not all gradient modes of the defence were tried.",
    "not_diagnosed": "Nobody checked all of this attack's gradients, its convergence, and its "
    "success with a budget of 1.",
    "iterative_below_single_step": "One step did better than many: the gradient misleads, and the "
    "figure is a lower bound.",
    "noise_as_strong": "Random noise or a regular pattern of the same size does half as much or "
    "more, without any model: what is measured is not the attack.",
    "full_budget_fails": "With a budget of 1, which can turn any image into any other, the attack "
    "still fails: this figure and those at smaller budgets are lower bounds.",
    "dead_gradient": "The gradient is zero or not finite for more than a tenth of the images.",
    "not_converged": "Twice the steps fool more than 2 % of the images more: the figure is a lower "
    "bound.",
    "randomness_decides": "New random starts, or a vote over several, change the success rate by "
    "more than 10 points: the attack was fitted to one draw.",
}


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
    return "attack_moved_nothing: the images came back as they were"


def check_budget_used(evaluation, share=0.5):
    """Flags an attack whose largest step stays below a `share` of epsilon."""
    largest, epsilon = evaluation.get("max_perturbation"), evaluation["epsilon"]
    if not largest or largest >= share * epsilon:
        return None
    return f"budget_unused: the largest perturbation is {largest:.4g} of epsilon {epsilon:.4g}"


def check_interval_width(evaluation, width=0.10):
    """Flags a success rate known to no better than `width`, for want of images."""
    low, high = evaluation["attack_success_rate_low"], evaluation["attack_success_rate_high"]
    if low is None or high - low <= width:
        return None
    return f"few_images: the success rate is only known to lie in [{low:.4f}, {high:.4f}]"


def check_gradient_norms(norms, share=0.10):
    """Flags gradients that are zero or not finite for more than a `share` of the images.

    Args:
        norms: L2 norms of the gradient at each image, `(n,)`, of one gradient mode.
        share: In [0, 1).
    """
    dead = round(dead_share(norms) * len(norms))
    if dead <= share * len(norms):
        return None
    return f"dead_gradient: zero or not finite at {dead} of {len(norms)} images"


def dead_share(norms):
    """Returns the share of gradients `(n,)` whose norm is zero or not finite."""
    norms = np.asarray(norms)
    return float(np.mean(~(np.isfinite(norms) & (norms > 0))))


def check_gradients_alive(evaluation, share=0.10):
    """Flags an attack whose gradient is dead for more than a `share` of the images."""
    dead = evaluation.get("dead_gradient")
    if dead is None or dead <= share:
        return None
    return f"dead_gradient: zero, not finite or below rounding at {dead:.0%} of the images"


def check_converged(fooled_by_more, n, share=0.02):
    """Flags an attack that fools more than a `share` of the images more with twice its steps.

    Args:
        fooled_by_more: How many images only the longer attack fooled.
        n: All images.
        share: In [0, 1).
    """
    if fooled_by_more <= share * n:
        return None
    return f"not_converged: twice the steps fool {fooled_by_more} of {n} images more"


def check_randomness(rates, tolerance=0.10):
    """Flags an attack whose success depends on the purifier's draw.

    Args:
        rates: Success rates by randomness: `fixed`, as served, `fresh` and `majority`.
        tolerance: Largest difference from `fixed` that passes.
    """
    if None in rates.values():
        return None
    if max(abs(rate - rates["fixed"]) for rate in rates.values()) <= tolerance:
        return None
    words = ", ".join(f"{rate:.4f} {name}" for name, rate in rates.items())
    return f"randomness_decides: success rates {words}"


def check_advgans(missing):
    """Flags an attacker for whom an AdvGAN was asked that nobody trained.

    Args:
        missing: Names of the runs.
    """
    return f"advgan_missing: {', '.join(missing)}" if missing else None


def check_modes(asked, known):
    """Flags an attack that left out gradient modes which its defence is known to have.

    Args:
        asked: The modes that were tried.
        known: Those that there are.
    """
    left_out = [mode for mode in known if mode not in asked]
    return f"modes_missing: {', '.join(left_out)}" if left_out else None


def check_budget_of_one(rate, n, least=0.95):
    """Flags an attack whose success rate over n images stays below `least` with a budget of 1."""
    if rate is None or rate >= least:
        return None
    return f"full_budget_fails: success rate {rate:.4f} at epsilon 1 (n={n})"


def flag_names(record):
    """Returns the names of a record's flags, each once."""
    return tuple(dict.fromkeys(flag.partition(":")[0] for flag in record["checks"]))


def run_checks(evaluation):
    """Runs every check of a single evaluation, logs what it raises and returns the flags."""
    checks = (
        check_purifier_cost,
        check_success_rate_defined,
        check_attack_moved,
        check_budget_used,
        check_interval_width,
        check_gradients_alive,
    )
    flags = [flag for check in checks if (flag := check(evaluation)) is not None]
    for flag in flags:
        logging.warning("Check raised: %s", flag)
    return flags
