import json
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny_runs import TINY, make_fn_args

from tfpurify import load_model
from tfpurify.data.specs import get_spec
from tfpurify.evaluation import records
from tfpurify.models.classifiers import build_classifier
from tfpurify.models.copies import frozen_part
from tfpurify.training import checkpoints, runner
from tfpurify.vocabulary import RECORD_KEYS
from trainers import advgan, classifier, defensegan, puvae

ADVGAN_RUNS = [
    ({}, "advgan_mnist_whitebox_none", "whitebox", None),
    ({"defense": "puvae"}, "advgan_mnist_blind_puvae", "blind", None),
    (
        {"defense": "puvae", "whitebox": True},
        "advgan_mnist_whitebox_puvae",
        "whitebox",
        "soft",
    ),
    (
        {"defense": "defensegan", "whitebox": True, "num_steps": 2, "eval_examples": 1},
        "advgan_mnist_whitebox_defensegan",
        "whitebox",
        "bpda",
    ),
    (
        {"blackbox": "static", "surrogate": "b", "distillation_epochs": 1},
        "advgan_mnist_blackbox_static",
        "blackbox",
        None,
    ),
    (
        {"blackbox": "dynamic", "surrogate": "b", "distillation_epochs": 1},
        "advgan_mnist_blackbox_dynamic",
        "blackbox",
        None,
    ),
]


def read_record(folder):
    (record,) = records.read_records(folder / "record.jsonl")
    return record


@pytest.mark.parametrize(("options", "name", "threat_model", "gradient_mode"), ADVGAN_RUNS)
def test_advgan_leaves_a_whole_run(workshop, options, name, threat_model, gradient_mode):
    advgan.run_fn(make_fn_args({**TINY, "output_dir": str(workshop), **options}))

    folder = workshop / "runs" / name
    record = read_record(folder)
    assert set(record) == set(RECORD_KEYS)
    assert record["threat_model"] == threat_model
    assert record["gradient_mode"] == gradient_mode
    distillation = options.get("blackbox")
    assert record["attack"] == (f"advgan_{distillation}" if distillation else "advgan")
    assert record["purifier"] == options.get("defense", "none")
    assert record["epsilon"] == 0.2
    assert json.loads((folder / "config.json").read_text())["batch_size"] == 8
    assert list((folder / "tensorboard").rglob("*tfevents*"))
    attack = load_model(folder / "model.keras")
    assert int(attack.generator_optimizer.iterations.numpy()) == 2
    bundle = tf.saved_model.load(str(workshop / "saved_models" / name / "1"))
    images = tf.random.uniform((3, 28, 28, 1))
    served = bundle.signatures["serving_default"](images=images)["adversarial_images"]
    np.testing.assert_allclose(served, attack(images), atol=1e-5)


def test_advgan_trained_in_bfloat16_leaves_float32_and_keeps_its_bound(workshop):
    options = {"mixed_precision": True, "whitebox": True, "defense": "puvae", "name": "reduced"}
    advgan.run_fn(make_fn_args({**TINY, "output_dir": str(workshop), **options, "epsilon": 0.02}))

    attack = load_model(workshop / "runs" / "reduced" / "model.keras")
    assert attack.generator.stack.layers[0].compute_dtype == "float32"
    assert attack.discriminator.layers[0].compute_dtype == "float32"
    images = tf.random.uniform((3, 28, 28, 1))
    distances = np.abs(attack(images) - images)
    assert 0 < distances.max() <= 0.02 + 1e-6


def test_a_gradient_that_dies_in_training_names_the_layer(tmp_path, dead_layer):
    with pytest.raises(ValueError, match=dead_layer):
        advgan.run_fn(make_fn_args({**TINY, "output_dir": str(tmp_path)}))
    assert not list(tmp_path.glob("runs/*"))


@pytest.mark.parametrize(
    ("purifier", "bundle_name"),
    [("puvae", "puvae_mnist_cnn"), ("defensegan", "defensegan_mnist_cnn")],
)
def test_defences_serve_purified_logits_and_images(workshop, purifier, bundle_name):
    run = {"puvae": "puvae_mnist", "defensegan": "dcgan_mnist"}[purifier]
    record = read_record(workshop / "runs" / run)
    assert record["purifier"] == purifier
    assert record["purified_clean_accuracy"] is not None
    bundle = tf.saved_model.load(str(workshop / "saved_models" / bundle_name / "1"))
    images = tf.random.uniform((2, 28, 28, 1))
    answer = bundle.signatures["serving_default"](images=images)
    assert answer["logits"].shape == (2, 10)
    np.testing.assert_allclose(
        bundle.signatures["purify"](images=images)["purified_images"],
        answer["purified_images"],
        atol=1e-5,
    )


@pytest.mark.parametrize("dataset", ["fashion_mnist", "cifar10"])
def test_other_data_sets_and_networks(tmp_path, dataset):
    config = {**TINY, "dataset": dataset, "classifier": "b", "output_dir": str(tmp_path)}
    classifier.run_fn(make_fn_args(config))
    assert read_record(tmp_path / "runs" / f"b_{dataset}")["dataset"] == dataset
    advgan.run_fn(make_fn_args(config))
    assert read_record(tmp_path / "runs" / f"advgan_{dataset}_whitebox_none_b")["n"] == 8


