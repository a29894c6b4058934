import inspect
import re

import numpy as np
import pytest

from tfpurify.evaluation import checks, comparisons, diagnostics
from tfpurify.evaluation.checks import (
    MEANINGS,
    check_converged,
    check_gradient_norms,
    check_randomness,
    flag_names,
    run_checks,
)
from tfpurify.evaluation.comparisons import (
    check_whitebox_strongest,
    compare_records,
    with_pairwise_checks,
)
from tfpurify.vocabulary import DEFENSE_MODES

CLEAN_RESULT = {
    "n": 1000,
    "clean_accuracy": 0.99,
    "purified_clean_accuracy": 0.98,
    "robust_accuracy": 0.5,
    "attack_success_rate": 0.5,
    "attack_success_rate_low": 0.47,
    "attack_success_rate_high": 0.53,
    "epsilon": 0.2,
    "max_perturbation": 0.2,
}


@pytest.mark.parametrize(
    ("change", "flag"),
    [
        ({}, None),
        ({"purified_clean_accuracy": None}, None),
        ({"purified_clean_accuracy": 0.85}, "purifier_cost"),
        ({"max_perturbation": 0.0}, "attack_moved_nothing"),
        ({"max_perturbation": 0.09}, "budget_unused"),
        ({"attack_success_rate_low": 0.4}, "few_images"),
        ({"attack_success_rate": None}, "no_success_rate"),
    ],
)
def test_each_pitfall_raises_its_flag(change, flag):
    flags = run_checks({**CLEAN_RESULT, **change})
    assert [name.split(":")[0] for name in flags] == ([] if flag is None else [flag])


def test_whitebox_below_blind_is_flagged():
    shared = {"dataset": "mnist", "split": "test", "classifier": "cnn"}
    shared.update(purifier="puvae", epsilon=0.2)
    shared.update(n=100, data_source="tfds")
    blind = dict(**shared, threat_model="blind", attack_success_rate=0.3)
    weak = dict(**shared, threat_model="whitebox", attack_success_rate=0.2)
    strong = dict(**shared, threat_model="whitebox", attack_success_rate=0.4)
    assert check_whitebox_strongest(weak, blind).startswith("whitebox_below_blind")
    assert check_whitebox_strongest(strong, blind) is None
    with pytest.raises(ValueError, match="agree on `epsilon`. Received: 0.2 and 0.1"):
        check_whitebox_strongest(strong, {**blind, "epsilon": 0.1})


def cell(threat_model="whitebox", attack="pgd", rate=0.5, mode=None, epsilon=0.2, **fields):
    shared = {"dataset": "mnist", "split": "test", "classifier": "cnn", "purifier": "puvae"}
    return {
        **shared,
        "threat_model": threat_model,
        "attack": attack,
        "n": 100,
        "data_source": "tfds",
        "attack_success_rate": rate,
        "attack_success_rate_low": rate and rate - 0.1,
        "attack_success_rate_high": rate and rate + 0.1,
        "gradient_mode": mode,
        "epsilon": epsilon,
        "checks": [],
        **fields,
    }


@pytest.mark.parametrize(
    ("record", "other", "flag"),
    [
        (cell(rate=0.3), cell("blind", rate=0.4), "whitebox_below_blind"),
        (cell(rate=0.3), cell("blackbox", "square", rate=0.4), "whitebox_below_blackbox"),
        (cell("blind", rate=0.3), cell("blackbox", "square", rate=0.4), "blind_below_blackbox"),
        (cell(rate=0.3), cell(attack="fgsm", rate=0.4), "iterative_below_single_step"),
        (
            cell(rate=0.3, mode="strongest"),
            cell(attack="fgsm", rate=0.4, mode="soft"),
            "iterative_below_single_step",
        ),
        (cell(rate=0.3), cell("blackbox", "noise", rate=0.2), "noise_as_strong"),
        (cell(rate=0.3), cell("blackbox", "structured", rate=0.2), "noise_as_strong"),
        (cell(rate=0.3), cell(attack="pgd_eot", rate=0.97, epsilon=1.0), None),
        (cell(attack="worst_case", rate=0.3), cell(rate=0.4), "worst_case_below_attack"),
        (cell(rate=0.3), cell("blind", rate=0.5, n=1000), "whitebox_below_blind"),
        (cell(rate=0.3), cell("blind", rate=0.39, n=1000), None),  # within chance
        (cell(attack="latent", rate=0.3), cell("blind", rate=0.9), None),  # another norm
    ],
)
def test_a_second_record_raises_its_flag(record, other, flag):
    expected = [(record, flag)] if flag else []
    found = compare_records([record, other])
    assert [(flagged, name.split(":")[0]) for flagged, name in found] == expected
    stale = {**record, "checks": ["whitebox_below_blind: once", "few_images: still"]}
    (flagged, untouched) = with_pairwise_checks([stale, other])
    assert flag_names(flagged) == ("few_images", *[flag] * bool(flag))
    assert not untouched["checks"] and len(stale["checks"]) == 2


