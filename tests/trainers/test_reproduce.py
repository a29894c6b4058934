"""The main job on a tiny zoo: every cell measured once, nothing skipped in silence."""

import collections
import json
import subprocess
from pathlib import Path
from types import SimpleNamespace

import keras
import pytest

from tfpurify import provenance
from tfpurify.attacks.advgan import AdvGAN
from tfpurify.data.specs import get_spec
from tfpurify.evaluation import (
    comparisons,
    experiment_runner,
    experiments,
    observed_purifier,
    retraining,
)
from tfpurify.evaluation.diagnostics import with_derived_checks
from tfpurify.evaluation.distances import read_distances
from tfpurify.evaluation.experiment_runner import ExperimentRunner
from tfpurify.evaluation.records import read_records
from tfpurify.models import zoo
from tfpurify.models.classifiers import build_classifier
from tfpurify.purifiers.dcgan import DCGAN
from tfpurify.purifiers.defensegan import DefenseGAN
from tfpurify.purifiers.puvae import PuVAE
from tfpurify.report import writing
from tfpurify.training import configuration
from trainers import reproduce

ATTACKERS = sorted({cell.attacker for cell in experiments.STUDY_EXPERIMENTS} - {None})
OPTIONS = {
    "dataset": "mnist",
    "purifiers": None,
    "data_source": None,
    "data_dir": None,
    "limit": 6,
    "defensegan_limit": 2,
    "prior_limit": 1,
    "transfer": False,
    "thorough": True,
    "pgd_steps": 0,
    "pgd_limit": 2,
    "pgd_modes": None,
    "worst_case_steps": 0,
    "worst_case_limit": 2,
    "seed": None,
    "retrain": False,
    "train_steps": None,
    "output_dir": None,
    "results_file": None,
}


@pytest.fixture(scope="module")
def tiny_zoo(tmp_path_factory):
    """A zoo of untrained models under the names of the trained ones."""
    folder = tmp_path_factory.mktemp("zoo")
    keras.utils.set_random_seed(0)
    spec, parts = get_spec("mnist"), experiments.parts("mnist")
    models = {
        "classifier": build_classifier("cnn", spec),
        "puvae": PuVAE(spec.image_shape, latent_dim=2),
        "defensegan": DCGAN(spec.image_shape, latent_dim=2),
        "defensegan_wgan": DCGAN(spec.image_shape, latent_dim=2, gan_loss="wgan-gp"),
        **{role: AdvGAN(spec.image_shape, width=2, name=role) for role in ATTACKERS},
    }
    modes = {"whitebox_puvae": "exact", "whitebox_defensegan": "bpda"}
    for seed, (role, model) in enumerate(models.items()):
        model.build()
        zoo.save(
            model,
            parts[role].name,
            folder,
            command=parts[role].command,
            seed=seed,
            gradient_mode=modes.get(role),
        )
    return folder


@pytest.fixture(scope="module")
def report_of(tiny_zoo, tmp_path_factory):
    """One whole run of the main job: its records and its folder."""
    folder = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TFPURIFY_ZOO", str(tiny_zoo))
        options = {
            **OPTIONS,
            "output_dir": folder / "report",
            "results_file": folder / "results.jsonl",
            "pgd_steps": 1,
            "worst_case_steps": 1,
        }
        return reproduce.reproduce(options), folder


