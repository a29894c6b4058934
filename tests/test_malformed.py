"""Generated malformed inputs against each entrance; `benchmarks.faults` gives each a thousand."""

import numpy as np
import pytest

from benchmarks import _command_lines, _malformed
from benchmarks._server import serving
from tfpurify import PurifiedClassifier
from tfpurify.attacks.pgd import PGD
from tfpurify.data import loading
from tfpurify.serving import saved_model
from tfpurify.serving.bundle import Bundle


@pytest.fixture(scope="module")
def images():
    found = loading.load_dataset("mnist", "test", source="embedded").take(3)
    return np.stack([image for image, _ in found.as_numpy_iterator()])


@pytest.fixture(scope="module")
def model():
    return PurifiedClassifier.from_preset("puvae_mnist_adversarial")


def test_models_and_attacks_answer_images_alone(images, model):
    attack = PGD(model.classifier, epsilon=0.2, num_steps=2)
    models = {
        "PurifiedClassifier": model,
        "Purifier": model.purifier,
        "PGD": lambda array: attack(array, np.zeros(len(np.atleast_1d(array)), np.int64)),
    }
    counts = _malformed.call_models(models, images, 60)
    assert counts["refused"] > 60 and counts["answered"] > 0


@pytest.mark.parametrize("trainer", ["classifier", "puvae", "defensegan", "encoder", "advgan"])
def test_command_lines_are_taken_whole_or_refused(trainer):
    counts = _command_lines.apart(_command_lines.parse, trainer, 100, timeout=120)
    assert counts["refused"] > 50 and counts["answered"] > 0


@pytest.mark.parametrize(
    ("program", "last"),
    [
        ("serve", ()),
        pytest.param("export", ("--defense=puvae_adversarial",), marks=pytest.mark.slow),
        pytest.param("attack", ("--defense=none",), marks=pytest.mark.slow),
    ],
)
def test_programs_answer_or_refuse_in_a_line(tmp_path, model, program, last):
    saved_model.export_purified_classifier(model, tmp_path / "tiny")
    first = (f"--bundle={tmp_path / 'tiny'}",) if program == "serve" else ()
    of_program = (program, tmp_path / "empty", 20)
    counts = _command_lines.apart(_command_lines.run, *of_program, first, last, timeout=300)
    assert counts["refused"] >= 5 and counts["answered"] >= 2


def test_the_server_answers_right_images_and_lives(images, model, tmp_path):
    saved_model.export_purified_classifier(model, tmp_path / "tiny")
    labels = Bundle(tmp_path / "tiny").signatures["serving_default"](images=images)["label"]
    with serving(tmp_path / "tiny") as port:
        counts = _malformed.ask_server(port, "tiny", images, labels.numpy(), 100)
    assert counts["refused"] > 50 and counts["answered"] > 0


@pytest.mark.parametrize("image_shape", [(28, 28, 1), (32, 32, 3)])
def test_files_are_decoded_right_or_refused(image_shape):
    counts = _malformed.decode_files(image_shape, 200)
    assert counts["refused"] > 50 and counts["answered"] > 10


def test_a_wrong_answer_is_found(images, model):
    with pytest.raises(AssertionError, match="answered"):
        _malformed.call_models({"blind": lambda array: np.zeros(1)}, images, 20)
