import pytest

from tfpurify.checks import check_whitebox_strongest, run_checks

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
    blind = dict(**shared, threat_model="blind", attack_success_rate=0.3)
    weak = dict(**shared, threat_model="whitebox", attack_success_rate=0.2)
    strong = dict(**shared, threat_model="whitebox", attack_success_rate=0.4)
    assert check_whitebox_strongest(weak, blind).startswith("whitebox_below_blind")
    assert check_whitebox_strongest(strong, blind) is None
    with pytest.raises(ValueError, match="agree on `epsilon`. Received: 0.2 and 0.1"):
        check_whitebox_strongest(strong, {**blind, "epsilon": 0.1})
