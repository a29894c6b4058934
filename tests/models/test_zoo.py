"""What the zoo gives back is what was put in, and what was tampered with never loads."""

import hashlib
import json
import os
import re

import keras
import numpy as np
import pytest
from keras import layers
from keras.src.saving.serialization_lib import SafeModeScope

import tfpurify
from benchmarks import _damage
from tfpurify.data.specs import DATASETS
from tfpurify.models import zoo
from tfpurify.models.classifiers import Classifier, build_classifier
from tfpurify.purifiers.dcgan import DCGAN
from tfpurify.purifiers.defensegan import DefenseGAN
from tfpurify.purifiers.purified_classifier import PurifiedClassifier
from tfpurify.purifiers.puvae import PuVAE


@pytest.fixture(scope="module")
def classifier():
    model = build_classifier("cnn", DATASETS["mnist"])
    rng = np.random.default_rng(0)
    for weight in model.weights:  # batch normalisation's statistics too
        weight.assign(rng.uniform(0.01, 0.1, weight.shape))
    return model


@pytest.fixture
def folder(classifier, tmp_path):
    zoo.save(classifier, "cnn_mnist", tmp_path, command="python -m trainers.classifier", seed=3)
    return tmp_path


def refused(match, error=ValueError):
    """Expects a one-line error."""
    return pytest.raises(error, match=f"^.*{match}.*$")


def plant(folder, arrays):
    """Puts a foreign file, with a manifest that vouches for it, into a zoo folder."""
    np.savez(folder / "foreign.npz", **arrays)
    blob = (folder / "foreign.npz").read_bytes()
    entry = {"file": "foreign.npz", "sha256": hashlib.sha256(blob).hexdigest(), "bytes": len(blob)}
    (folder / "manifest.json").write_text(json.dumps({"models": {"foreign": entry}}))


def stored(path):
    with np.load(path, allow_pickle=False) as archive:
        return {key: archive[key] for key in archive.files}


def test_loads_what_was_saved(classifier, folder):
    loaded = zoo.load_preset("cnn_mnist", folder)
    assert type(loaded) is type(classifier)
    assert loaded.get_config() == classifier.get_config()
    for before, after in zip(classifier.weights, loaded.weights, strict=True):
        assert after.dtype == "float32"
        np.testing.assert_array_equal(after.numpy(), before.numpy().astype(np.float16))
    images = np.random.default_rng(1).uniform(size=(4, 28, 28, 1)).astype("float32")
    expected = classifier(images).numpy()
    np.testing.assert_allclose(loaded(images), expected, atol=2e-3 * np.abs(expected).max())


def test_manifest_says_what_a_file_is(classifier, folder):
    entry = zoo.describe("cnn_mnist", folder)
    assert zoo.available(folder) == ["cnn_mnist"]
    assert entry["bytes"] == (folder / entry["file"]).stat().st_size
    assert entry["seed"] == 3
    assert entry["kind"] is None
    assert entry["parameters"] == classifier.count_params()
    assert entry["storage"] == {"float16": len(classifier.weights)}
    assert entry["versions"]["keras"] == keras.__version__


def test_same_weights_give_the_same_digest(classifier, folder):
    digest = zoo.describe("cnn_mnist", folder)["sha256"]
    assert zoo.save(classifier, "again", folder)["sha256"] == digest
    assert zoo.available(folder) == ["again", "cnn_mnist"]


def test_large_kernels_are_stored_as_int8_with_a_scale_per_column(tmp_path):
    puvae = PuVAE((8, 8, 1), latent_dim=4)
    puvae.build()
    puvae.features_dense.kernel.assign(
        puvae.features_dense.kernel.numpy() * np.geomspace(1e-3, 10, 1024)
    )
    entry = zoo.save(puvae, "puvae", tmp_path)
    assert entry["storage"]["int8"] == 2  # 2048 x 1024 and 1024 x 1024
    assert entry["bytes"] < 1.1 * puvae.count_params() + 1e5
    loaded = zoo.load_preset("puvae", tmp_path)
    kernel, restored = puvae.features_dense.kernel.numpy(), loaded.features_dense.kernel.numpy()
    step = np.abs(kernel).max(axis=0) / 127
    assert restored.dtype == np.float32
    assert np.all(np.abs(kernel - restored) <= 0.501 * step)


def test_training_state_stays_behind(tmp_path):
    dcgan = DCGAN((8, 8, 1), latent_dim=4)
    dcgan.build()
    dcgan.compile(keras.optimizers.Adam(), keras.optimizers.Adam())
    dcgan.train_step(np.zeros((2, 8, 8, 1), "float32"))
    zoo.save(dcgan, "dcgan", tmp_path)
    arrays = stored(tmp_path / "dcgan.npz")
    assert len(arrays) == 1 + len(dcgan.weights)
    assert b"Adam" not in arrays["config"].item()
    assert not zoo.load_preset("dcgan", tmp_path).compiled


