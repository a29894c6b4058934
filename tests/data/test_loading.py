import gzip
import json
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf

from tfpurify import vocabulary
from tfpurify.data import augmentation, batching, embedded, loading, sources, specs
from tfpurify.data.embedded import make

NAMES = sorted(specs.DATASETS)


def arrays(name, split, **kwargs):
    dataset = loading.load_dataset(name, split, **{"source": "embedded", **kwargs})
    images, labels = zip(*dataset.as_numpy_iterator(), strict=True)
    return np.stack(images), np.array(labels)


def batches(name="mnist", seed=3, epochs=2, **kwargs):
    kwargs = {"batch_size": 48, "source": "embedded", "limit": 250, **kwargs}
    dataset, steps = loading.training_batches(name, seed=seed, epochs=epochs, **kwargs)
    return list(dataset.as_numpy_iterator()), steps


def assert_same_batches(first, second):
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])


def keys(images):
    return [image.tobytes() for image in images]


@pytest.fixture
def fresh_sources():
    """Forgets probes, downloads and warnings, which are made once per process."""
    cached = (sources._probe, sources.download, sources.warn_embedded)
    for function in cached:
        function.cache_clear()
    yield
    for function in cached:
        function.cache_clear()


@pytest.fixture
def warnings():
    with mock.patch.object(sources.logging, "warning") as warning:
        yield warning


@pytest.fixture
def prepared_dir(tmp_path):
    """A TFDS directory of 5,030 train and 10 test images, each with its number in its corner."""

    def examples(count):
        for i in range(count):
            image = np.zeros((28, 28, 1), np.uint8)
            image[0, 0], image[0, 1] = i // 256, i % 256
            yield image, i % 10

    folder = tmp_path / "mnist" / "3.0.1"
    folder.mkdir(parents=True)
    sizes = {"train": loading.VALIDATION_SIZE + 30, "test": 10}
    for split, size in sizes.items():
        sources.write_examples(folder / f"mnist-{split}.tfrecord-00000-of-00001", examples(size))
    prefix = "tensorflow_datasets.core.features."
    image = {
        "pythonClassName": prefix + "image_feature.Image",
        "image": {"dtype": "uint8", "shape": {"dimensions": ["28", "28", "1"]}},
    }
    label = {
        "pythonClassName": prefix + "class_label_feature.ClassLabel",
        "classLabel": {"numClasses": "10"},
    }
    features = {
        "pythonClassName": prefix + "features_dict.FeaturesDict",
        "featuresDict": {"features": {"image": image, "label": label}},
    }
    info = {
        "fileFormat": "tfrecord",
        "name": "mnist",
        "version": "3.0.1",
        "splits": [
            {
                "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
                "name": split,
                "numBytes": "1",
                "shardLengths": [str(size)],
            }
            for split, size in sizes.items()
        ],
        "supervisedKeys": {"tuple": {"items": [{"featureKey": "image"}, {"featureKey": "label"}]}},
    }
    (folder / "features.json").write_text(json.dumps(features))
    (folder / "dataset_info.json").write_text(json.dumps(info))
    return str(tmp_path)


def test_specs_match_the_vocabulary():
    assert tuple(specs.DATASETS) == vocabulary.DATASETS
    for name, spec in specs.DATASETS.items():
        assert specs.get_spec(name) is spec
        assert spec.name == name
        assert len(spec.class_names) == spec.num_classes
        assert spec.default_classifier in vocabulary.CLASSIFIERS


@pytest.mark.parametrize("name", NAMES)
def test_sample_is_balanced_real_and_split_without_overlap(name):
    spec = specs.get_spec(name)
    seen = {}
    for split, size in {"train": 1800, "validation": 200, "test": 1000}.items():
        dataset = loading.load_dataset(name, split, source="embedded")
        assert int(dataset.cardinality()) == size
        images, labels = arrays(name, split)
        assert images.shape == (size, *spec.image_shape)
        assert images.dtype == np.float32
        assert labels.dtype == np.int64
        assert images.min() == 0.0
        assert images.max() == 1.0
        np.testing.assert_array_equal(labels, np.arange(size) % spec.num_classes)
        assert len(set(keys(images))) == size
        seen[split] = set(keys(images))
    assert not seen["train"] & seen["validation"]
    assert not seen["train"] & seen["test"]
    assert not seen["validation"] & seen["test"]


def test_sample_is_package_data_of_a_few_megabytes():
    for name in NAMES:
        size = sum(embedded.sample_path(name, part).stat().st_size for part in ("train", "test"))
        assert size < 8_000_000
    assert (embedded.sample_path("mnist", "test").parent / "README.md").is_file()


