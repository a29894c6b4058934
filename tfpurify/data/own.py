"""Images of one's own under a name of theirs: a folder, an .npz file, or any data set of TFDS."""

import dataclasses
import functools
import os
import re
from pathlib import Path

import numpy as np
from absl import logging

from tfpurify import vocabulary
from tfpurify.data import image_archive, image_folder
from tfpurify.data.specs import DATASETS, DatasetSpec

TEST_SHARE = 0.15  # of the images, where nobody set a test split aside
VALIDATION_SHARE = 0.1  # of the training images
MOST_VALIDATION = 5000
MOST_BYTES = 4_000_000_000
_SEED = 0
_readers = {}


def register(dataset, image_size=None, data_dir=None):
    """Makes a data set known to this process and returns the name under which it is.

    Args:
        dataset: One of the three data sets' names, a folder with one subfolder a class, perhaps in
            `train/` and `test/`; an `.npz` file; TFDS's name of a data set; or a name that is known
            already.
        image_size: `HEIGHTxWIDTH` to which all images are resized, or `(height, width)`; None:
            they stay as they are.
        data_dir: TFDS directory, for TFDS's.

    Returns:
        Its name: what records and runs are called by. A folder `photos` is `photos`, and
        `photos_64x48` where it is resized.

    Raises:
        ValueError: If there is no such data set, its images have several sizes, or it is damaged.
    """
    dataset = os.fspath(dataset)
    if not dataset:
        raise ValueError("`dataset` must be a name or a path. Received: an empty one")
    if dataset in _readers or (dataset in DATASETS and image_size is None):
        return dataset
    size = parse_size(image_size)
    path = Path(dataset).expanduser()
    if path.is_dir():
        reader = image_folder.ImageFolder(path, size)
    elif path.suffix == ".npz" and path.exists():
        reader = image_archive.ImageArchive(path, size)
    elif os.sep in dataset or path.suffix:
        raise ValueError(
            f"`dataset` must be a folder or an .npz file that exists. Received: {dataset}"
        )
    else:
        from tfpurify.data.tfds_images import TFDSImages

        reader = TFDSImages(dataset, size, data_dir)
    name = _name(path, size)
    flags = [("dataset", dataset if reader.source == "tfds" else str(path))]
    flags += [] if size is None else [("image_size", f"{size[0]}x{size[1]}")]
    known = DATASETS.get(name)
    if known is not None and known.flags[: len(flags)] == tuple(flags):
        return name
    if known is not None:
        raise ValueError(
            f"`dataset` must have a name of its own. Received: {dataset} beside "
            f"{dict(known.flags)['dataset']}, both called {name}"
        )
    spec = DatasetSpec(
        name,
        reader.image_shape,
        len(reader.class_names),
        tuple(reader.class_names),
        default_classifier="cnn",
        download_url="",
        flags=tuple(flags),
    )
    _require_some_classes(spec, dataset)
    DATASETS[name] = spec
    _readers[name] = reader
    logging.info(
        "%s: images of %s, %d classes", name, "x".join(map(str, spec.image_shape)), spec.num_classes
    )
    return name


def set_default_classifier(dataset, name, flags):
    """Makes a classifier the usual one of a data set of one's own.

    Args:
        dataset: Name under which it is registered.
        name: The classifier's.
        flags: Pairs of flag and value that say it on a command line.
    """
    spec = DATASETS[dataset]
    kept = tuple(pair for pair in spec.flags if pair[0] in ("dataset", "image_size"))
    DATASETS[dataset] = dataclasses.replace(spec, default_classifier=name, flags=(*kept, *flags))


def is_own(dataset):
    """Says whether a name is of a registered data set that is none of the three."""
    return dataset in _readers


@functools.cache
def described(dataset):
    """Returns a run's settings that say which images a registered data set is.

    A digest of them is among these, so that a run does not go on with others.
    """
    flags = dict(DATASETS[dataset].flags)
    return {
        "dataset_file": flags["dataset"],
        "image_size": flags.get("image_size"),
        "dataset_sha256": _readers[dataset].digest(),
    }