def test_reduced_precision_stays_behind(tmp_path):
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2, dtype="mixed_bfloat16")])
    zoo.save(model, "mixed", tmp_path)
    assert zoo.load_preset("mixed", tmp_path).layers[0].compute_dtype == "float32"


def test_values_beyond_float16_keep_float32(tmp_path):
    model = keras.Sequential([keras.Input((1,)), layers.Dense(1)])
    model.layers[0].kernel.assign([[1e6]])
    assert zoo.save(model, "large", tmp_path)["storage"] == {"float32": 1, "float16": 1}
    assert zoo.load_preset("large", tmp_path).layers[0].kernel.numpy() == 1e6


def test_a_changed_file_is_refused(folder):
    path = folder / "cnn_mnist.npz"
    blob = bytearray(path.read_bytes())
    blob[len(blob) // 2] ^= 1
    path.write_bytes(blob)
    expected = zoo.describe("cnn_mnist", folder)["sha256"]
    found = hashlib.sha256(blob).hexdigest()
    with refused(f"cnn_mnist.npz must have sha256 {expected} .*Received: {found} .*git checkout"):
        zoo.load_preset("cnn_mnist", folder)


def test_a_truncated_file_is_refused(folder):
    path = folder / "cnn_mnist.npz"
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:1000])
    with refused(rf"\({size} bytes\).*\(1000 bytes\).*train it again with `python -m trainers"):
        zoo.load_preset("cnn_mnist", folder)


def test_a_missing_file_says_how_to_get_it_back(folder):
    (folder / "cnn_mnist.npz").unlink()
    with refused(r"cnn_mnist.npz cannot be read \(No such file.*`git checkout -- .*cnn_mnist.npz`"):
        zoo.load_preset("cnn_mnist", folder)


def test_an_unknown_name_lists_what_there_is(folder):
    with refused("holds: cnn_mnist. Received: name='cnn'"):
        zoo.load_preset("cnn", folder)


def test_no_zoo_holds_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("TFPURIFY_ZOO", str(tmp_path / "nowhere"))
    assert zoo.available() == []
    with refused("nowhere, which holds: nothing. Received: name='cnn_mnist'"):
        zoo.load_preset("cnn_mnist")