def test_a_budget_of_one_that_fails_is_flagged_itself_and_at_smaller_budgets():
    whole = cell(rate=0.8, epsilon=1.0)
    assert [flag_names(r) for r in with_pairwise_checks([cell(rate=0.3), whole])] == [
        ("full_budget_fails",),
        ("full_budget_fails",),
    ]
    noise = [cell("blackbox", "noise", rate=rate, epsilon=rate) for rate in (0.3, 0.8, 1.0)]
    noise[-1]["attack_success_rate"] = 0.5  # which no one expects to reach every image
    assert not list(compare_records(noise))


@pytest.mark.parametrize(
    "other",
    [
        cell("blind", rate=0.1),
        cell(attack="fgsm", rate=0.1),
        cell(attack="fgsm", rate=0.9, mode="bpda"),  # another way through the purifier
        cell("blackbox", "noise", rate=0.01),
        cell(rate=1.0, epsilon=1.0),
        cell(rate=0.9, attack="apgd_ce"),
        cell("blind", rate=0.9, purifier="defensegan"),
        cell("blind", rate=0.9, epsilon=0.3),
        cell("blind", rate=None),
    ],
)
def test_records_that_agree_raise_nothing(other):
    assert not list(compare_records([cell(rate=0.5), other]))


def test_each_check_of_an_attack_knows_its_limit():
    assert check_gradient_norms([1.0] * 9 + [0.0]) is None
    assert check_gradient_norms([1.0] * 8 + [0.0, np.nan]).startswith("dead_gradient: zero or not")
    assert check_converged(2, 100) is None
    assert check_converged(3, 100) == "not_converged: twice the steps fool 3 of 100 images more"
    assert check_randomness({"fixed": 0.5, "fresh": 0.45, "majority": 0.41}) is None
    assert "0.3000 fresh" in check_randomness({"fixed": 0.5, "fresh": 0.3, "majority": 0.5})
    assert check_randomness({"fixed": 0.5, "fresh": None, "majority": 0.5}) is None


def searched(tried, **checked):
    """A record of a search, and its line of diagnostics."""
    record = {**cell(attack="worst_case", mode="strongest"), "seed": 0, "command": "x"}
    line, _ = diagnostics.make_diagnostics(
        {**record, "versions": {}},
        **{"num_steps": 5, "num_restarts": 1, "first_to_fool": {}, **checked},
        tried=dict.fromkeys(tried, 100),
    )
    return record, line


ALL_MODES = [f"pgd:{mode}" for mode in DEFENSE_MODES["puvae"]]


@pytest.mark.parametrize(
    ("tried", "checked", "expected"),
    [
        (ALL_MODES, {"fooled_by_more_steps": 0, "full_budget": (1.0, 20)}, ()),
        (ALL_MODES, {"fooled_by_more_steps": 0, "full_budget": (0.8, 20)}, ("full_budget_fails",)),
        (ALL_MODES, {"fooled_by_more_steps": 0}, ("not_diagnosed",)),
        (ALL_MODES, {"full_budget": (1.0, 20)}, ("not_diagnosed",)),
        (["advgan:a", "square", *(f"fgsm:{mode}" for mode in DEFENSE_MODES["puvae"])], {}, ()),
        (ALL_MODES[1:], {"fooled_by_more_steps": 0, "full_budget": (1.0, 9)}, ("modes_missing",)),
    ],
)
def test_what_a_line_leaves_out_is_flagged_whenever_it_was_written(tried, checked, expected):
    record, line = searched(tried, **checked)
    (found,) = diagnostics.with_derived_checks(
        [{**record, "checks": ["modes_missing: once"]}], [line]
    )
    assert flag_names(found) == expected
    (unknown,) = diagnostics.with_derived_checks(
        [{**record, "checks": ["modes_missing: once"]}], []
    )
    assert set(flag_names(unknown)) == {"modes_missing", "not_diagnosed"}


def test_every_flag_has_a_meaning():
    source = inspect.getsource(checks) + inspect.getsource(diagnostics)
    raised = set(re.findall(r'"([a-z_]+): ', source))
    raised |= set(comparisons.PAIRED)
    assert raised == set(MEANINGS)
