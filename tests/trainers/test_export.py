"""The exported defence: what it answers, what it flags, and what its card says."""

import numpy as np
import onnxruntime
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from tfpurify import DefenseGAN, PurifiedClassifier, load_dataset
from trainers import export

OPTIONS = {
    "dataset": "mnist",
    "data_source": "embedded",
    "data_dir": None,
    "classifier": None,
    "format": "saved_model",
    "defense": "puvae",
    "projector": None,
    "time_budget_ms": None,
    "calibration_examples": 100,
    "name": None,
}


def serve(folder, **options):
    version = export.export({**OPTIONS, "output_dir": folder, **options})
    return version, tf.saved_model.load(str(version))


@pytest.fixture(scope="module")
def images():
    batch, _ = next(iter(load_dataset("mnist", "validation", source="embedded").batch(100)))
    return batch


def test_a_defence_answers_like_its_models_and_flags_one_clean_image_of_a_hundred(tmp_path, images):
    version, loaded = serve(tmp_path)
    assert version == tmp_path / "saved_models" / "puvae_mnist_cnn" / "1"
    outputs = loaded.signatures["serving_default"](images=images)
    purified = PurifiedClassifier.from_preset("puvae_mnist")
    np.testing.assert_allclose(outputs["logits"], purified(images), atol=1e-5)
    assert np.sum(outputs["is_flagged"]) == 1
    card = (version / "model_card.md").read_text()
    for words in (
        "puvae_mnist, from the zoo",
        "99% quantile of 100 clean validation",
        "## cnn_mni",
    ):
        assert words in card
    assert export.export({**OPTIONS, "output_dir": tmp_path}).name == "2"


def test_a_server_finds_requests_to_warm_up_with(tmp_path):
    from tensorflow_serving.apis import prediction_log_pb2

    version, loaded = serve(tmp_path, defense="none")
    path = version / "assets.extra" / "tf_serving_warmup_requests"
    asked = []
    for record in tf.data.TFRecordDataset(str(path)):
        request = prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request
        inputs = {name: tf.make_ndarray(value) for name, value in request.inputs.items()}
        signature = loaded.signatures[request.model_spec.signature_name]
        outputs = signature(**{name: tf.constant(value) for name, value in inputs.items()})
        asked.append((request.model_spec.signature_name, len(outputs["label"])))
        assert not any(outputs["error"].numpy())
    signatures = ("serving_default", "serve_uint8", "serve_image_bytes")
    assert asked == [(name, size) for name in signatures for size in (1, 32)]


def test_a_bare_classifier_has_no_flag_and_no_purifier(tmp_path, images):
    version, loaded = serve(tmp_path, defense="none", name="bare")
    assert version.parent.name == "bare"
    assert set(loaded.signatures) == {"serving_default", "serve_uint8", "serve_image_bytes"}
    outputs = loaded.signatures["serving_default"](images=images)
    assert set(outputs) == {"logits", "probabilities", "label", "error"}


def test_defensegan_is_served_by_its_fast_projector(tmp_path, images):
    version, loaded = serve(tmp_path, defense="defensegan", calibration_examples=10)
    assert version.parent.name == "defensegan_fast_mnist_cnn"
    outputs = loaded.signatures["purify"](images=images[:4])
    fast = DefenseGAN.from_preset("dcgan_mnist")
    np.testing.assert_allclose(outputs["purified_images"], fast(images[:4]), atol=1e-5)
    assert "encoder_dcgan_mnist, from the zoo" in (version / "model_card.md").read_text()


def run_onnx(path, images):
    session = onnxruntime.InferenceSession(str(path))
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {"images": images}), strict=True))


def run_litert(path, images):
    return Interpreter(model_path=str(path)).get_signature_runner("serving_default")(images=images)


@pytest.mark.parametrize(("form", "run"), [("onnx", run_onnx), ("litert", run_litert)])
def test_other_runtimes_answer_alike(tmp_path, images, form, run):
    options = {"defense": "puvae_adversarial", "format": form, "output_dir": tmp_path}
    path = export.export({**OPTIONS, **options})
    purified = PurifiedClassifier.from_preset("puvae_mnist_adversarial")
    for some in (images[:1].numpy(), images.numpy()):
        outputs, logits = run(path, some), purified(some)
        np.testing.assert_allclose(outputs["logits"], logits, atol=1e-4)
        np.testing.assert_array_equal(outputs["label"], np.argmax(logits, axis=1))
        purified_images = purified.purifier(some)
        np.testing.assert_allclose(outputs["purified_images"], purified_images, atol=1e-5)
    assert [found.name for found in (tmp_path / "saved_models").iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"projector": "fast"}, "`projector` and `time_budget_ms` need a DefenseGAN"),
        ({"time_budget_ms": 5.0}, "`projector` and `time_budget_ms` need a DefenseGAN"),
        (
            {"defense": "defensegan_fast", "projector": "reference"},
            "`projector` must be that of the defense",
        ),
        (
            {"defense": "defensegan", "projector": "reference", "time_budget_ms": 50.0},
            "`time_budget_ms` needs `projector='fast'`",
        ),
        ({"defense": "defensegan", "format": "onnx"}, "ONNX has no operations for the gradients"),
        ({"defense": "defensegan", "format": "litert"}, "LiteRT has no operations for"),
        ({"defense": "none", "format": "onnx"}, "`format=onnx` needs a purifier"),
        ({"classifier": "a"}, "a_mnist must be trained first"),
        ({"name": "../elsewhere"}, "`name` must be letters, digits"),
        ({"name": ""}, "`name` must be letters, digits"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        export.export({**OPTIONS, "output_dir": tmp_path, **options})
    assert not list(tmp_path.iterdir())
