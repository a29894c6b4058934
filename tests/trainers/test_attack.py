"""The attack on a shipped defence: what it writes down, and that more attacks are never weaker."""

import pytest

from tfpurify.records import read_records
from trainers import attack

OPTIONS = {
    "dataset": "mnist",
    "data_source": "embedded",
    "data_dir": None,
    "split": "test",
    "classifier": None,
    "defense": "none",
    "threat_model": "whitebox",
    "attack": ["pgd"],
    "gradient_mode": None,
    "epsilon": None,
    "num_steps": 5,
    "num_restarts": 1,
    "limit": 20,
    "batch_size": 10,
    "seed": 0,
    "output_dir": None,
    "results_file": None,
}


def rate(**options):
    return attack.attack({**OPTIONS, **options})["attack_success_rate"]


def test_more_attacks_and_more_starts_are_never_weaker(tmp_path):
    path = tmp_path / "results.jsonl"
    alone = {name: rate(attack=[name], epsilon=0.1) for name in ("fgsm", "pgd")}
    both = attack.attack(
        {**OPTIONS, "attack": ["fgsm", "pgd"], "epsilon": 0.1, "results_file": path}
    )
    assert both["attack_success_rate"] >= max(alone.values()) > 0
    assert read_records(path) == [both]
    assert (both["attack"], both["gradient_mode"], both["n"]) == ("fgsm+pgd", None, 20)
    assert rate(num_restarts=3, epsilon=0.1) >= alone["pgd"]


def test_every_mode_of_a_purifier_is_tried():
    found = attack.attack({**OPTIONS, "defense": "puvae", "limit": 10, "num_steps": 3})
    assert (found["purifier"], found["threat_model"]) == ("puvae", "whitebox")
    assert found["gradient_mode"] == "strongest"
    first = attack.attack(
        {**OPTIONS, "defense": "puvae", "limit": 10, "num_steps": 3, "gradient_mode": ["soft"]}
    )
    assert first["gradient_mode"] == "soft"
    assert found["attack_success_rate"] >= first["attack_success_rate"]


def test_a_blind_attacker_climbs_the_classifier_alone():
    found = attack.attack(
        {**OPTIONS, "defense": "puvae", "threat_model": "blind", "attack": ["advgan"]}
    )
    assert (found["threat_model"], found["gradient_mode"]) == ("blind", None)
    assert found["robust_accuracy"] > 0.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attack": ["bim"]}, r"`attack` must be among .* Received: \['bim'\]"),
        ({"attack": []}, "`attack` must be among"),
        ({"defense": "puvae", "gradient_mode": ["encoder"]}, "needs a DefenseGAN"),
        ({"gradient_mode": ["soft"]}, "`gradient_mode` needs a `defense`"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        attack.attack({**OPTIONS, **options})