@pytest.mark.parametrize("augment", [None, "shift"])
def test_resumed_run_sees_what_an_uninterrupted_run_sees(augment):
    whole, steps = batches(epochs=3, augment=augment)
    tf.random.set_seed(0)  # the global seed must not matter
    resumed, resumed_steps = batches(epochs=3, initial_epoch=1, augment=augment)
    assert steps == resumed_steps == 5
    assert len(whole) == 15
    assert_same_batches(whole[steps:], resumed)


def test_streamed_batches_resume_too(monkeypatch):
    monkeypatch.setattr(batching, "IN_MEMORY_BYTES", 100 * 784)
    tf.random.set_seed(0)
    whole, steps = batches(epochs=3)
    resumed, _ = batches(epochs=3, initial_epoch=1)
    assert len(whole) == 3 * steps
    assert_same_batches(whole[steps:], resumed)
    assert not np.array_equal(whole[0][1], whole[steps][1])


def test_batches_differ_by_epoch_and_seed():
    first, steps = batches()
    other, _ = batches(seed=4)
    assert not np.array_equal(first[0][0], first[steps][0])
    assert not np.array_equal(first[0][0], other[0][0])


def test_an_epoch_shows_each_image_once_with_its_label():
    images, labels = arrays("mnist", "train")
    label_of = dict(zip(keys(images[:240]), labels, strict=False))
    shown, steps = batches(epochs=1, limit=240, batch_size=40)
    assert steps == len(shown) == 6
    seen = {
        key: label
        for batch_images, batch_labels in shown
        for key, label in zip(keys(batch_images), batch_labels, strict=True)
    }
    assert seen == label_of


def test_batches_are_float_images_of_fixed_shape():
    dataset, steps = loading.training_batches("cifar10", 64, 0, 2, source="embedded", limit=200)
    assert steps == 3
    assert int(dataset.cardinality()) == 6
    images, labels = dataset.element_spec
    assert images == tf.TensorSpec((64, 32, 32, 3), tf.float32)
    assert labels == tf.TensorSpec((64,), tf.int64)


@pytest.mark.parametrize(("name", "augment"), [("mnist", "shift"), ("cifar10", "crop_flip")])
def test_augmentation_keeps_shape_and_range_and_differs_per_epoch(name, augment):
    augmented, steps = batches(name, augment=augment, batch_size=250)
    plain, _ = batches(name, batch_size=250)
    for (images, labels), (plain_images, plain_labels) in zip(augmented, plain, strict=True):
        loading.validate_images(images, specs.get_spec(name).image_shape)
        np.testing.assert_array_equal(labels, plain_labels)
        assert np.mean(images != plain_images) > 0.05
    by_image = [
        dict(zip(keys(shown), images, strict=True))
        for (images, _), (shown, _) in zip(augmented, plain, strict=True)
    ]
    assert steps == 1
    assert any(not np.array_equal(by_image[0][key], by_image[1][key]) for key in by_image[0])


def test_crop_flip_moves_whole_pixels():
    images = np.random.default_rng(0).integers(1, 256, (64, 32, 32, 3)).astype(np.uint8)
    augmented = augmentation.augment(tf.constant(images), "crop_flip", [1, 2]).numpy()
    padded = np.pad(images, ((0, 0), (4, 4), (4, 4), (0, 0)))
    flips = 0
    for image, candidate in zip(augmented, padded, strict=True):
        crops = [candidate[y : y + 32, x : x + 32] for y in range(9) for x in range(9)]
        flipped = any(np.array_equal(image, crop[:, ::-1]) for crop in crops)
        assert flipped or any(np.array_equal(image, crop) for crop in crops)
        flips += flipped
    assert 16 < flips < 48


def test_shift_keeps_the_digit_near_its_place():
    images, _ = arrays("mnist", "test")
    images = images[:200]
    augmented = augmentation.augment(tf.constant(images), "shift", [1, 2]).numpy()

    def centers(batch):
        weights = batch[..., 0] / batch.sum((1, 2, 3))[:, None, None]
        rows = (weights.sum(2) * np.arange(28)).sum(1)
        columns = (weights.sum(1) * np.arange(28)).sum(1)
        return np.stack([rows, columns], axis=1)

    moved = centers(augmented) - centers(images)
    assert np.abs(moved).max() < 2.7
    np.testing.assert_allclose(moved.mean(0), 0.0, atol=0.3)
    assert (moved.std(0) > 0.7).all()


def test_offline_auto_falls_back_to_the_sample_and_says_so(tmp_path, fresh_sources, warnings):
    with mock.patch.object(sources.urllib.request, "urlopen", side_effect=OSError("no route")):
        assert loading.resolve_source("mnist", str(tmp_path)) == "embedded"
        assert int(loading.load_dataset("mnist", "test", str(tmp_path)).cardinality()) == 1000
        message = warnings.call_args.args[0] % warnings.call_args.args[1:]
        assert "EMBEDDED SAMPLE: mnist" in message
        assert "no route" in message
        warnings.assert_called_once()
        with pytest.raises(FileNotFoundError, match=r"needs mnist from TFDS. Received: nothing"):
            loading.load_dataset("mnist", "test", str(tmp_path), source="tfds")


