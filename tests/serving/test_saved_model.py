"""Bundles that load without this package, hold each weight once and appear whole or not at all."""

import subprocess
import sys
import zlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tfpurify.attacks.advgan import AdvGAN
from tfpurify.data.specs import DATASETS, DatasetSpec
from tfpurify.models.classifiers import build_classifier
from tfpurify.purifiers.dcgan import DCGAN
from tfpurify.purifiers.defensegan import DefenseGAN
from tfpurify.purifiers.purified_classifier import PurifiedClassifier
from tfpurify.purifiers.puvae import PuVAE
from tfpurify.serving import bundle_writer, saved_model

SHAPE = (8, 8, 1)
SPEC = DatasetSpec("tiny", SHAPE, 10, tuple("0123456789"), "cnn", "")
LABELLED = {"logits", "probabilities", "label"}
PURIFIED = {"purified_images", "reconstruction_error", "error"}


@pytest.fixture(scope="module")
def classifier():
    keras.utils.set_random_seed(0)
    return build_classifier("cnn", SPEC)


@pytest.fixture(scope="module")
def defense_gan():
    dcgan = DCGAN(SHAPE, latent_dim=4)
    dcgan.build()
    return DefenseGAN(dcgan.generator, num_steps=2, num_restarts=2, chunk_size=4)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).uniform(size=(6, *SHAPE)).astype("float32")


@pytest.fixture(scope="module")
def bundle(classifier, defense_gan, tmp_path_factory):
    """The defence with a loop in its graph; six images make two of its chunks."""
    purified = PurifiedClassifier(defense_gan, classifier, gradient_mode="soft")
    purified.build()
    folder = tmp_path_factory.mktemp("bundle")
    card = [("assets.extra/card.md", b"# A card")]
    return saved_model.export_purified_classifier(purified, folder, threshold=0.1, extra_files=card)


@pytest.fixture(scope="module")
def expected(classifier, defense_gan, images):
    purified_images = defense_gan(images).numpy()
    logits = classifier(purified_images).numpy()
    return {
        "purified_images": purified_images,
        "logits": logits,
        "probabilities": keras.ops.softmax(logits).numpy(),
        "label": logits.argmax(axis=1),
        "reconstruction_error": np.mean((purified_images - images) ** 2, axis=(1, 2, 3)),
    }


def weight_bytes(path):
    return sum(part.stat().st_size for part in (path / "variables").glob("*.data-*"))


def test_signatures_take_images_and_name_their_outputs(bundle):
    signatures = tf.saved_model.load(str(bundle)).signatures
    outputs = {name: set(signature.structured_outputs) for name, signature in signatures.items()}
    everything = LABELLED | PURIFIED | {"is_flagged"}
    assert outputs == {
        "serving_default": everything,
        "serve_uint8": everything,
        "serve_image_bytes": everything | {"is_resized"},
        "purify": PURIFIED,
        "classify_unpurified": LABELLED | {"error"},
    }
    arguments = {
        name: signature.structured_input_signature[1] for name, signature in signatures.items()
    }
    images = {"images": tf.TensorSpec((None, *SHAPE), tf.float32, name="images")}
    assert arguments == {
        **dict.fromkeys(("serving_default", "purify", "classify_unpurified"), images),
        "serve_uint8": {"images": tf.TensorSpec((None, *SHAPE), tf.uint8, name="images")},
        "serve_image_bytes": {"image_bytes": tf.TensorSpec((None,), tf.string, "image_bytes")},
    }


SERVE = """
import runpy
import sys


class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("tfpurify", "trainers"):
            raise ImportError(f"{name} is not to be had here")


sys.meta_path.insert(0, Refuse())
bundle, folder = sys.argv[1:]
# What `python -m tensorflow.python.tools.saved_model_cli run --dir BUNDLE ...` does.
sys.argv = ["saved_model_cli", "run", "--dir", bundle, "--outdir", folder, "--tag_set", "serve"]
sys.argv += ["--signature_def", "serving_default", "--inputs", f"images={folder}/images.npy"]
try:
    runpy.run_module("tensorflow.python.tools.saved_model_cli", run_name="__main__")
except SystemExit as exit:
    if exit.code:
        raise

import numpy as np
import tensorflow as tf

sys.modules["keras"] = None  # TensorFlow has imported it; the bundle must not
loaded = tf.saved_model.load(bundle)
images = tf.constant(np.load(f"{folder}/images.npy"))
np.savez(f"{folder}/loaded.npz", **loaded.signatures["serving_default"](images=images))
"""


