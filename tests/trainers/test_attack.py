"""The attack on a shipped defence: what it writes down, and that more attacks are never weaker."""

import json

import keras
import pytest

from tfpurify.data.specs import get_spec
from tfpurify.evaluation.checks import flag_names
from tfpurify.evaluation.diagnostics import ATTACKS_FILE, read_diagnostics, with_derived_checks
from tfpurify.evaluation.records import read_records
from tfpurify.models import zoo
from tfpurify.purifiers.dcgan import DCGAN
from tfpurify.purifiers.puvae import PuVAE
from tfpurify.training import configuration
from tfpurify.vocabulary import DEFAULT_ATTACKS
from trainers import attack

OPTIONS = {
    "dataset": "mnist",
    "data_source": "embedded",
    "data_dir": None,
    "split": "test",
    "classifier": None,
    "defense": "none",
    "purifier_run": None,
    "noise_scales": [],
    "descents": [],
    "threat_model": "whitebox",
    "attack": ["pgd"],
    "gradient_mode": None,
    "epsilon": None,
    "num_steps": 5,
    "num_restarts": 1,
    "num_draws": 2,
    "soft_candidates": None,
    "advgans": [],
    "diagnose": False,
    "limit": 20,
    "batch_size": 10,
    "seed": 0,
    "output_dir": None,
    "results_file": None,
}


def measure(**options):
    (record,) = attack.attack({**OPTIONS, **options})
    return record


def rate(**options):
    return measure(**options)["attack_success_rate"]


def test_more_attacks_and_more_starts_are_never_weaker(tmp_path):
    path = tmp_path / "results.jsonl"
    alone = {name: rate(attack=[name], epsilon=["0.1"]) for name in ("fgsm", "pgd")}
    both = measure(attack=["fgsm", "pgd"], epsilon=["0.1"], results_file=path, diagnose=True)
    assert both["attack_success_rate"] >= max(alone.values()) > 0
    assert read_records(path) == [both]
    assert (both["attack"], both["gradient_mode"], both["n"]) == ("worst_case", None, 20)
    assert rate(num_restarts=3, epsilon=["0.1"]) >= alone["pgd"]
    (line,) = read_diagnostics(tmp_path / ATTACKS_FILE)
    fooled = sum(line["first_to_fool"].values())
    assert fooled == round(both["attack_success_rate"] * line["tried"]["fgsm"])
    assert line["tried"]["pgd"] == line["tried"]["fgsm"] - line["first_to_fool"]["fgsm"]
    assert line["gradient_norms"]["direct"]["dead"] == 0 and line["randomness"] is None
    assert line["full_budget"] == [1.0, 10] and 0 <= line["fooled_by_more_steps"] <= 20


def test_each_epsilon_has_its_record_and_a_budget_of_one_always_succeeds(tmp_path):
    path = tmp_path / "results.jsonl"
    options = {"epsilon": ["0.02", "1"], "num_steps": 20, "results_file": path}
    small, whole = attack.attack({**OPTIONS, **options})
    assert small["attack_success_rate"] < whole["attack_success_rate"] == 1.0
    assert read_records(path) == [small, whole]
    assert "not_diagnosed" in [flag_names(one) for one in with_derived_checks([small], [])][0]


def test_what_fails_with_a_budget_of_one_says_so_also_at_smaller_ones(tmp_path):
    path = tmp_path / "results.jsonl"
    options = {"epsilon": ["0.02", "1"], "attack": ["apgd_ce"], "num_steps": 1}
    printed = attack.attack({**OPTIONS, **options, "results_file": path, "diagnose": True})
    assert read_records(path) == printed
    small, whole = printed
    assert whole["attack_success_rate"] < 0.95
    assert "full_budget_fails" in flag_names(small) and "full_budget_fails" in flag_names(whole)
    unwritten = attack.attack({**OPTIONS, **options, "epsilon": ["0.02"], "diagnose": True})
    assert "full_budget_fails" in flag_names(unwritten[0])


def test_each_other_class_is_a_target_in_turn(tmp_path):
    options = {"attack": ["pgd_targeted"], "epsilon": ["0.1"], "limit": 10}
    path = tmp_path / "results.jsonl"
    found = measure(**options, results_file=path, diagnose=True)
    assert (found["attack"], found["n"]) == ("pgd_targeted", 10)
    assert found["attack_success_rate"] >= rate(**{**options, "attack": ["fgsm"]})
    (line,) = read_diagnostics(tmp_path / ATTACKS_FILE)
    assert line["fooled_by_more_steps"] is not None and line["full_budget"] is not None


def test_random_noise_knows_nothing_and_does_little():
    small = {"epsilon": ["0.1"]}
    noise = measure(attack=["noise"], threat_model="blackbox", **small)
    assert (noise["threat_model"], noise["gradient_mode"]) == ("blackbox", None)
    assert noise["attack_success_rate"] < rate(num_steps=20, **small)