def test_failed_download_falls_back_to_the_sample(tmp_path, fresh_sources, warnings):
    import tensorflow_datasets as tfds

    with (
        mock.patch.object(sources, "_probe", return_value=""),
        mock.patch.object(tfds, "builder", side_effect=OSError("disk\nfull")),
    ):
        assert loading.resolve_source("mnist", str(tmp_path)) == "embedded"
    assert "download failed (OSError: disk full)" in warnings.call_args.args[-1]


def test_embedded_source_is_said_loudly(fresh_sources, warnings):
    assert loading.resolve_source("cifar10", source="embedded") == "embedded"
    assert "EMBEDDED SAMPLE" in warnings.call_args.args[0]


def test_prepared_directory_comes_first(prepared_dir, fresh_sources, warnings, monkeypatch):
    with mock.patch.object(sources.urllib.request, "urlopen", side_effect=AssertionError):
        assert loading.resolve_source("mnist", prepared_dir) == "tfds"
        monkeypatch.setenv("TFDS_DATA_DIR", prepared_dir)
        assert loading.resolve_source("mnist") == "tfds"
        train, train_labels = arrays("mnist", "train", source="auto")
        validation, _ = arrays("mnist", "validation", source="tfds")
        test, _ = arrays("mnist", "test", source="auto")
    assert (len(train), len(validation), len(test)) == (30, loading.VALIDATION_SIZE, 10)
    number = np.round(validation[:, 0, 0, 0] * 255) * 256 + np.round(validation[:, 0, 1, 0] * 255)
    np.testing.assert_array_equal(number, np.arange(30, loading.VALIDATION_SIZE + 30))
    np.testing.assert_array_equal(train_labels, np.arange(30) % 10)
    warnings.assert_not_called()


def test_half_prepared_directory_is_not_taken(tmp_path):
    (tmp_path / "mnist" / "3.0.1.incomplete").mkdir(parents=True)
    (tmp_path / "mnist" / "3.0.2").mkdir()
    assert sources.find_prepared("mnist", str(tmp_path)) is None
    for version in ("3.0.9", "3.0.10"):
        folder = tmp_path / "mnist" / version
        folder.mkdir()
        (folder / "dataset_info.json").touch()
    assert sources.find_prepared("mnist", str(tmp_path)) == str(folder)


def test_files_of_examples_are_read_zipped_or_not(tmp_path):
    path = embedded.sample_path("mnist", "test")
    (tmp_path / "part-0.gz").write_bytes(gzip.compress(path.read_bytes()))
    (tmp_path / "part-1").write_bytes(embedded.sample_path("mnist", "train").read_bytes())
    dataset = loading.examples_from_files(str(tmp_path / "part-*"), specs.get_spec("mnist"))
    assert int(dataset.cardinality()) == 3000
    images, _ = arrays("mnist", "test")
    for expected, (image, label) in zip(images[:20], dataset.as_numpy_iterator(), strict=False):
        np.testing.assert_array_equal(image, expected)
        assert label.dtype == np.int64
    from_files, steps = batches(epochs=1, limit=None, train_files=[str(tmp_path / "part-0.gz")])
    assert steps == len(from_files) == 1000 // 48


def test_a_file_of_examples_appears_whole_or_not_at_all(tmp_path):
    def cut_off():
        yield np.zeros((28, 28, 1), np.uint8), 3
        raise RuntimeError("the disk is full")

    with pytest.raises(RuntimeError, match="the disk is full"):
        sources.write_examples(tmp_path / "train.tfrecord", cut_off())
    assert not list(tmp_path.iterdir())