@pytest.fixture(scope="module")
def served(bundle, images, tmp_path_factory):
    """The folder of what a process without our package made of the bundle."""
    folder = tmp_path_factory.mktemp("served")
    np.save(folder / "images.npy", images)
    arguments = [sys.executable, "-c", SERVE, str(bundle), str(folder)]
    finished = subprocess.run(arguments, check=False, capture_output=True, text=True)
    if finished.returncode:
        pytest.fail(finished.stderr)
    return folder


def test_runs_in_a_process_without_our_package(served, expected):
    with np.load(served / "loaded.npz") as outputs:
        for name, value in expected.items():
            np.testing.assert_allclose(outputs[name], value, atol=1e-5, err_msg=name)


def test_runs_in_the_session_loader_that_serving_uses(served, expected):
    for name, value in expected.items():
        output = np.load(served / f"{name}.npy")
        np.testing.assert_allclose(output, value, atol=1e-5, err_msg=name)


def test_purifies_alone_and_classifies_without_purifier(bundle, classifier, images, expected):
    signatures = tf.saved_model.load(str(bundle)).signatures
    images = tf.constant(images)
    purified = signatures["purify"](images=images)["purified_images"]
    np.testing.assert_allclose(purified, expected["purified_images"], atol=1e-5)
    logits = signatures["classify_unpurified"](images=images)["logits"]
    np.testing.assert_allclose(logits, classifier(images), atol=1e-5)


def as_png(image):
    return tf.io.encode_png(np.round(255 * image).astype("uint8")).numpy()


def assert_same(outputs, expected, names):
    for name in names:
        np.testing.assert_allclose(outputs[name], expected[name], atol=1e-5, err_msg=name)


def test_bytes_and_files_are_answered_like_floats(bundle, images):
    loaded = tf.saved_model.load(str(bundle))
    coarse = np.round(255 * images).astype("uint8")
    floats = loaded.signatures["serving_default"](images=tf.constant(coarse / 255.0, tf.float32))
    files = [as_png(image) for image in images]
    whole = loaded.signatures["serve_uint8"](images=tf.constant(coarse))
    decoded = loaded.signatures["serve_image_bytes"](image_bytes=tf.constant(files))
    for outputs in (whole, decoded):
        assert_same(outputs, floats, ("logits", "purified_images", "reconstruction_error"))
        np.testing.assert_array_equal(outputs["is_flagged"], floats["is_flagged"])
        assert not any(outputs["error"].numpy())
    assert not decoded["is_resized"].numpy().any()


def test_an_image_far_from_its_purified_one_is_flagged(bundle, images, expected):
    outputs = tf.saved_model.load(str(bundle)).signatures["serving_default"](tf.constant(images))
    is_far = expected["reconstruction_error"] > 0.1
    np.testing.assert_array_equal(outputs["is_flagged"], is_far)
    assert (bundle / "assets.extra" / "card.md").read_text() == "# A card"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.nan, "images must be finite. Received: NaN or infinity"),
        (-np.inf, "images must be finite. Received: NaN or infinity"),
        (1.5, "images must be in [0, 1]. Received: 0"),
        (-0.25, "images must be in [0, 1]. Received: -0.25"),
    ],
)
@pytest.mark.parametrize("signature", ["serving_default", "purify", "classify_unpurified"])
def test_a_wrong_image_has_its_error_and_leaves_its_neighbours_alone(
    bundle, images, signature, value, message
):
    serve = tf.saved_model.load(str(bundle)).signatures[signature]
    wrong = images.copy()
    wrong[2] = np.clip(wrong[2], 0.0, 0.5)
    wrong[2, 3, 4] = value
    outputs, untouched = serve(images=tf.constant(wrong)), serve(images=tf.constant(images))
    errors = [error.decode() for error in outputs.pop("error").numpy()]
    assert errors[2].startswith(message) and not any(errors[:2] + errors[3:])
    others = np.delete(np.arange(len(images)), 2)
    for name, answers in outputs.items():
        assert np.all(np.isfinite(answers))
        np.testing.assert_array_equal(answers.numpy()[others], untouched[name].numpy()[others])
    if "label" in outputs:
        assert outputs["label"][2] == -1
    if "is_flagged" in outputs:
        assert outputs["is_flagged"][2]