def source_of(dataset):
    """Returns where the images of a registered data set come from: `own` or `tfds`."""
    return _readers[dataset].source


def split_of(dataset, split):
    """Returns one split of a registered data set.

    Args:
        dataset: Name under which it is registered.
        split: `train`, `validation` or `test`.

    Returns:
        `(images, labels)`: uint8 `(n, height, width, channels)` and int64 `(n,)`, in an order that
        a fixed seed chose, so that the first few are of all classes.

    Raises:
        ValueError: If there are too few images, or more than fit into memory.
    """
    return _splits(dataset)[split]


@functools.cache
def _splits(dataset):
    spec = DATASETS[dataset]
    parts = _readers[dataset].read()
    generator = np.random.default_rng(_SEED)
    images, labels = _shuffled(*parts["train"], generator)
    if parts.get("test") is None:
        count = round(TEST_SHARE * len(labels))
        logging.info(
            "%s has no test split: %d of its %d images are set aside", dataset, count, len(labels)
        )
        test = images[:count], labels[:count]
        images, labels = images[count:], labels[count:]
    else:
        test = _shuffled(*parts["test"], generator)
    count = min(MOST_VALIDATION, round(VALIDATION_SHARE * len(labels)))
    splits = {
        "train": (images[count:], labels[count:]),
        "validation": (images[:count], labels[:count]),
        "test": test,
    }
    counts = {name: len(labels) for name, (_, labels) in splits.items()}
    if min(counts.values()) < 1:
        raise ValueError(f"`dataset` must have images for every split. Received: {counts}")
    logging.info("%s: %s", dataset, counts)
    missing = np.setdiff1d(np.arange(spec.num_classes), splits["train"][1])
    if len(missing):
        names = [spec.class_names[label] for label in missing[:5]]
        logging.warning(
            "%s has no training image of %d of its %d classes: %s",
            dataset,
            len(missing),
            spec.num_classes,
            names,
        )
    return splits


def _shuffled(images, labels, generator):
    if images.nbytes > MOST_BYTES:
        raise ValueError(
            f"`dataset` must fit into memory, {MOST_BYTES / 1e9:g} GB as bytes. Received: "
            f"{images.nbytes / 1e9:.1f} GB; --image_size=HEIGHTxWIDTH makes them smaller"
        )
    order = generator.permutation(len(labels))
    return images[order], labels[order].astype(np.int64)


def _require_some_classes(spec, dataset):
    if spec.num_classes < 2:
        raise ValueError(
            "`dataset` must have images of at least two classes. "
            f"Received: {dataset} with {list(spec.class_names)}"
        )
    if spec.image_shape[-1] not in (1, 3):
        raise ValueError(
            "`dataset` must have grey images or such of three channels. "
            f"Received: images of shape {spec.image_shape}"
        )


def parse_size(image_size):
    """Returns `(height, width)` of a size in words, or None.

    Raises:
        ValueError: If it is no size.
    """
    if image_size is None:
        return None
    if isinstance(image_size, str):
        words = re.fullmatch(r"(\d+)x(\d+)", image_size)
        size = tuple(map(int, words.groups())) if words else ()
    else:
        size = tuple(image_size)
    if len(size) != 2 or min(size) < 1:
        raise ValueError(f"`image_size` must be HEIGHTxWIDTH, as 64x48. Received: {image_size!r}")
    return size


def _name(path, size):
    word = re.sub(r"[^A-Za-z0-9_]+", "_", path.resolve().name.removesuffix(".npz"))
    word = word.strip("_").lower() or "images"
    if size is None and word in (*vocabulary.DATASETS, "all"):
        word = f"own_{word}"
    return word if size is None else f"{word}_{size[0]}x{size[1]}"
