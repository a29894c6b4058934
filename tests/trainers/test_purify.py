"""The pipeline over a store of images: nothing is lost, and a second run gives the same."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfpurify import load_dataset
from tfpurify.serving.saved_model import export_classifier
from trainers import export, purify

OPTIONS = {"feature": "image/encoded", "shards": 3, "batch_size": 4}
OPTIONS |= {"dataset": "mnist", "defense": None}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    options = dict.fromkeys(("data_dir", "classifier", "projector", "time_budget_ms", "name"))
    options |= {"dataset": "mnist", "data_source": "embedded", "defense": "puvae_adversarial"}
    options |= {"format": "saved_model", "calibration_examples": 50}
    return export.export({**options, "output_dir": tmp_path_factory.mktemp("export")}).parent


@pytest.fixture(scope="module")
def images():
    images = load_dataset("mnist", "test", source="embedded").take(16).as_numpy_iterator()
    return [np.round(255 * image).astype("uint8") for image, _ in images]


def example(data):
    feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[data]))
    features = tf.train.Features(feature={"image/encoded": feature})
    return tf.train.Example(features=features).SerializeToString()


@pytest.fixture(scope="module")
def store(images, tmp_path_factory):
    """Six files, of which one is broken, and two files of ten records, three of them broken."""
    folder = tmp_path_factory.mktemp("store")
    files = [tf.io.encode_png(image).numpy() for image in images]
    for index in range(5):
        (folder / f"{index}.png").write_bytes(files[index])
    (folder / "broken.png").write_bytes(b"junk")
    with tf.io.TFRecordWriter(str(folder / "a.tfrecord")) as writer:
        for data in (*files[5:9], b"junk"):
            writer.write(example(data))
        writer.write(tf.train.Example().SerializeToString())
    cut = folder / "b.tfrecord"
    with tf.io.TFRecordWriter(str(cut)) as writer:
        for data in files[9:13]:
            writer.write(example(data))
    cut.write_bytes(cut.read_bytes()[:-50])
    return folder


@pytest.fixture(scope="module")
def purified(store, bundle, tmp_path_factory):
    folder = tmp_path_factory.mktemp("purified")
    paths = {"input_pattern": f"{store}/*", "output_dir": folder, "bundle": bundle}
    return folder, purify.purify({**OPTIONS, **paths})


def examples(folder):
    found = {}
    for path in sorted(folder.glob("purified-*.tfrecord")):
        for record in tf.data.TFRecordDataset(str(path)):
            feature = tf.train.Example.FromString(record.numpy()).features.feature
            found[feature["key"].bytes_list.value[0].decode()] = feature
    return found


def test_what_is_read_is_purified_or_rejected_with_a_reason(purified, store):
    folder, counts = purified
    assert counts == {"read": 16, "purified": 12, "rejected": 4}
    assert json.loads((folder / "counts.json").read_text()) == counts
    lines = [
        json.loads(line)
        for path in folder.glob("rejected-*.jsonl")
        for line in path.read_text().splitlines()
    ]
    reasons = {line["key"].removeprefix(f"{store}/"): line["reason"] for line in lines}
    assert reasons.keys() == {"broken.png", "a.tfrecord#4", "a.tfrecord#5", "b.tfrecord#3"}
    assert reasons["a.tfrecord#5"] == "no example with one image/encoded"
    assert reasons["b.tfrecord#3"].startswith("the file is damaged from here on: ")
    assert len(examples(folder)) == 12


def test_an_image_is_what_the_bundle_makes_of_it(purified, store, bundle, images):
    found = examples(purified[0])
    signature = tf.saved_model.load(str(bundle / "1")).signatures["serve_uint8"]
    for key, image in ((f"{store}/3.png", images[3]), (f"{store}/b.tfrecord#1", images[10])):
        outputs = signature(images=tf.constant(image[None]))
        written = tf.io.decode_png(found[key]["image"].bytes_list.value[0])
        assert np.abs(written / 255 - outputs["purified_images"][0]).max() <= 0.5 / 255 + 1e-4
        assert found[key]["label"].int64_list.value == [int(outputs["label"][0])]
        error = found[key]["reconstruction_error"].float_list.value
        np.testing.assert_allclose(error, outputs["reconstruction_error"], rtol=1e-4)
        assert found[key]["is_flagged"].int64_list.value == [int(outputs["is_flagged"][0])]


def test_several_processes_write_the_same_bytes(purified, store, bundle, tmp_path):
    folder = tmp_path / "again"
    flags = {**OPTIONS, "input_pattern": f"{store}/*", "output_dir": folder, "bundle": bundle}
    command = [sys.executable, "-m", "trainers.purify"]
    command += [f"--{name}={value}" for name, value in flags.items() if value is not None]
    command += ["--", "--direct_num_workers=2", "--direct_running_mode=multi_processing"]
    finished = subprocess.run(command, check=False, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    written = {path.name: path.read_bytes() for path in purified[0].iterdir()}
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == written


def test_an_earlier_output_goes_and_an_input_stays(purified, store, bundle, tmp_path):
    for name in ("purified-00000-of-00007.tfrecord", "rejected-00000-of-00007.jsonl"):
        (tmp_path / name).write_text("")
    paths = {"input_pattern": f"{store}/*.png", "output_dir": tmp_path, "bundle": bundle}
    counts = purify.purify({**OPTIONS, **paths})
    assert len(examples(tmp_path)) == counts["purified"]
    assert not list(tmp_path.glob("*-of-00007*"))
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ValueError, match="must match nothing that is replaced"):
        purify.purify({**OPTIONS, **paths, "input_pattern": f"{tmp_path}/purified-*"})
    assert sorted(tmp_path.iterdir()) == before


def test_a_bundle_without_a_purifier_is_refused(store, tmp_path):
    model = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten()])
    export_classifier(model, tmp_path / "bare")
    paths = {"input_pattern": f"{store}/*", "output_dir": tmp_path / "out"}
    with pytest.raises(ValueError, match="`bundle` must be that of a purifier"):
        purify.purify({**OPTIONS, **paths, "bundle": tmp_path / "bare"})


def test_an_empty_store_and_a_missing_bundle_are_refused(store, bundle, tmp_path):
    paths = {"input_pattern": f"{tmp_path}/*.png", "output_dir": tmp_path, "bundle": bundle}
    with pytest.raises(ValueError, match="`input_pattern` must match a file"):
        purify.purify({**OPTIONS, **paths})
    paths |= {"input_pattern": f"{store}/*", "bundle": tmp_path}
    with pytest.raises(ValueError, match="`bundle` must be a SavedModel's folder"):
        purify.purify({**OPTIONS, **paths})


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--direct_num_workers=abc", "Beam's flags must be right. Received: argument --direct_num"),
        ("--runner=nonsense", "Unexpected pipeline runner: nonsense"),
        ("--direct_num_wrokers=2", r"must be known to it. Received: \['direct_num_wrokers'\]"),
    ],
)
def test_wrong_flags_of_beam_leave_what_was_written(purified, store, bundle, argument, message):
    folder, _ = purified
    before = {path: path.read_bytes() for path in folder.iterdir()}
    paths = {"input_pattern": f"{store}/*", "output_dir": folder, "bundle": bundle}
    with pytest.raises(ValueError, match=message):
        purify.purify({**OPTIONS, **paths}, [argument])
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_a_defense_does_what_its_bundle_does(purified, store, bundle, tmp_path):
    pattern = {"input_pattern": f"{store}/*"}
    named = {"bundle": None, "defense": "puvae_adversarial", "output_dir": tmp_path / "out"}
    sheet = {"sheet": str(tmp_path / "sheet.png"), "data_source": "embedded", "data_dir": None}
    counts = purify.purify({**OPTIONS, **pattern, **named, **sheet})
    assert counts == purified[1]
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")
    for key, feature in examples(tmp_path / "out").items():
        other = examples(purified[0])[key]
        for name in ("image", "label"):
            assert feature[name] == other[name], (key, name)
    for both in ({"bundle": None, "defense": None}, {"bundle": bundle, "defense": "puvae"}):
        with pytest.raises(ValueError, match="Either `bundle` or `defense` must be given"):
            purify.purify({**OPTIONS, **pattern, **named, **both})
