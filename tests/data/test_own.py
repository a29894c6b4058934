"""Images of one's own: folders, .npz files, TFDS's other data sets, and what is refused."""

import logging

import keras
import numpy as np
import pytest
from PIL import Image

from tfpurify.data import loading, own, specs
from tfpurify.files import digest


@pytest.fixture(autouse=True)
def forgotten(monkeypatch):
    """Every test begins with the three data sets alone."""
    monkeypatch.setattr(own, "_readers", {})
    monkeypatch.setattr(own, "DATASETS", known := dict(specs.DATASETS))
    monkeypatch.setattr(specs, "DATASETS", known)
    own._splits.cache_clear()
    own.described.cache_clear()


def write_images(folder, count=20, size=(16, 12), mode="RGB", suffix="png"):
    """Writes `count` images into a folder; the n-th has the value n everywhere."""
    folder.mkdir(parents=True)
    for value in range(count):
        Image.new(mode, size, (value,) * 3 if mode == "RGB" else value).save(
            folder / f"{value:03}.{suffix}"
        )


def test_a_folder_is_split_by_a_seed_and_every_image_is_in_one_split(tmp_path):
    for name in ("cat", "dog"):
        write_images(tmp_path / "My pets" / name, 40)
    dataset = own.register(tmp_path / "My pets")
    spec = loading.get_spec(dataset)
    assert (dataset, spec.image_shape, spec.class_names) == ("my_pets", (12, 16, 3), ("cat", "dog"))
    splits = {name: own.split_of(dataset, name) for name in loading.SPLITS}
    seen = np.concatenate([images[:, 0, 0, 0] + 100 * labels for images, labels in splits.values()])
    assert sorted(seen) == [value + 100 * label for label in (0, 1) for value in range(40)]
    assert [len(labels) for _, labels in splits.values()] == [61, 7, 12]
    image, label = next(iter(loading.load_dataset(dataset, "train")))
    assert image.dtype == "float32" and 0 <= float(image[0, 0, 0]) <= 39 / 255
    assert loading.resolve_source(dataset) == "own"


@pytest.mark.parametrize("test_folder", ["test", "val"])
def test_train_and_test_folders_stay_apart(tmp_path, test_folder):
    for part, count in (("train", 30), (test_folder, 5)):
        for name in ("a", "b"):
            write_images(tmp_path / "set" / part / name, count, mode="L", suffix="bmp")
    dataset = own.register(tmp_path / "set")
    assert loading.get_spec(dataset).image_shape == (12, 16, 1)
    assert len(own.split_of(dataset, "test")[1]) == 10
    assert (
        len(own.split_of(dataset, "train")[1]) + len(own.split_of(dataset, "validation")[1]) == 60
    )


def test_one_colour_image_makes_all_colour_and_exif_is_followed(tmp_path):
    write_images(tmp_path / "set" / "a", 25, size=(12, 16), mode="L")
    write_images(tmp_path / "set" / "b", 24, size=(12, 16), mode="RGB", suffix="jpg")
    turned = Image.new("RGB", (16, 12))
    turned.paste((255, 255, 255), (0, 0, 16, 3))  # white on top, which is right once turned
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(tmp_path / "set" / "b" / "turned.jpg", exif=exif, quality=95)
    dataset = own.register(tmp_path / "set")
    assert loading.get_spec(dataset).image_shape == (16, 12, 3)
    images = np.concatenate([own.split_of(dataset, split)[0] for split in loading.SPLITS])
    bright = images[images.max(axis=(1, 2, 3)) > 200]
    assert len(bright) == 1 and bright[0, :, -1].min() > 200 and bright[0, :, 0].max() < 50


def test_what_is_no_image_is_named_and_much_of_it_is_an_error(tmp_path, caplog):
    write_images(tmp_path / "set" / "a", 40)
    write_images(tmp_path / "set" / "b", 40)
    (tmp_path / "set" / "a" / "notes.txt").write_text("no image")
    (tmp_path / "set" / "b" / "cut.png").write_bytes(
        (tmp_path / "set" / "b" / "000.png").read_bytes()[:40]
    )
    with caplog.at_level(logging.WARNING, logger="absl"):
        dataset = own.register(tmp_path / "set")
    assert "notes.txt" in caplog.text and "cut.png" in caplog.text
    assert sum(len(own.split_of(dataset, split)[1]) for split in loading.SPLITS) == 80
    for index in range(6):
        (tmp_path / "set" / "a" / f"{index}.txt").write_text("no image")
    with pytest.raises(ValueError, match="8 of 88 files in .* are none"):
        own.register(tmp_path / "set", "8x8")


