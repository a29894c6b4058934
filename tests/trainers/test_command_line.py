import os
import subprocess
import sys

import pytest

from tfpurify import vocabulary
from tfpurify.training import configuration, naming

TFX = ["trainers.tfx_pipeline", "--pipeline_root=pipeline", "--serving_dir=serving"]


def run(tmp_path, *arguments):
    environment = {**os.environ, "TFPURIFY_ZOO": str(tmp_path / "zoo"), "PYTHONPATH": os.getcwd()}
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trainers.puvae", "--dataset=svhn"], "`dataset` must be one of"),
        (["trainers.advgan", "--whitebox", "--blackbox=static"], "exclude each other"),
        (["trainers.advgan", "--epsilon=1.5"], r"`epsilon` must be in (0, 1]"),
        (["trainers.advgan", "--epsilon=0"], r"`epsilon` must be in (0, 1]"),
        (["trainers.puvae", "--kl_weight=nan"], "`kl_weight` must be finite"),
        (["trainers.defensegan", "--num_restarts=0"], "--num_restarts=0"),
        (["trainers.classifier", "--name=..", "--noresume"], "Received: name='..'"),
        (["trainers.advgan", "--target_class=3"], "`target_class` needs `targeted`"),
        (["trainers.advgan", "--gradient_mode=soft"], "`gradient_mode` needs `whitebox`"),
        (["trainers.classifier", "mnist"], "Arguments must be flags"),
        (["trainers.tfx_pipeline", "--pipeline_root=p"], "--serving_dir must have a value"),
        ([*TFX, "--custom_config=epochz=3"], "Received: ['epochz']"),
        ([*TFX, "--custom_config=epochs=two"], "`epochs` must be of type int. Received: epochs='t"),
        (["trainers.classifier", "--distribution=multi_worker"], "`TF_CONFIG` must name"),
        (["trainers.classifier", "--output_dir=/dev/null/x"], "`output_dir` must be a writable"),
        (
            [
                "trainers.advgan",
                "--dataset=cifar10",
                "--defense=puvae",
                "--whitebox",
                "--data_source=embedded",
            ],
            "python -m trainers.classifier --dataset=cifar10 --classifier=vgg13 and then "
            "python -m trainers.puvae --dataset=cifar10",
        ),
    ],
)
def test_bad_input_is_one_line_and_a_failure(tmp_path, arguments, message):
    done = run(tmp_path, *arguments)
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 1
    assert len(errors) == 1
    assert message in errors[0]
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "trainer", ["classifier", "puvae", "defensegan", "advgan", "reproduce", "tfx_pipeline"]
)
def test_help_lists_the_flags_without_tensorflow(tmp_path, trainer):
    code = (
        "import runpy, sys; sys.argv = ['trainer', '--help']\n"
        "try:\n"
        f"    runpy.run_module('trainers.{trainer}', run_name='__main__', alter_sys=True)\n"
        "except SystemExit:\n"
        "    pass\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "--dataset" in done.stdout


@pytest.mark.parametrize("dataset", vocabulary.DATASETS)
@pytest.mark.parametrize("trainer", ["classifier", "puvae", "defensegan", "advgan"])
def test_every_preset_resolves(trainer, dataset):
    config = configuration.resolve(trainer, {"dataset": dataset, "seed": 3})
    assert config["dataset"] == dataset
    assert config["seed"] == 3
    assert naming.run_name(trainer, config)


def test_unknown_options_are_refused():
    with pytest.raises(ValueError, match="Received: \\['epsilonn'\\]"):
        configuration.resolve("advgan", {"epsilonn": 0.2})


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("epochs", 2.5, "int"),
        ("train_steps", True, "int"),  # its preset is None
        ("learning_rate", "0.1", "float"),
        ("adversarial", "True", "bool"),
        ("adversarial", 1, "bool"),
        ("classification_labels", 3, "str"),
    ],
)
def test_options_of_another_type_than_their_flag_are_refused(name, value, kind):
    with pytest.raises(TypeError, match=f"`{name}` must be of type {kind}. Received: {name}="):
        configuration.resolve("puvae", {name: value})


def test_whole_numbers_and_paths_are_taken_where_a_flag_would_take_them(tmp_path):
    config = configuration.resolve("puvae", {"learning_rate": 1, "output_dir": tmp_path})
    assert (config["learning_rate"], config["output_dir"]) == (1, tmp_path)


def test_without_a_purifier_blind_is_whitebox():
    config = configuration.resolve("advgan", {"defense": "none"})
    assert naming.threat_model(config) == "whitebox"
    assert naming.run_name("advgan", config) == "advgan_mnist_whitebox_none"