def test_every_cell_is_measured_once(report_of):
    records, folder = report_of
    cells = {(r["threat_model"], r["purifier"], r["attack"], r["gradient_mode"]) for r in records}
    assert cells == {
        ("none", "none", "none", None),
        ("blackbox", "none", "advgan_static", None),
        ("blackbox", "none", "advgan_dynamic", None),
        ("blind", "puvae", "advgan", None),
        ("blind", "defensegan", "advgan", None),
        ("blind", "defensegan_wgan", "advgan", None),
        ("whitebox", "none", "advgan", None),
        ("whitebox", "puvae", "advgan", "exact"),  # what the zoo says, not the preset's
        ("whitebox", "defensegan", "advgan", "bpda"),
        ("whitebox", "none", "pgd", None),
        ("whitebox", "puvae", "pgd", "soft"),
        ("whitebox", "puvae", "pgd", "selection"),
        ("whitebox", "puvae", "pgd", "exact"),
        ("whitebox", "puvae", "pgd", "bpda"),
        ("whitebox", "defensegan", "pgd", "bpda"),
        ("whitebox", "defensegan", "pgd", "truncated"),
        ("blind", "puvae", "worst_case", None),
        ("blind", "defensegan", "worst_case", None),
        ("whitebox", "none", "worst_case", None),
        ("whitebox", "puvae", "worst_case", "strongest"),
        ("whitebox", "defensegan", "worst_case", None),
    }
    assert len(records) == len(cells)
    assert read_records(folder / "results.jsonl") == with_derived_checks(records, [])
    assert read_records(folder / "report" / "records.jsonl") == with_derived_checks(records, [])
    names = {path.name for path in (folder / "report").iterdir()}
    assert names == {
        *("records.jsonl", "distances.jsonl", "report.md", "report.html", "rates.png"),
        *("trade_off.png", "distances.png", "seconds.png", "images_mnist.png"),
    }


def test_what_a_purifier_moves_is_measured_beside_each_blind_advgan(report_of):
    records, folder = report_of
    lines = read_distances(folder / "report" / "distances.jsonl")
    blind = [r for r in records if (r["threat_model"], r["attack"]) == ("blind", "advgan")]
    assert [line["purifier"] for line in lines] == [record["purifier"] for record in blind]
    for line, record in zip(lines, blind, strict=True):
        assert line["n"] == record["n"] == sum(line["clean_counts"])
        assert sum(line["adversarial_counts"]) == line["n"]
        assert 0 < line["clean_mean"] <= line["edges"][-1] and line["seconds_per_image"] > 0
    assert read_distances(folder / "distances.jsonl") == lines


def test_each_record_says_its_own_n_seed_and_source(report_of):
    for record in report_of[0]:
        is_small = record["purifier"] == "defensegan" or record["attack"] in ("pgd", "worst_case")
        expected = 1 if record["purifier"] == "defensegan_wgan" else 2 if is_small else 6
        assert record["n"] == expected
        assert record["data_source"] == "embedded" and record["split"] == "test"
        assert (record["purified_clean_accuracy"] is None) == (record["purifier"] == "none")
        if record["attack"].startswith("advgan"):
            assert record["epsilon"] == 0.2
    seeds = {r["threat_model"]: r["seed"] for r in report_of[0] if r["attack"] == "advgan_dynamic"}
    assert seeds == {"blackbox": 4}


def test_clean_images_are_purified_once(digits):
    counts = collections.Counter()

    class Counting:
        image_shape = (28, 28, 1)

        def __call__(self, images, training=False):
            return images

    purifier = observed_purifier.ObservedPurifier(Counting())
    traced = purifier._purify
    purifier._purify = lambda images: counts.update(calls=1) or traced(images)
    images, labels = digits[0][:4], digits[1][:4]
    for _ in range(3):
        for clean, _ in purifier.watch([(images, labels)]):
            purifier(clean)
            purifier(clean * 0.5)
    assert counts["calls"] == 1 + 3


def test_defensegan_is_evaluated_with_the_whole_descent(tiny_zoo, monkeypatch):
    monkeypatch.setenv("TFPURIFY_ZOO", str(tiny_zoo))
    made = []
    monkeypatch.setattr(
        DefenseGAN, "build", lambda self, shape=None: made.append(self) or setattr(self, "built", 1)
    )
    ExperimentRunner("mnist", OPTIONS).parts.purifier("defensegan")
    assert [(purifier.num_steps, purifier.num_restarts) for purifier in made] == [(200, 10)]