def test_sizes_that_differ_need_a_size(tmp_path):
    write_images(tmp_path / "set" / "a", 20, size=(16, 12))
    write_images(tmp_path / "set" / "b", 20, size=(20, 24))
    with pytest.raises(ValueError, match=r"--image_size=HEIGHTxWIDTH .* from 12x16 to 24x20"):
        own.register(tmp_path / "set")
    dataset = own.register(tmp_path / "set", "24x32")
    assert dataset == "set_24x32"
    assert loading.get_spec(dataset).image_shape == (24, 32, 3)
    assert dict(loading.get_spec(dataset).flags)["image_size"] == "24x32"


@pytest.mark.parametrize("scale", [1.0, 255.0])
@pytest.mark.parametrize("label_shape", [(60,), (60, 1)])
def test_an_archive_of_floats_is_scaled_and_labels_may_be_a_column(tmp_path, scale, label_shape):
    values = np.linspace(0, 1, 60)[:, None, None] * np.ones((60, 9, 7)) * scale
    labels = np.arange(60).reshape(label_shape) % 3
    path = tmp_path / "some.npz"
    np.savez(path, x_train=values, y_train=labels, x_test=values[:9], y_test=labels[:9])
    dataset = own.register(path)
    assert loading.get_spec(dataset).image_shape == (9, 7, 1)
    images, labels = own.split_of(dataset, "test")
    np.testing.assert_array_equal(np.sort(images[:, 0, 0, 0]), np.rint(np.arange(9) / 59 * 255))
    assert labels.shape == (9,)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x_train": np.zeros((9, 8, 8))}, "must be an .npz file of x_train"),
        ({"x_train": np.full((9, 8, 8), 16.0), "y_train": np.arange(9)}, "or numbers in"),
        ({"x_train": np.full((9, 8, 8), -1.0), "y_train": np.arange(9)}, "or numbers in"),
        ({"x_train": np.zeros((9, 8, 8, 4)), "y_train": np.arange(9)}, "1 or 3"),
        ({"x_train": np.zeros((9, 8, 8)), "y_train": np.arange(8)}, "must be 9 integers"),
        ({"x_train": np.zeros((9, 8, 8)), "y_train": np.arange(9) / 2}, "must be 9 integers"),
        ({"x_train": np.zeros((9, 8, 8)), "y_train": np.zeros(9, int)}, "at least two classes"),
        ({"x_train": np.zeros((9, 8, 8)), "y_train": np.arange(9) - 1}, "must count from 0"),
    ],
)
def test_an_archive_that_is_wrong_is_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "wrong.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        own.register(tmp_path / "wrong.npz")


def test_names_do_not_hide_each_other(tmp_path):
    for place in ("one", "two"):
        for name in ("a", "b"):
            write_images(tmp_path / place / "mnist" / name)
    assert own.register("mnist") == "mnist"
    dataset = own.register(tmp_path / "one" / "mnist")
    assert dataset == "own_mnist"
    assert own.register(tmp_path / "one" / "mnist") == own.register(dataset) == dataset
    with pytest.raises(ValueError, match="name of its own"):
        own.register(tmp_path / "two" / "mnist")


@pytest.mark.parametrize(
    ("dataset", "image_size", "message"),
    [
        ("no_such_name", None, "a folder of images"),
        ("no/such/folder", None, "that exists"),
        ("mnist", "64", "HEIGHTxWIDTH"),
        ("mnist", "64x", "HEIGHTxWIDTH"),
        ("mnist", "0x8", "HEIGHTxWIDTH"),
    ],
)
def test_what_there_is_not_is_refused(dataset, image_size, message):
    with pytest.raises(ValueError, match=message):
        own.register(dataset, image_size)


def test_the_embedded_sample_is_of_the_three_alone(tmp_path):
    for name in ("a", "b"):
        write_images(tmp_path / "set" / name)
    dataset = own.register(tmp_path / "set")
    with pytest.raises(ValueError, match="embedded sample has"):
        loading.load_dataset(dataset, "train", source="embedded")


