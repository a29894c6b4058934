"""The job of `trainers.protect`: what it refuses, what it says, and that it goes on."""

import json
import subprocess
import time

import keras
import numpy as np
import pytest

from tfpurify.data import own, specs
from tfpurify.evaluation import protection as protection_module
from tfpurify.evaluation import records, timed_training
from tfpurify.evaluation.protection import Protection
from tfpurify.evaluation.step_speed import seconds_per_step
from tfpurify.evaluation.time_shares import TimeShares
from tfpurify.report.protection_page import screen, table_rows
from tfpurify.training import configuration, own_classifier, trained_parts
from trainers import protect


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a small data set and two classifiers: one right, one that knows nothing."""
    monkeypatch.setattr(own, "_readers", {})
    monkeypatch.setattr(own, "DATASETS", known := dict(specs.DATASETS))
    monkeypatch.setattr(specs, "DATASETS", known)
    monkeypatch.setattr(own_classifier, "_known", {})
    own._splits.cache_clear()
    own.described.cache_clear()
    own_classifier.load.cache_clear()
    rng = np.random.default_rng(0)
    labels = np.arange(400) % 2
    images = np.clip(0.25 + 0.5 * labels[:, None, None] + 0.05 * rng.normal(size=(400, 8, 8)), 0, 1)
    for name, kept in (("stripes", 400), ("few", 120)):
        np.savez(
            tmp_path / f"{name}.npz",
            x_train=images[:kept],
            y_train=labels[:kept],
            x_test=images[:100],
            y_test=labels[:100],
        )
    for name, weight in (("right", 1.0), ("chance", 0.0)):
        dense = keras.layers.Dense(2)
        net = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), dense])
        kernel = np.full((64, 1), weight) * [[-1.0, 1.0]]
        dense.set_weights([kernel, -0.5 * kernel.sum(axis=0)])
        net.save(tmp_path / f"{name}.keras")
    return tmp_path


def make(place, dataset="stripes", classifier="right", **options):
    dataset = own.register(place / f"{dataset}.npz")
    name = own_classifier.register(
        {"dataset": dataset, "classifier": str(place / f"{classifier}.keras")}
    )
    return Protection(dataset, place, classifier=name, **options)


def test_a_classifier_at_chance_is_refused(place):
    with pytest.raises(ValueError, match="better than the most frequent class"):
        make(place, classifier="chance").check_classifier()


def test_few_images_are_said_and_the_accuracy_is_the_classifier_s(place):
    whole = make(place)
    assert whole.check_classifier() == 1.0
    assert not any("fewer than 100 training" in words for words in whole.warnings)
    few = make(place, dataset="few")
    few.check_classifier()
    assert any("2 of 2 classes have fewer than 100 training" in words for words in few.warnings)


def test_labels_beyond_the_classifier_s_outputs_are_refused(place):
    with np.load(place / "stripes.npz") as file:
        arrays = dict(file)
    arrays["y_train"] = arrays["y_train"] + np.arange(400) // 200
    np.savez(place / "three.npz", **arrays)
    with pytest.raises(ValueError, match="an output for each of three's 3 classes"):
        make(place, dataset="three").check_classifier()


def test_without_art_its_attacks_are_left_out_and_it_is_said(place, monkeypatch):
    monkeypatch.setattr(protection_module.importlib.util, "find_spec", lambda name: None)
    job = make(place)
    job.check_classifier()
    assert job.attacks == ("noise", "advgan", "pgd")
    assert any("APGD-CE and Square are not tried" in words for words in job.warnings)


@pytest.fixture
def trained(monkeypatch, place):
    """Trainings that leave a file and no model; the names of what was trained, in order."""
    names = []

    def train_within(part, seconds, where, architecture, log_folder):
        assert seconds > 0
        names.append(part.name)
        folder = place / "runs" / part.name
        folder.mkdir(parents=True)
        (folder / "summary.json").write_text("{}")
        (folder / "model.keras").write_text("")
        (folder / "config.json").write_text(json.dumps({"dataset": "stripes"}))

    monkeypatch.setattr(protection_module, "train_within", train_within)
    return names


def measured(job, purifier, threat_model, epsilon, seconds):
    rates = {
        "n": 50,
        "clean_accuracy": 1.0,
        "purified_clean_accuracy": None if purifier == "none" else 0.9,
        "correct_without_attack": 45,
        "robust_accuracy": 0.1,
        "attack_success_rate": 0.5,
        "attack_success_rate_low": 0.4,
        "attack_success_rate_high": 0.6,
        "epsilon": epsilon,
        "max_perturbation": epsilon,
        "dead_gradient": 0.0,
        "wall_seconds": 1.0,
    }
    return records.make_record(
        rates,
        dataset="stripes",
        data_source="own",
        split="test",
        classifier="right",
        purifier=purifier,
        threat_model=threat_model,
        attack="worst_case",
        seed=0,
    )


def test_every_defence_is_measured_once_and_a_second_run_has_nothing_left(
    place, trained, monkeypatch
):
    monkeypatch.setattr(Protection, "_attack", measured)
    epsilons = (0.1, 0.2)
    job = make(place, epsilons=epsilons, purifiers=("puvae", "puvae_adversarial"))
    found = list(job.run())
    settings = [(record["purifier"], record["threat_model"], record["epsilon"]) for record in found]
    expected = [("none", "whitebox", epsilon) for epsilon in epsilons]
    for purifier in ("puvae", "puvae_adversarial"):
        for epsilon in epsilons:
            expected += [(purifier, "blind", epsilon), (purifier, "whitebox", epsilon)]
    assert sorted(settings) == sorted(expected)
    # Nothing is trained twice, and no attack before what it goes through.
    assert len(set(trained)) == len(trained) == 8
    assert trained.index("puvae_stripes") < trained.index("advgan_stripes_whitebox_puvae_eps25_5")
    again = make(place, epsilons=epsilons, purifiers=("puvae", "puvae_adversarial"))
    assert list(again.run()) == [] and len(trained) == 8
    rows = table_rows(again, {"none": 1.0, "puvae": 2.0, "puvae_adversarial": 3.0})
    assert len(rows) == 6 and rows[1][0] == "PuVAE" and rows[1][2].startswith("90.0 [")
    assert "no purifier" in screen(rows)


def test_time_that_one_stage_leaves_or_overdraws_goes_to_the_rest():
    shares = TimeShares(100.0, {"a": 1.0, "b": 3.0})
    shares.plan(["a", "b", "b"])
    with shares.stage("a") as seconds:
        assert seconds == pytest.approx(100 / 7, abs=0.2)
        shares.deadline -= 60  # as if it had taken so long
    with shares.stage("b") as seconds:
        assert seconds == pytest.approx(20, abs=0.2)
        shares.deadline = time.monotonic() - 1
    with shares.stage("b") as seconds:
        assert seconds == 0.0


@pytest.mark.parametrize(
    ("verdicts", "status"),
    [
        ([(True, False)], 0),
        ([(False, False), (True, False)], 0),
        ([(False, False)], protect.NOT_WORTH_IT),
        ([(False, True), (True, False)], protect.WORSE_THAN_NONE),
    ],
)
def test_the_exit_status_tells_what_it_is_worth(verdicts, status, monkeypatch):
    from tfpurify.evaluation.verdict import Verdict
    from tfpurify.serving import protected_classifier

    found = [Verdict("", *one) for one in verdicts]
    monkeypatch.setattr(protected_classifier, "protect_classifier", lambda *_: found)
    assert protect.protect({}) == status


def test_another_classifier_or_other_images_are_not_mixed_with_what_is_there(
    place, trained, monkeypatch
):
    monkeypatch.setattr(Protection, "_attack", measured)
    list(make(place).run())
    assert set(trained) >= {"puvae_stripes_adversarial"}  # what grey images get
    own_classifier._known.clear()
    net = keras.saving.load_model(place / "right.keras")
    net.set_weights([2 * weight for weight in net.get_weights()])
    net.save(place / "right.keras")
    with pytest.raises(ValueError, match="classifier_sha256=.* Name another --output_dir"):
        list(make(place).run())


@pytest.mark.parametrize(
    ("trainer", "options"),
    [
        ("puvae", {}),
        ("puvae", {"adversarial": True}),
        ("defensegan", {"latent_dim": 4}),
        ("encoder", {}),
        ("advgan", {"epsilon": 0.1}),
    ],
)
def test_the_steps_of_every_trainer_are_timed(place, trainer, options):
    job = make(place)
    job.check_classifier()
    given = {"dataset": "stripes", "batch_size": 4, **options}
    assert 0 < seconds_per_step(trainer, given, job.classifier) < 60


def test_a_training_keeps_to_its_time_and_goes_on_as_it_was_begun(place, monkeypatch):
    job = make(place)
    job.check_classifier()
    commands = []

    def run(arguments, **_):
        commands.append(dict(a.lstrip("-").split("=", 1) for a in arguments if "=" in a))
        return subprocess.CompletedProcess(arguments, 1)

    monkeypatch.setattr(timed_training.subprocess, "run", run)
    monkeypatch.setattr(timed_training, "seconds_per_step", lambda *_: 0.1)
    part = trained_parts.attack_part("stripes", 0.1)
    where = {"data_source": "auto", "seed": 0, "output_dir": str(place)}
    with pytest.raises(ChildProcessError, match=f"Training {part.name} must succeed"):
        timed_training.train_within(part, 60.0, where, "right", place / "logs")
    (first,) = commands
    steps = int(first["epochs"]) * int(first["steps_per_epoch"])
    assert 250 <= steps <= 310  # of the 35 s after its start, at 0.115 s each
    assert first["dataset"] == str(place / "stripes.npz")
    assert first["classifier"] == str(place / "right.keras")
    folder = place / "runs" / part.name
    folder.mkdir(parents=True)
    begun = configuration.resolve("advgan", {"dataset": "stripes", "epsilon": 0.1})
    begun |= {"epochs": 7, "steps_per_epoch": 3, "validation_examples": 200}
    (folder / "config.json").write_text(json.dumps({**begun, "output_dir": str(place)}))
    with pytest.raises(ChildProcessError):
        timed_training.train_within(part, 600.0, where, "right", place / "logs")
    assert (commands[1]["epochs"], commands[1]["steps_per_epoch"]) == ("7", "3")


def test_models_of_other_images_of_the_same_name_are_not_loaded(place):
    make(place)
    described = own.described("stripes")
    for key in ("dataset_sha256", "classifier_sha256"):
        config = {"dataset": "stripes", "classifier": "right", **described, key: "another"}
        with pytest.raises(ValueError, match="train it again"):
            trained_parts._require_same_origin("puvae_stripes", config)
    right = {"dataset": "stripes", "classifier": "right", **described}
    right |= own_classifier.described("right")
    trained_parts._require_same_origin("puvae_stripes", right)