def test_a_whitebox_attack_below_a_blind_one_is_flagged(report_of):
    records = {r["threat_model"]: dict(r, checks=[]) for r in report_of[0] if r["n"] == 6}
    blind = {**records["blind"], "attack_success_rate": 0.5}
    whitebox = {**blind, "threat_model": "whitebox", "attack_success_rate": 0.4, "checks": []}
    ((record, flag),) = comparisons.compare_records([blind, whitebox])
    assert record is whitebox and flag.startswith("whitebox_below_blind")
    assert "whitebox_below_blind" in writing.tables_markdown([blind, whitebox])


def test_a_record_is_on_file_before_the_next_cell_begins(tiny_zoo, tmp_path, monkeypatch):
    monkeypatch.setenv("TFPURIFY_ZOO", str(tiny_zoo))
    path, begun, measure = (
        tmp_path / "results.jsonl",
        [],
        ExperimentRunner._measure,
    )

    def interrupted(self, experiment, mode):
        if begun:
            raise KeyboardInterrupt
        begun.append(experiment)
        return measure(self, experiment, mode)

    monkeypatch.setattr(ExperimentRunner, "_measure", interrupted)
    options = {**OPTIONS, "output_dir": tmp_path, "results_file": path, "purifiers": ["puvae"]}
    with pytest.raises(KeyboardInterrupt):
        reproduce.reproduce(options)
    assert [record["purifier"] for record in read_records(path)] == ["puvae"]
    assert [line["purifier"] for line in read_distances(tmp_path / "distances.jsonl")] == ["puvae"]


def test_a_purifier_that_no_cell_has_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"`purifiers` must be among .*Received: \['puvea'\]"):
        reproduce.reproduce({**OPTIONS, "output_dir": tmp_path, "purifiers": ["puvea"]})


def test_the_transfer_matrix_takes_shipped_parts_from_the_zoo(tiny_zoo, tmp_path, monkeypatch):
    monkeypatch.setenv("TFPURIFY_ZOO", str(tiny_zoo))
    for name in ("cnn_mnist", "a_mnist"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "model.keras").write_text("")
    study = ExperimentRunner("mnist", {**OPTIONS, "transfer": True, "output_dir": tmp_path})
    assert "a_mnist" not in [part.name for part in study.parts.missing()]
    assert study.parts.load("classifier").count_params() > 0  # the empty file would be an error
    with pytest.raises(ValueError, match="a_mnist"):
        study.parts.load("classifier_a")


def test_missing_parts_are_named_and_the_rest_is_measured(tiny_zoo, tmp_path, monkeypatch, capsys):
    manifest = json.loads((tiny_zoo / "manifest.json").read_text())
    manifest["models"] = {"cnn_mnist": manifest["models"]["cnn_mnist"]}
    (tmp_path / "zoo").mkdir()
    (tmp_path / "zoo" / "manifest.json").write_text(json.dumps(manifest))
    (tmp_path / "zoo" / "cnn_mnist.npz").write_bytes((tiny_zoo / "cnn_mnist.npz").read_bytes())
    monkeypatch.setenv("TFPURIFY_ZOO", str(tmp_path / "zoo"))
    options = {**OPTIONS, "dataset": "all", "output_dir": tmp_path / "report"}
    assert len(reproduce.reproduce(options)) == 1
    printed = capsys.readouterr().out
    assert "mnist, not in the zoo yet: puvae_mnist" in printed
    assert "python -m trainers.advgan --dataset=mnist --defense=puvae --whitebox" in printed
    assert "cifar10, not in the zoo yet: vgg13_cifar10" in printed
    assert "The report: " in printed and "study" not in printed  # the report has the tables
    assert "cifar10, not in the zoo yet" in (tmp_path / "report" / "report.md").read_text()