@pytest.mark.parametrize("text", ["{", "[]", '{"models": {"a": {"file": "../a", "sha256": "0"}}}'])
def test_a_damaged_manifest_is_refused(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    with refused("manifest.json must be a JSON object"):
        zoo.available(tmp_path)


def test_a_failed_save_changes_nothing(classifier, folder, monkeypatch):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def fail(source, destination):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with refused("writable folder. Received: .*No space left", OSError):
        zoo.save(classifier, "other", folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_folder_that_cannot_be_made_is_refused(classifier, tmp_path):
    (tmp_path / "file").touch()
    with refused("`folder` must be a writable folder. Received: folder=", OSError):
        zoo.save(classifier, "cnn_mnist", tmp_path / "file" / "zoo")


def test_save_refuses_what_could_not_be_used(classifier, tmp_path):
    broken = keras.models.clone_model(keras.Sequential([keras.Input((1,)), layers.Dense(1)]))
    broken.layers[0].bias.assign([np.nan])
    with refused("`name` must match"):
        zoo.save(classifier, "../cnn", tmp_path)
    with refused("must leave sha256 to the zoo"):
        zoo.save(classifier, "cnn", tmp_path, sha256="0")
    with refused("`model` must hold finite weights. Received: .*bias"):
        zoo.save(broken, "broken", tmp_path)
    with refused("`model` must be built"):
        zoo.save(keras.Sequential([layers.Dense(1)]), "unbuilt", tmp_path)
    assert not list(tmp_path.iterdir())


class Marker:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.filterwarnings("ignore:The object being serialized includes a `lambda`")
@pytest.mark.parametrize("safe_mode", [True, False])
def test_a_lambda_in_a_foreign_file_never_runs(tmp_path, safe_mode):
    marker = tmp_path / "ran"
    run = layers.Lambda(lambda x, path=str(marker): (open(path, "w").close(), x)[1])
    config = keras.saving.serialize_keras_object(keras.Sequential([keras.Input((1,)), run]))
    marker.unlink()  # building the model ran it
    plant(tmp_path, {"config": np.array(json.dumps(config).encode())})
    # False is what `keras.config.enable_unsafe_deserialization()` leaves behind.
    with (
        SafeModeScope(safe_mode),
        refused("foreign.npz may hold code and is refused: keras.*Lambda"),
    ):
        zoo.load_preset("foreign", tmp_path)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("module", "class_name", "match"),
    [
        ("os", "system", "names a foreign class and is refused: os.system"),
        ("keras.utils", "get_file", "names a foreign class and is refused: keras.utils.get_file"),
        ("keras.layers", "TFSMLayer", "may hold code and is refused: keras.layers.TFSMLayer"),
        ("tfpurify.nothing", "Model", "needs tfpurify.nothing, which this version does not have"),
        ("keras.layers", "NoLayer", "holds a configuration that this version cannot build"),
    ],
)
def test_a_foreign_class_is_refused(tmp_path, module, class_name, match):
    config = {
        "module": module,
        "class_name": class_name,
        "config": {},
        "registered_name": class_name,
    }
    outer = {"module": "keras", "class_name": "Sequential", "config": {"layers": [config]}}
    plant(tmp_path, {"config": np.array(json.dumps(outer).encode())})
    with refused(f"foreign.npz {re.escape(match)}"):
        zoo.load_preset("foreign", tmp_path)


@pytest.mark.filterwarnings("ignore:The object being serialized includes a `lambda`")
def test_code_in_a_foreign_keras_file_never_runs(tmp_path):
    counts = _damage.foreign_files(tmp_path)
    assert counts == {"refused": 8, "wrong": 0}


def test_a_pickle_in_a_foreign_file_never_runs(tmp_path):
    arrays = {"config": np.array([Marker(tmp_path / "ran")], dtype=object)}
    plant(tmp_path, arrays)
    with refused("foreign.npz must be a zoo file: Object arrays cannot be loaded"):
        zoo.load_preset("foreign", tmp_path)
    assert not (tmp_path / "ran").exists()


def test_a_file_that_is_no_archive_is_refused(tmp_path):
    plant(tmp_path, {})
    with refused("foreign.npz must be a zoo file"):
        zoo.load_preset("foreign", tmp_path)


def test_variables_that_do_not_fit_are_refused(classifier, folder, tmp_path):
    arrays = stored(folder / "cnn_mnist.npz")
    last = max(key for key in arrays if key != "config")
    plant(tmp_path, {**arrays, last: arrays[last][:-1]})
    with refused(r"must hold shape \(10,\) for '.*bias'. Received: shape \(9,\)"):
        zoo.load_preset("foreign", tmp_path)
    count = len(classifier.weights)
    plant(tmp_path, {key: value for key, value in arrays.items() if key != last})
    with refused(f"must hold the {count} variables of 'cnn'. Received: {count - 1} variables"):
        zoo.load_preset("foreign", tmp_path)


def test_a_damaged_keras_file_is_named(tmp_path):
    path = tmp_path / "model.keras"
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(300)])
    model.save(path)
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    for damaged in (bytes(flipped), whole[: len(whole) // 2], b"no zip"):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"model.keras must be a whole .keras file"):
            zoo.load_model(path)
    path.write_bytes(whole)
    assert zoo.load_model(path).count_params() == model.count_params()


def test_presets_load_by_class(classifier, folder):
    loaded = type(classifier).from_preset("cnn_mnist", folder)
    for before, after in zip(classifier.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(after.numpy(), before.numpy().astype(np.float16))
    assert type(Classifier.from_preset("cnn_mnist", folder)) is type(classifier)
    assert list(Classifier.presets(folder)) == list(zoo.list_presets(folder)) == ["cnn_mnist"]
    assert zoo.list_presets(folder)["cnn_mnist"]["class_name"] == "CNN"
    assert PuVAE.presets(folder) == {}


@pytest.mark.parametrize("model_class", [PuVAE, DefenseGAN, PurifiedClassifier, DCGAN])
def test_a_preset_of_another_class_is_refused(folder, model_class):
    with refused("`name` must be a preset of .*there is none. Received: name='cnn_mnist'"):
        model_class.from_preset("cnn_mnist", folder)


def test_a_purified_classifier_comes_from_two_presets(folder):
    prior = DCGAN((28, 28, 1), latent_dim=2)
    prior.build()
    zoo.save(prior, "dcgan_mnist", folder, dataset="mnist")
    options = {"num_steps": 2, "num_restarts": 1}
    assert type(tfpurify.load_preset("dcgan_mnist", folder)) is DCGAN
    purifier = DefenseGAN.from_preset("dcgan_mnist", folder, **options)
    assert (purifier.num_steps, purifier.num_restarts) == (2, 1)
    target = PurifiedClassifier.from_preset("dcgan_mnist", folder=folder, gradient_mode="bpda")
    assert type(target.purifier) is DefenseGAN and type(target.classifier).__name__ == "CNN"
    assert target.gradient_mode == "bpda"
    np.testing.assert_allclose(
        purifier.generator(np.ones((1, 2), np.float32)),
        target.purifier.generator(np.ones((1, 2), np.float32)),
    )