def test_what_is_tried_by_default_follows_what_the_attacker_knows(tmp_path):
    path = tmp_path / "results.jsonl"
    knows_nothing = measure(attack=[], threat_model="blackbox", limit=5)
    assert knows_nothing["attack"] == "worst_case"
    blind = {"attack": [], "threat_model": "blind", "defense": "puvae_adversarial"}
    blind = measure(**blind, limit=4, diagnose=True, results_file=path)
    (line,) = read_diagnostics(path.with_name(ATTACKS_FILE))
    names = {key.partition(":")[0] for key in line["tried"]}
    assert names == set(DEFAULT_ATTACKS["blind"])
    assert blind["gradient_mode"] is None
    assert sum(key.startswith("transfer_di_ti_targeted:") for key in line["tried"]) == 9


def test_moves_that_need_no_model_fool_a_purifier_that_noise_does_not():
    common = {"defense": "puvae", "threat_model": "blackbox", "limit": 20}
    noise, moves = (rate(attack=[name], **common) for name in ("noise", "structured"))
    assert moves > noise + 0.2


def test_an_attack_on_random_starts_is_measured_under_new_ones(tmp_path):
    path = tmp_path / "results.jsonl"
    few = {"limit": 4, "num_steps": 1, "gradient_mode": ["encoder"], "results_file": path}
    measure(defense="defensegan_fast", attack=["pgd_eot"], diagnose=True, **few)
    (line,) = read_diagnostics(tmp_path / ATTACKS_FILE)
    assert set(line["randomness"]) == {"fixed", "fresh", "majority"}
    assert line["full_budget"][1] <= 4 and line["fooled_by_more_steps"] <= 4


def test_the_latent_noise_of_a_puvae_is_averaged_and_drawn_anew(tmp_path):
    noisy = zoo.load_preset("puvae_mnist")
    noisy.noise_scale = 0.5
    folder = tmp_path / "runs" / "puvae_mnist"
    folder.mkdir(parents=True)
    noisy.save(folder / "model.keras")
    options = {"attack": ["pgd_eot"], "output_dir": tmp_path, "limit": 10, "num_steps": 10}
    found = measure(
        **{**options, "defense": "puvae", "gradient_mode": ["soft"], "soft_candidates": 3},
        results_file=tmp_path / "results.jsonl",
        diagnose=True,
    )
    assert found["attack_success_rate"] > 0.5
    (line,) = read_diagnostics(tmp_path / ATTACKS_FILE)
    assert min(line["randomness"].values()) > 0.3


def test_the_latent_search_stays_in_the_range_and_within_the_published_budget():
    found = measure(defense="defensegan_fast", attack=["latent"], num_steps=30, limit=10)
    assert (found["attack"], found["epsilon"], found["gradient_mode"]) == ("latent", 0.005, None)


def test_a_baseline_has_only_bpda():
    found = measure(dataset="mnist", defense="bit_depth", limit=10)
    assert (found["purifier"], found["gradient_mode"]) == ("bit_depth", "bpda")
    assert found["purified_clean_accuracy"] > 0.8


def test_every_mode_of_a_purifier_is_tried():
    found = measure(defense="puvae", limit=10, num_steps=3)
    assert (found["purifier"], found["threat_model"]) == ("puvae", "whitebox")
    assert found["gradient_mode"] == "strongest"
    first = measure(defense="puvae", limit=10, num_steps=3, gradient_mode=["soft"])
    assert first["gradient_mode"] == "soft"
    assert found["attack_success_rate"] >= first["attack_success_rate"]


def test_a_blind_attacker_climbs_the_classifier_alone():
    found = measure(defense="puvae", threat_model="blind", attack=["advgan"])
    assert (found["threat_model"], found["gradient_mode"]) == ("blind", None)
    assert found["robust_accuracy"] > 0.5


def test_an_advgan_that_nobody_trained_is_flagged_and_several_are_a_worst_case():
    alone = measure(defense="bit_depth", attack=["advgan"], limit=10)
    assert (alone["attack"], alone["gradient_mode"]) == ("worst_case", None)
    assert "advgan_missing" not in flag_names(alone)  # nobody can train one through ART's
    wide = measure(dataset="cifar10", defense="defensegan_wide", attack=["advgan"], limit=1)
    assert "advgan_missing: advgan_cifar10_whitebox_defensegan_wide" in wide["checks"]
    both = measure(defense="puvae", attack=["advgan"], limit=10)
    assert (both["attack"], both["gradient_mode"]) == ("worst_case", None)
    assert "advgan_missing" not in flag_names(both)


def finish(folder, trainer, model):
    folder.mkdir(parents=True)
    model.build()
    model.save(folder / "model.keras")
    config = configuration.resolve(trainer, {"dataset": "mnist"})
    (folder / "config.json").write_text(json.dumps({"trainer": trainer, **config}))