def test_a_purifiers_row_is_printed_before_the_next_ones_experiments(
    tiny_zoo, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("TFPURIFY_ZOO", str(tiny_zoo))
    measure, printed = ExperimentRunner._measure, {}

    def watched(self, experiment, mode):
        printed.setdefault(experiment.purifier, capsys.readouterr().out)
        return measure(self, experiment, mode)

    monkeypatch.setattr(ExperimentRunner, "_measure", watched)
    options = {**OPTIONS, "output_dir": tmp_path, "purifiers": ["none", "puvae"]}
    records = reproduce.reproduce(options)
    clean = next(r["clean_accuracy"] for r in records if r["threat_model"] == "none")
    assert printed["none"].splitlines()[-1].startswith("Data set")
    assert printed["puvae"].startswith("MNIST          no purifier")
    assert f"{100 * clean:.1f}" in printed["puvae"]


def test_the_short_job_measures_less_and_says_so(tiny_zoo, tmp_path, monkeypatch):
    monkeypatch.setenv("TFPURIFY_ZOO", str(tiny_zoo))
    names = ("limit", "defensegan_limit", "prior_limit", "worst_case_steps", "worst_case_limit")
    options = {**OPTIONS, **dict.fromkeys(names), "output_dir": tmp_path, "thorough": False}
    short = {**reproduce._SHORT, "limit": 5, "worst_case_limit": 2, "worst_case_steps": 1}
    monkeypatch.setattr(reproduce, "_SHORT", short)
    records = reproduce.reproduce({**options, "purifiers": ["puvae"]})
    assert {r["n"] for r in records} == {5, 2}
    (worst,) = (
        r for r in records if (r["attack"], r["threat_model"]) == ("worst_case", "whitebox")
    )
    assert worst["gradient_mode"] == "soft"
    assert any(flag.startswith("modes_missing") for flag in worst["checks"])


def test_without_any_part_it_fails_and_says_what_trains_them(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TFPURIFY_ZOO", str(tmp_path / "none"))
    with pytest.raises(ValueError, match="`dataset` must have a trained classifier in the zoo"):
        reproduce.reproduce({**OPTIONS, "output_dir": tmp_path / "report"})
    assert "python -m trainers.classifier --dataset=mnist" in capsys.readouterr().out
    assert not list((tmp_path / "report").iterdir())


def test_an_unwritable_folder_is_refused_before_the_work(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(
        ExperimentRunner,
        "run",
        lambda self, show: pytest.fail("the work was begun"),
    )
    with pytest.raises(OSError, match="`output_dir` must be a writable folder"):
        reproduce.reproduce({**OPTIONS, "output_dir": tmp_path / "file" / "report"})


@pytest.fixture
def trainings(monkeypatch):
    """Stands for the trainers' processes: their command lines, and the folders they leave."""
    commands = []

    def run(command, **_):
        flags = dict(word.lstrip("-").partition("=")[::2] for word in command[3:])
        fitting = [
            part
            for part in experiments.parts(flags["dataset"]).values()
            if part.arguments == command[1 : 1 + len(part.arguments)]
        ]
        part = max(fitting, key=lambda part: len(part.arguments))
        commands.append(command[1:])
        _finish(part, flags["output_dir"], seed=int(flags.get("seed", 0)))
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(subprocess, "run", run)
    return commands


def _finish(part, output_dir, source="embedded", **options):
    folder = Path(output_dir) / "runs" / part.name
    folder.mkdir(parents=True)
    config = configuration.resolve(part.trainer, {**dict(part.options), **options})
    config["source"] = source
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "summary.json").write_text("{}")
    (folder / "model.keras").write_text("")


def test_retrain_runs_every_trainer_in_order_and_skips_the_finished(trainings, tmp_path):
    options = {**OPTIONS, "data_source": "embedded", "output_dir": str(tmp_path), "seed": 3}
    _finish(experiments.parts("mnist")["puvae"], tmp_path, seed=3)
    retraining.retrain("mnist", options)
    trainers = [command[1].removeprefix("trainers.") for command in trainings]
    assert trainers[:9] == ["classifier", "defensegan", "encoder"] + ["advgan"] * 6
    for place, defense in ((7, "defensegan"), (8, "defensegan_fast")):
        assert {f"--defense={defense}", "--whitebox"} <= set(trainings[place])
    assert trainers[9:] == ["defensegan", "puvae", "advgan"]
    assert "--adversarial" in trainings[10] and "--defense=puvae_adversarial" in trainings[11]
    for command in trainings:
        assert {f"--output_dir={tmp_path}", "--seed=3", "--data_source=embedded"} <= set(command)
    trainings.clear()
    retraining.retrain("mnist", options)
    assert trainings == []


def test_the_transfer_matrix_adds_its_parts_and_cells():
    plain, whole = experiments.parts("mnist"), experiments.parts("mnist", is_with_transfer=True)
    assert [name for name in whole if name not in plain] == [
        *("classifier_a", "whitebox_none_a", "classifier_b", "whitebox_none_b"),
        *("puvae_cnn", "puvae_a", "puvae_b"),
    ]
    names = [part.name for part in whole.values()]
    assert len(set(names)) == len(names)
    cells = set(experiments.advgan_experiments("mnist", True)) - set(
        experiments.advgan_experiments("mnist")
    )
    blind = {(c.purifier, c.architecture) for c in cells if c.threat_model == "blind"}
    sources, targets = ("puvae_cnn", "puvae_a", "puvae_b"), (None, "a", "b")
    assert blind == {(source, target) for source in sources for target in targets}
    assert experiments.parts("cifar10", True) == experiments.parts("cifar10")


def test_every_cell_of_cifar10_has_its_parts_at_both_budgets():
    parts = experiments.parts("cifar10")
    for cell in experiments.advgan_experiments("cifar10") + experiments.pgd_experiments("cifar10"):
        assert set(cell.roles) <= set(parts)
    assert parts["whitebox_puvae_small"].name == "advgan_cifar10_whitebox_puvae_eps8"
    assert "--epsilon=0.03137254901960784" in parts["whitebox_puvae_small"].command
    assert parts["defensegan_wide"].name == "dcgan_cifar10_width2"


@pytest.mark.parametrize(
    ("finished", "asked", "received"),
    [
        ({"seed": 0}, {"seed": 3}, "seed=3"),
        ({"train_steps": 5}, {}, "train_steps=None"),
        ({"seed": 3}, {}, "seed=0"),
        ({"source": "tfds"}, {}, "source=embedded"),
    ],
)
def test_retrain_refuses_runs_of_other_settings(trainings, tmp_path, finished, asked, received):
    _finish(experiments.parts("mnist")["classifier"], tmp_path, **finished)
    options = {**OPTIONS, "data_source": "embedded", "output_dir": str(tmp_path), **asked}
    with pytest.raises(ValueError, match=f"settings asked for. Received: {received}"):
        retraining.retrain("mnist", options)


def test_retrain_stops_where_a_training_fails(tmp_path, monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=2))
    options = {**OPTIONS, "data_source": "auto", "output_dir": str(tmp_path)}
    with pytest.raises(ChildProcessError, match="Training cnn_mnist .* exit status 2"):
        retraining.retrain("mnist", options)


def test_portable_command_keeps_what_decides_a_number():
    command = "python -m trainers.reproduce --data_dir=/a --output_dir /b --limit=5 --retrain"
    assert (
        provenance.portable_command(command) == "python -m trainers.reproduce --limit=5 --retrain"
    )


@pytest.mark.parametrize(
    "asked", [{"thorough": True}, {"retrain": True}, {"data_source": "tfds"}, {"limit": 7}]
)
def test_what_is_long_is_thorough(asked, tmp_path, monkeypatch):
    taken = {}

    class Stopped(Exception):
        pass

    def stop(dataset, options):
        taken.update(options)
        raise Stopped

    monkeypatch.setattr(experiment_runner, "ExperimentRunner", stop)
    monkeypatch.setattr(retraining, "retrain", lambda *_: None)
    options = {**OPTIONS, **dict.fromkeys(reproduce._SHORT), "output_dir": tmp_path}
    with pytest.raises(Stopped):
        reproduce.reproduce({**options, "thorough": False, **asked})
    if "limit" in asked:
        assert taken["limit"] == 7 and taken["defensegan_limit"] == 8
    else:
        assert taken["limit"] is None and taken["defensegan_limit"] == 100 and taken["thorough"]
