"""The TFX pipeline: what it hands to a trainer, and, where TFX is installed, the whole of it."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from tfpurify.data import loading
from tfpurify.training import tfx_run

# What a process without our packages gets from a pushed version.
SERVE = """
import sys
import tensorflow as tf
bundle = tf.saved_model.load(sys.argv[1])
answer = bundle.signatures["serving_default"](images=tf.zeros((2, 28, 28, 1)))
assert not {"tfpurify", "trainers"} & set(sys.modules)
print(answer["logits"].shape, answer["error"].numpy().tolist())
"""


@pytest.mark.parametrize(
    "values",
    [
        ["epochs=2", "name=a=b", "adversarial=true"],
        ['{"epochs": 2, "name": "a=b", "adversarial": true}'],
        ["epochs=1", '{"name": "a=b", "epochs": 2}', "adversarial=true"],
    ],
)
def test_options_are_pairs_or_json(values):
    assert tfx_run.custom_config(values) == {"epochs": 2, "name": "a=b", "adversarial": True}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("epochs", "must be NAME=VALUE or a JSON object. Received: 'epochs'"),
        ("=2", "must be NAME=VALUE or a JSON object. Received: '=2'"),
        ('{"epochs": 2', "must be JSON if it begins with a brace"),
    ],
)
def test_other_options_are_refused(value, message):
    with pytest.raises(ValueError, match=message):
        tfx_run.custom_config([value])


def test_the_input_is_what_a_trainer_would_read_itself(tmp_path):
    config = {"dataset": "fashion_mnist", "data_dir": None, "data_source": "embedded"}
    tfx_run.write_input(tmp_path / "new" / "folder", config)
    spec = loading.get_spec("fashion_mnist")
    for pattern, split in (("train*", "train"), ("eval*", "validation")):
        written = loading.examples_from_files(str(tmp_path / "new" / "folder" / pattern), spec)
        expected = loading.load_dataset("fashion_mnist", split, source="embedded")
        assert len(written) == len(expected)
        for ours, theirs in zip(
            written.as_numpy_iterator(), expected.as_numpy_iterator(), strict=True
        ):
            np.testing.assert_array_equal(ours[0], theirs[0])
            assert ours[1] == theirs[1]


def test_without_files_to_validate_on_all_are_split(tmp_path):
    (tmp_path / "mnist-train.tfrecord-00000-of-00001").touch()
    found = tfx_run.find_splits(tmp_path, "*-train*", "*-eval*")
    assert found == {"all": "*-train*"}
    (tmp_path / "mnist-eval.tfrecord-00000-of-00001").touch()
    found = tfx_run.find_splits(tmp_path, "*-train*", "*-eval*")
    assert found == {"train": "*-train*", "eval": "*-eval*"}
    with pytest.raises(FileNotFoundError, match=r"Received: train_pattern='train\*', input_base="):
        tfx_run.find_splits(tmp_path, "train*", "*-eval*")


def test_without_tfx_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tfx", None)
    options = {
        "trainer": "puvae",
        "dataset": "mnist",
        "data_source": "embedded",
        "data_dir": None,
        "input_base": None,
        "custom_config": [],
        "pipeline_root": str(tmp_path / "root"),
        "serving_dir": str(tmp_path / "serving"),
    }
    with pytest.raises(ImportError, match=r'Python 3.10: `pip install -e "\.\[tfx\]"`'):
        tfx_run.run(options)
    assert not list(tmp_path.iterdir())


def run(folder, *arguments, check=True):
    done = subprocess.run(
        [
            *(sys.executable, "-m", "trainers.tfx_pipeline"),
            *("--dataset=mnist", "--data_source=embedded", "--train_steps=3"),
            *(f"--pipeline_root={folder / 'root'}", f"--serving_dir={folder / 'serving'}"),
            *("--custom_config=classifier=b", "--custom_config=eval_examples=20", *arguments),
        ],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    if check and done.returncode:
        pytest.fail(done.stderr)
    return done


def pushed(folder):
    return sorted(int(path.name) for path in (folder / "serving").iterdir())


def model_runs(folder):
    found = (folder / "root" / "Trainer" / "model_run").glob("*/config.json")
    return sorted(found, key=lambda path: int(path.parent.name))


@pytest.mark.slow
def test_a_pipeline_trains_pushes_again_and_pushes_nothing_that_failed(tmp_path):
    pytest.importorskip("tfx")
    run(tmp_path, "--trainer=classifier")
    (first,) = pushed(tmp_path)
    served = subprocess.run(
        [sys.executable, "-c", SERVE, str(tmp_path / "serving" / str(first))],
        cwd=tmp_path,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert served.stdout == "(2, 10) [b'', b'']\n", served.stderr

    (tmp_path / "root" / "input" / "mnist" / "eval.tfrecord").unlink()
    run(tmp_path, "--trainer=classifier", f"--input_base={tmp_path / 'root' / 'input' / 'mnist'}")
    assert pushed(tmp_path)[0] == first
    assert len(pushed(tmp_path)) == 2

    # The zoo has no PuVAE's classifier of network b: `run_fn` itself finds that out.
    done = run(tmp_path, "--trainer=puvae", check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: b_mnist must be trained first")
    assert len(pushed(tmp_path)) == 2

    spec = loading.get_spec("mnist")
    counts = []
    for path in model_runs(tmp_path):
        config = json.loads(path.read_text())
        assert (config["classifier"], config["train_steps"]) == ("b", 3)
        files = config["train_files"], config["eval_files"]
        counts.append([len(loading.examples_from_files(patterns, spec)) for patterns in files])
    whole, hashed = counts
    assert whole == [1800, 200]
    assert sum(hashed) == 1800
    assert 100 < hashed[1] < 260