def test_wrong_files_have_errors_and_others_are_resized(bundle, images):
    serve = tf.saved_model.load(str(bundle)).signatures["serve_image_bytes"]
    png = as_png(images[0])
    bomb = png[:16] + (60_000).to_bytes(4, "big") * 2 + png[24:]
    large = tf.repeat(tf.repeat(tf.constant(255 * images[1]), 4, 0), 4, 1)
    jpeg = tf.io.encode_jpeg(tf.cast(tf.repeat(large, 3, 2), tf.uint8), quality=100).numpy()
    foreign = b"\0\0\0\x08prVt" + (8).to_bytes(4, "big") * 2  # before the chunk with the size
    foreign += zlib.crc32(foreign[4:]).to_bytes(4, "big")
    files = [png, jpeg, b"", b"junk", png[:40], jpeg[:200], bomb, png[:8] + foreign + png[8:]]
    outputs = serve(image_bytes=tf.constant(files))
    errors = outputs["error"].numpy()
    assert [not error for error in errors] == [True, True] + [False] * 6
    assert all(error.startswith(b"image_bytes must be a whole PNG or JPEG") for error in errors[2:])
    np.testing.assert_array_equal(outputs["is_resized"], [False, True] + [False] * 6)
    np.testing.assert_array_equal(outputs["label"][2:], -1)
    alone = serve(image_bytes=tf.constant(files[:1]))
    np.testing.assert_allclose(outputs["logits"][0], alone["logits"][0], atol=1e-6)


@pytest.fixture(scope="module")
def puvae_bundle(classifier, tmp_path_factory):
    puvae = PuVAE(SHAPE, latent_dim=4)
    puvae.build()
    purified = PurifiedClassifier(puvae, classifier)
    purified.build()
    return saved_model.export_purified_classifier(purified, tmp_path_factory.mktemp("puvae"))


@pytest.mark.parametrize("kind", ["bundle", "puvae_bundle"])
@pytest.mark.parametrize(
    "shape", [(2, 9, 8, 1), (2, 9, 9, 1), (1, 1, 1, 1), (2, 8, 8, 3), (2, 8, 8), (0, 8, 8, 1)]
)
def test_wrong_shapes_are_refused_by_the_graph(kind, shape, request):
    signatures = tf.saved_model.load(str(request.getfixturevalue(kind))).signatures
    images = tf.zeros(shape)
    for name in ("serving_default", "purify", "classify_unpurified"):
        with pytest.raises(tf.errors.InvalidArgumentError, match="of shape .batch,8,8,1"):
            signatures[name](images=images)
    with pytest.raises(tf.errors.InvalidArgumentError, match="of shape .batch,8,8,1"):
        signatures["serve_uint8"](images=tf.cast(images, tf.uint8))


@pytest.mark.parametrize("shape", [(), (0,), (2, 1)])
def test_files_come_in_a_batch(bundle, shape):
    serve = tf.saved_model.load(str(bundle)).signatures["serve_image_bytes"]
    with pytest.raises(tf.errors.InvalidArgumentError, match="at least one image"):
        serve(image_bytes=tf.fill(shape, b""))


def test_gradients_flow_through_the_loaded_signature(bundle, classifier, defense_gan, images):
    loaded = tf.saved_model.load(str(bundle))
    serve = loaded.signatures["serving_default"]
    images = tf.constant(images)

    def gradient(target):
        with tf.GradientTape() as tape:
            tape.watch(images)
            loss = tf.reduce_sum(target(images) ** 2)
        return tape.gradient(loss, images).numpy()

    served = gradient(lambda images: serve(images=images)["logits"])
    assert np.abs(served).max() > 0
    direct = gradient(lambda images: classifier(defense_gan(images)))
    np.testing.assert_allclose(served, direct, rtol=1e-3, atol=1e-3 * np.abs(direct).max())