def test_pixels_are_those_of_keras_s_reader_of_folders(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for index in range(10):
            pixels = rng.integers(0, 256, (20, 24, 4), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "set" / name / f"{index}.png")
    dataset = own.register(tmp_path / "set", "16x12")
    ours = np.concatenate([own.split_of(dataset, split)[0] for split in loading.SPLITS])
    read = keras.utils.image_dataset_from_directory(
        tmp_path / "set", image_size=(16, 12), batch_size=20, shuffle=False, verbose=False
    )
    keras_images = next(iter(read))[0].numpy()
    ours, theirs = (sorted(map(tuple, np.rint(i).reshape(20, -1))) for i in (ours, keras_images))
    assert np.max(np.abs(np.array(ours, int) - np.array(theirs, int))) <= 1


def store(folder, name, shape, splits, features=None):
    """Prepares a data set in TFDS's form."""
    import tensorflow as tf
    import tensorflow_datasets as tfds

    rng = np.random.default_rng(0)
    features = features or {
        "image": tfds.features.Image(shape=shape),
        "label": tfds.features.ClassLabel(names=["left", "right"]),
    }

    def examples(count):
        for index in range(count):
            size = shape if None not in shape else (8 + index % 3, 9, shape[2])
            image = rng.integers(0, 256, size, dtype=np.uint8)
            yield {"image": image, "label": index % 2}

    specs_ = {"image": tf.TensorSpec(shape, tf.uint8), "label": tf.TensorSpec((), tf.int64)}
    tfds.dataset_builders.store_as_tfds_dataset(
        name=name,
        version="1.0.0",
        features=tfds.features.FeaturesDict(features),
        split_datasets={
            split: tf.data.Dataset.from_generator(
                lambda count=count: examples(count), output_signature=specs_
            )
            for split, count in splits.items()
        },
        data_dir=folder,
    )


def test_any_prepared_data_set_of_tfds_is_read(tmp_path):
    store(tmp_path, "sides", (10, 12, 3), {"train": 30, "test": 8})
    dataset = own.register("sides", data_dir=tmp_path)
    spec = loading.get_spec(dataset)
    assert (dataset, spec.image_shape, spec.class_names) == (
        "sides",
        (10, 12, 3),
        ("left", "right"),
    )
    assert [len(own.split_of(dataset, split)[1]) for split in loading.SPLITS] == [27, 3, 8]
    assert loading.resolve_source(dataset) == "tfds"
    assert own.described(dataset)["dataset_sha256"] == "1.0.0"


def test_tfds_images_of_any_size_need_one_and_validation_stands_for_test(tmp_path):
    store(tmp_path, "ragged", (None, None, 3), {"train": 20, "validation": 6})
    with pytest.raises(ValueError, match="--image_size=HEIGHTxWIDTH .* of any size"):
        own.register("ragged", data_dir=tmp_path)
    dataset = own.register("ragged", "16x16", tmp_path)
    assert own.split_of(dataset, "test")[0].shape == (6, 16, 16, 3)
    assert own.split_of(dataset, "train")[0].shape == (18, 16, 16, 3)


def test_splits_on_different_scales_are_told_apart_or_refused(tmp_path):
    images, labels = np.linspace(0, 1, 40)[:, None, None] * np.ones((40, 8, 8)), np.arange(40) % 2
    mixed = {"x_train": np.rint(255 * images).astype(np.uint8), "y_train": labels}
    np.savez(tmp_path / "bytes.npz", **mixed, x_test=images, y_test=labels)
    assert own.split_of(own.register(tmp_path / "bytes.npz"), "test")[0].max() == 255
    mixed["x_train"] = 255 * images
    np.savez(tmp_path / "wide.npz", **mixed, x_test=images, y_test=labels)
    with pytest.raises(ValueError, match="on one scale"):
        own.register(tmp_path / "wide.npz")


@pytest.mark.parametrize("content", [b"", b"PK no archive"])
def test_an_archive_that_is_none_is_one_error(tmp_path, content):
    (tmp_path / "none.npz").write_bytes(content)
    with pytest.raises(ValueError, match="must be an .npz file"):
        own.register(tmp_path / "none.npz")


def test_images_behind_a_linked_folder_are_in_the_digest(tmp_path):
    for name in ("a", "b"):
        write_images(tmp_path / "real" / name)
        (tmp_path / "set").mkdir(exist_ok=True)
        (tmp_path / "set" / name).symlink_to(tmp_path / "real" / name)
    before = digest(tmp_path / "set")
    (tmp_path / "set" / "a" / ".DS_Store").write_text("hidden")
    assert digest(tmp_path / "set") == before
    (tmp_path / "real" / "a" / "000.png").unlink()
    assert digest(tmp_path / "set") != before