def test_sample_is_made_deterministically(prepared_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(make, "SAMPLE_SIZES", {"train": 40, "test": 10})
    monkeypatch.setattr(make, "SAMPLE_VALIDATION_SIZE", 20)
    contents = []
    for folder in (tmp_path / "first", tmp_path / "second"):
        folder.mkdir()
        paths = make.make_sample("mnist", prepared_dir, folder)
        contents.append([path.read_bytes() for path in paths])
    assert contents[0] == contents[1]
    examples = sources.read_examples([str(paths[0])], (28, 28, 1)).as_numpy_iterator()
    numbers = [int(image[0, 0, 0]) * 256 + int(image[0, 1, 0]) for image, _ in examples]
    assert numbers == [*range(20), *range(30, 50)]


def test_sample_of_a_missing_class_is_refused():
    with pytest.raises(ValueError, match=r"2 examples per class. Received: \[2, 0\]"):
        make.balanced([(None, 0)] * 5, num_classes=2, size=4)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: specs.get_spec("svhn"), "`name` must be one of .*Received: name='svhn'"),
        (lambda: loading.load_dataset("svhn", "test"), "`name` must be one of"),
        (
            lambda: loading.load_dataset("mnist", "dev"),
            "`split` must be one of .*Received: split='dev'",
        ),
        (
            lambda: loading.load_dataset("mnist", "test", source="web"),
            "`source` must be one of .*Received: source='web'",
        ),
        (
            lambda: batches(augment="cutout"),
            "`augment` must be one of .*Received: augment='cutout'",
        ),
        (lambda: batches(batch_size=0), r"`batch_size` must be in \[1, 250\].*batch_size=0"),
        (lambda: batches(batch_size=251), "`batch_size` must be in .*batch_size=251"),
        (lambda: batches(limit=0), "`limit` must be >= 1. Received: limit=0"),
        (lambda: batches(epochs=1, initial_epoch=2), "initial_epoch=2, epochs=1"),
    ],
)
def test_bad_arguments_are_named(call, match):
    with pytest.raises(ValueError, match=match):
        call()


def test_no_matching_file_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="`file_patterns` must match"):
        loading.examples_from_files(str(tmp_path / "none*"), specs.get_spec("mnist"))


def test_valid_images_pass():
    loading.validate_images(np.zeros((2, 28, 28, 1), np.float32), (28, 28, 1))
    loading.validate_images(tf.ones((1, 32, 32, 3)), (32, 32, 3))


@pytest.mark.parametrize(
    ("images", "error", "match"),
    [
        (np.zeros((1, 28, 28, 1), np.uint8), TypeError, "must be float32.*dtype=uint8"),
        (np.zeros((1, 28, 28, 1)), TypeError, "dtype=float64"),
        (np.zeros((28, 28, 1), np.float32), ValueError, r"shape \(batch, 28, 28, 1\)"),
        (np.zeros((1, 32, 32, 3), np.float32), ValueError, r"Received: shape=\(1, 32, 32, 3\)"),
        (np.zeros((0, 28, 28, 1), np.float32), ValueError, r"Received: shape=\(0, 28, 28, 1\)"),
        (np.full((1, 28, 28, 1), 1.01, np.float32), ValueError, r"in \[0, 1\].*maximum 1.01"),
        (np.full((1, 28, 28, 1), -0.1, np.float32), ValueError, r"in \[0, 1\].*minimum -0.1"),
        (np.full((1, 28, 28, 1), np.nan, np.float32), ValueError, "nan"),
    ],
)
def test_invalid_images_are_refused(images, error, match):
    with pytest.raises(error, match=match):
        loading.validate_images(images, (28, 28, 1))


def test_flip_mirrors_half_of_the_images_and_changes_nothing_else():
    images = np.random.default_rng(0).integers(1, 256, (64, 28, 28, 1)).astype(np.uint8)
    augmented = augmentation.augment(tf.constant(images), "flip", [1, 2]).numpy()
    kept = [np.array_equal(a, b) for a, b in zip(augmented, images, strict=True)]
    mirrored = [np.array_equal(a, b[:, ::-1]) for a, b in zip(augmented, images, strict=True)]
    assert all(k != m for k, m in zip(kept, mirrored, strict=True))
    assert 16 < sum(mirrored) < 48


@pytest.mark.parametrize("is_streamed", [False, True])
def test_short_epochs_cut_the_same_passes(monkeypatch, is_streamed):
    if is_streamed:
        monkeypatch.setattr(batching, "IN_MEMORY_BYTES", 100 * 784)
    whole, steps = batches(epochs=2)
    short, short_steps = batches(epochs=4, steps_per_epoch=2)
    assert (steps, short_steps, len(short)) == (5, 2, 8)
    assert_same_batches(whole[:8], short)
    resumed, _ = batches(epochs=4, initial_epoch=3, steps_per_epoch=2)
    assert_same_batches(whole[6:8], resumed)


def test_noise_repeats_in_half_of_the_images_and_keeps_its_bound():
    images = np.full((64, 8, 8, 1), 0.5, np.float32)
    noise = augmentation.add_noise(images, 0.2, 3, [1, 2]).numpy() - images
    is_repeated = np.all(np.isclose(noise[:, :5], noise[:, 3:], atol=1e-6), axis=(1, 2, 3))
    assert 16 < np.sum(is_repeated) < 48
    bounds = np.max(np.abs(noise), axis=(1, 2, 3))
    assert np.max(bounds) <= 0.2 + 1e-6 and np.min(bounds) < 0.1 < np.max(bounds)
    assert np.mean(np.std(noise, axis=0)) > 0.01