def test_each_weight_is_stored_once_and_only_if_used(classifier, tmp_path):
    puvae = PuVAE(SHAPE, latent_dim=4, classifier=build_classifier("cnn", SPEC))
    puvae.build()
    size = 4 * puvae.count_params()
    path = saved_model.export_purifier(puvae, tmp_path)
    assert size <= weight_bytes(path) < 1.01 * size + 10_000
    outputs = tf.saved_model.load(str(path)).signatures["serving_default"].structured_outputs
    assert set(outputs) == {"purified_images"}


def test_an_attack_leaves_its_target_behind(classifier, images, tmp_path):
    attack = AdvGAN(SHAPE, target=classifier, bottleneck_channels=4, width=4)
    attack.build()
    path = saved_model.export_attack(attack, tmp_path)
    loaded = tf.saved_model.load(str(path))
    outputs = loaded.signatures["serving_default"](tf.constant(images))
    expected = attack(images)
    np.testing.assert_allclose(outputs["adversarial_images"], expected, atol=1e-6)
    size = 4 * attack.generator.count_params()
    assert size <= weight_bytes(path) < 1.01 * size + 10_000


def test_logits_are_float32_under_mixed_precision(images, tmp_path):
    model = keras.Sequential(
        [keras.Input(SHAPE), layers.Flatten(), layers.Dense(10, dtype="mixed_bfloat16")]
    )
    path = saved_model.export_classifier(model, tmp_path)
    outputs = tf.saved_model.load(str(path)).signatures["serving_default"](tf.constant(images))
    assert outputs["logits"].dtype == tf.float32
    assert outputs["label"].dtype == tf.int64
    np.testing.assert_allclose(tf.reduce_sum(outputs["probabilities"], axis=1), 1.0, atol=1e-5)


def test_versions_count_up_and_leave_nothing_beside_them(classifier, tmp_path):
    (tmp_path / "7").mkdir()
    (tmp_path / ".export-x").mkdir()
    (tmp_path / "notes").mkdir()
    assert bundle_writer.next_version(tmp_path) == 8
    assert bundle_writer.next_version(tmp_path / "new") == 1
    assert saved_model.export_classifier(classifier, tmp_path) == tmp_path / "8"
    assert sorted(path.name for path in tmp_path.iterdir()) == [".export-x", "7", "8", "notes"]
    usual = tmp_path / "usual"
    usual.mkdir()
    assert (tmp_path / "8").stat().st_mode == usual.stat().st_mode


def test_a_folder_that_cannot_be_written_is_refused(classifier, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="^`folder` must be a writable folder. Received: folder=.*$"):
        saved_model.export_classifier(classifier, tmp_path / "file" / "cnn")


@pytest.mark.parametrize("error", [OSError(28, "disk full"), ValueError("untraceable\nmore")])
def test_a_failed_export_leaves_nothing(classifier, tmp_path, monkeypatch, error):
    def fail(bundle, path, signatures):
        tf.io.gfile.makedirs(path)
        raise error

    monkeypatch.setattr(tf.saved_model, "save", fail)
    with pytest.raises(type(error)):
        saved_model.export_classifier(classifier, tmp_path / "cnn")
    assert not list(tmp_path.iterdir())


def test_an_unknown_image_shape_is_refused(tmp_path):
    model = keras.Sequential([keras.Input((None, None, 1)), layers.GlobalAveragePooling2D()])
    with pytest.raises(ValueError, match=r"`image_shape` must be \(height, width, channels\)"):
        saved_model.export_classifier(model, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_model_that_was_not_built_is_refused(tmp_path):
    model = PuVAE(SHAPE, latent_dim=4)
    with pytest.raises(ValueError, match="`model` must be built"):
        saved_model.export_purifier(model, tmp_path)


def test_the_default_classifier_takes_its_data_sets_images(tmp_path):
    path = saved_model.export_classifier(build_classifier("cnn", DATASETS["mnist"]), tmp_path)
    outputs = tf.saved_model.load(str(path)).signatures["serving_default"](tf.zeros((2, 28, 28, 1)))
    assert outputs["logits"].shape == (2, 10)