def test_points_say_their_settings_and_do_not_replace_each_other(tmp_path):
    keras.utils.set_random_seed(0)
    shape, path = get_spec("mnist").image_shape, tmp_path / "results.jsonl"
    finish(tmp_path / "runs" / "plain", "puvae", PuVAE(shape, latent_dim=2))
    finish(tmp_path / "runs" / "prior", "defensegan", DCGAN(shape, latent_dim=2))
    few = {**OPTIONS, "split": "validation", "limit": 4, "num_steps": 1, "output_dir": tmp_path}
    few |= {"results_file": path, "threat_model": "blind", "attack": ["advgan"]}
    noisy = {"defense": "puvae", "purifier_run": "plain", "noise_scales": ["0", "0.5"]}
    found = attack.attack({**few, **noisy})
    descents = {"defense": "defensegan", "purifier_run": "prior", "descents": ["2x1", "1x2"]}
    found += attack.attack({**few, **descents})
    assert [record["purifier"] for record in found] == [
        "plain noise_scale=0.0",
        "plain noise_scale=0.5",
        "prior num_steps=2 num_restarts=1",
        "prior num_steps=1 num_restarts=2",
    ]
    assert all((record["split"], record["n"]) == ("validation", 4) for record in found)
    assert len(read_records(path)) == 4
    attack.attack({**few, **noisy, "noise_scales": ["0"]})
    assert len(read_records(path)) == 4
    knowing = {"threat_model": "whitebox", "attack": ["pgd"], "diagnose": True}
    (known,) = attack.attack({**few, **noisy, **knowing, "noise_scales": ["0"]})
    assert known["gradient_mode"] == "strongest" and 0 <= known["robust_accuracy"] <= 1
    with pytest.raises(ValueError, match="must be a run on fashion_mnist. Received: plain on mni"):
        attack.attack({**few, **noisy, "dataset": "fashion_mnist"})
    with pytest.raises(ValueError, match="`purifier_run` must be a run of puvae. Received: prior"):
        attack.attack({**few, **noisy, "purifier_run": "prior"})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"defense": "puvae", "noise_scales": ["-1"]}, "`noise_scales` must be numbers >= 0"),
        ({"defense": "puvae", "noise_scales": ["nan"]}, "`noise_scales` must be numbers >= 0"),
        ({"defense": "defensegan", "descents": ["0x10"]}, "`descents` steps x starts"),
        ({"noise_scales": ["0"]}, "`noise_scales` needs a PuVAE. Received: defense='none'"),
        ({"descents": ["2x1"], "defense": "puvae"}, "`descents` needs a DefenseGAN"),
        ({"descents": ["2"], "defense": "defensegan"}, r"as in 200x10. Received: \['2'\]"),
        ({"purifier_run": "x", "defense": "jpeg"}, "must be of a PuVAE or a prior"),
        ({"attack": ["bim"]}, r"`attack` must be among .* Received: \['bim'\]"),
        ({"defense": "puvae", "gradient_mode": ["encoder"]}, "needs a DefenseGAN"),
        ({"gradient_mode": ["soft"]}, "`gradient_mode` needs a `defense`"),
        ({"gradient_mode": ["hard"], "defense": "puvae"}, r"must be among .* Received: \['hard'\]"),
        ({"attack": ["pgd", "latent"]}, "they have no common record"),
        ({"attack": ["pgd"], "threat_model": "blackbox"}, "of a black box must be among"),
        ({"attack": ["latent"], "defense": "puvae"}, "`attack=latent` needs a DefenseGAN"),
        ({"attack": ["transfer"], "defense": "puvae"}, "`attack=transfer` needs the reference"),
        ({"attack": ["pgd_eot"], "defense": "puvae"}, "needs a purifier that draws"),
        ({"attack": ["advgan"], "epsilon": ["0.3"]}, "`attack=advgan` needs a trained AdvGAN"),
        ({"attack": ["advgan"], "advgans": ["nobody"]}, "nobody must be trained first"),
        ({"epsilon": ["0.2", "high"]}, "`epsilon` must be numbers. Received: 'high'"),
        ({"epsilon": ["0.2", "nan"]}, r"`epsilon` must be in \(0, 1\]"),
    ],
)
def test_bad_options_are_refused_before_anything_is_measured(tmp_path, options, message):
    path = tmp_path / "results.jsonl"
    with pytest.raises(ValueError, match=message):
        attack.attack({**OPTIONS, "results_file": path, **options})
    assert not path.exists()


def test_a_sheet_shows_images_clean_purified_attacked_and_both(tmp_path, monkeypatch):
    from tfpurify.report import figures

    drawn, draw = [], figures.figure_images

    def keep(rows, path):
        drawn.append(rows)
        draw(rows, path)

    monkeypatch.setattr(figures, "figure_images", keep)
    options = {"defense": "puvae_adversarial", "gradient_mode": ["bpda"], "num_steps": 2}
    measure(**options, limit=10, epsilon=["0.1"], sheet=str(tmp_path / "sheet.png"))
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")
    (rows,) = drawn
    titles = ["clean", "clean, purified", "attack on PuVAE (adversarially trained)"]
    assert [row.title for row in rows] == [*titles, "attacked, purified"]
    clean, purified, attacked, _ = (row.images for row in rows)
    assert 0 < abs(attacked - clean).max() <= 0.1 + 1e-6
    assert abs(purified - clean).max() > 0.1