def test_tfx_hands_over_files_and_folders(tmp_path):
    sample = pathlib.Path(classifier.__file__).parents[1] / "tfpurify" / "data" / "embedded"
    fn_args = make_fn_args(
        {**TINY, "train_steps": None, "classifier": "b"},
        train_files=[str(sample / "mnist_train.tfrecord")],
        eval_files=[str(sample / "mnist_test.tfrecord")],
        train_steps=3,
        serving_model_dir=str(tmp_path / "serving"),
        model_run_dir=str(tmp_path / "run"),
    )
    classifier.run_fn(fn_args)
    classifier.run_fn(fn_args)  # a finished run serves again
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "serving"]
    loaded = tf.saved_model.load(str(tmp_path / "serving"))
    assert "logits" in loaded.signatures["serving_default"](images=tf.zeros((1, 28, 28, 1)))
    model = load_model(tmp_path / "run" / "model.keras")
    assert int(model.optimizer.iterations.numpy()) == 3


def test_a_resumed_run_equals_an_uninterrupted_one(workshop, tmp_path, monkeypatch):
    def run(folder):
        runs = tmp_path / folder / "runs"
        if not runs.exists():
            runs.mkdir(parents=True)
            (runs / "cnn_mnist").symlink_to(workshop / "runs" / "cnn_mnist")
        config = {**TINY, "batch_size": 900, "num_steps": 1, "num_restarts": 1, "epochs": 2}
        config |= {"train_steps": None, "output_dir": str(tmp_path / folder)}
        defensegan.run_fn(make_fn_args(config))

    class Killed(Exception):
        pass

    class KilledCheckpoint(checkpoints.EpochCheckpoint):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                raise Killed

    run("whole")
    with monkeypatch.context() as patch:
        patch.setattr(runner, "EpochCheckpoint", KilledCheckpoint)
        with pytest.raises(Killed):
            run("parts")
    run("parts")

    ours, theirs = (
        load_model(tmp_path / folder / "runs" / "dcgan_mnist" / "model.keras")
        for folder in ("parts", "whole")
    )
    for name in ("generator_optimizer", "discriminator_optimizer"):
        for mine, other in zip(
            getattr(ours, name).variables, getattr(theirs, name).variables, strict=True
        ):
            np.testing.assert_allclose(mine.numpy(), other.numpy(), rtol=1e-3, atol=1e-4)


def test_a_second_call_trains_nothing_more(workshop):
    path = workshop / "runs" / "cnn_mnist" / "history.csv"
    before = path.read_text()
    classifier.run_fn(make_fn_args({**TINY, "output_dir": str(workshop)}))
    assert path.read_text() == before


def test_a_second_call_leaves_the_summary_of_an_attack(workshop):
    path = workshop / "runs" / "advgan_mnist_whitebox_none" / "summary.json"
    before = path.read_text()
    advgan.run_fn(make_fn_args({**TINY, "output_dir": str(workshop)}))
    assert path.read_text() == before


def test_short_epochs_need_a_number_of_epochs(tmp_path):
    config = {**TINY, "steps_per_epoch": 1, "output_dir": str(tmp_path)}
    with pytest.raises(ValueError, match="`steps_per_epoch` .* needs `epochs`"):
        classifier.run_fn(make_fn_args(config))


def test_nan_stops_the_run_and_leaves_no_model(workshop, tmp_path):
    config = {**TINY, "learning_rate": 1e30, "output_dir": str(tmp_path), "classifier": "b"}
    with pytest.raises(
        FloatingPointError, match=r"must be finite. Received: nan at step \d of epoch 1"
    ):
        classifier.run_fn(make_fn_args({**config, "train_steps": 6}))
    assert not list(tmp_path.glob("runs/*"))


def test_puvae_needs_its_classifier(tmp_path, monkeypatch):
    monkeypatch.setenv("TFPURIFY_ZOO", str(tmp_path / "no_zoo"))
    with pytest.raises(ValueError, match=r"python -m trainers.classifier --dataset=mnist"):
        puvae.run_fn(make_fn_args({**TINY, "output_dir": str(tmp_path)}))


def test_a_run_does_not_go_on_under_other_settings(workshop):
    config = {**TINY, "output_dir": str(workshop), "learning_rate": 0.5}
    with pytest.raises(ValueError, match=r"learning_rate.*Start over with --noresume"):
        classifier.run_fn(make_fn_args(config))


def test_a_run_that_lost_its_settings_does_not_go_on(tmp_path):
    config = {**TINY, "output_dir": str(tmp_path), "classifier": "b"}
    classifier.run_fn(make_fn_args(config))
    (tmp_path / "runs" / "b_mnist" / "config.json").unlink()
    with pytest.raises(ValueError, match=r"config.json must be there .* --noresume"):
        classifier.run_fn(make_fn_args({**config, "seed": 9}))


def test_a_frozen_classifier_follows_the_precision_of_the_run():
    full = build_classifier("cnn", get_spec("mnist"))
    try:
        keras.config.set_dtype_policy("mixed_bfloat16")
        reduced = frozen_part(full)
    finally:
        keras.config.set_dtype_policy("float32")
    assert reduced.stack.layers[0].compute_dtype == "bfloat16"
    assert reduced.stack.layers[-1].compute_dtype == "float32"
    images = np.random.default_rng(0).uniform(size=(4, 28, 28, 1)).astype("float32")
    np.testing.assert_allclose(reduced(images), full(images), atol=0.05)
    for mine, other in zip(reduced.get_weights(), full.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, other)
