"""The data sets as streams of images in [0, 1], and the batches that trainers draw from them.

The three come from a prepared TFDS directory, from TFDS's download, or from the embedded sample;
validation is the last 5,000 training images (of the sample: the last 200). Others are registered by
`own.register`.
"""

import os

import numpy as np
import tensorflow as tf
from absl import logging

from tfpurify import vocabulary
from tfpurify.arguments import require_at_least, require_one_of
from tfpurify.data import augmentation, batching, own, sources
from tfpurify.data.embedded import SAMPLE_SIZES, SAMPLE_VALIDATION_SIZE, sample_path
from tfpurify.data.specs import get_spec

SPLITS = ("train", "validation", "test")
VALIDATION_SIZE = 5000


def resolve_source(name, data_dir=None, source="auto"):
    """Says where the images of data set `name` come from, downloading them when that is needed.

    Args:
        name: a key of `DATASETS`, or what `own.register` returned.
        data_dir: TFDS directory; default `TFDS_DATA_DIR`, else `~/tensorflow_datasets`.
        source: "tfds" (prepared there, else TFDS's download), "embedded" (the package's sample),
            or "auto": the first of these that works.

    Returns:
        "tfds" or "embedded"; "own" for a folder or an .npz file.

    Raises:
        ValueError: unknown `name` or `source`, or one that `name` does not have.
        FileNotFoundError: `source="tfds"`, and the data are neither prepared nor downloadable.
    """
    get_spec(name)
    require_one_of(vocabulary.RECORDED_SOURCES + ("auto",), source=source)
    if own.is_own(name):
        if source == "embedded":
            raise ValueError(
                f"The embedded sample has {list(vocabulary.DATASETS)}. Received: dataset={name}"
            )
        return own.source_of(name)
    if source == "own":
        raise ValueError(f"`source='own'` is of none of the three. Received: dataset={name}")
    if source == "embedded":
        sources.warn_embedded(name, "it was asked for")
        return "embedded"
    if sources.find_prepared(name, data_dir):
        return "tfds"
    root = sources.tfds_root(data_dir)
    reason = sources.download(name, get_spec(name).download_url, root)
    if not reason:
        return "tfds"
    tried = f"nothing prepared in {os.path.join(root, name)}, and {reason}"
    if source == "tfds":
        raise FileNotFoundError(f"`source='tfds'` needs {name} from TFDS. Received: {tried}")
    sources.warn_embedded(name, tried)
    return "embedded"


def load_uint8(name, split, data_dir=None, source="auto"):
    """Like `load_dataset`, but images are uint8 in [0, 255], as they are stored."""
    spec = get_spec(name)
    require_one_of(SPLITS, split=split)
    resolved = resolve_source(name, data_dir, source)
    if own.is_own(name):
        with tf.device("CPU:0"):
            return tf.data.Dataset.from_tensor_slices(own.split_of(name, split))
    logging.info("%s %s comes from %s", name, split, resolved)
    if resolved == "tfds":
        import tensorflow_datasets as tfds

        part = {"train": f"train[:-{VALIDATION_SIZE}]", "validation": f"train[-{VALIDATION_SIZE}:]"}
        return tfds.builder_from_directory(sources.find_prepared(name, data_dir)).as_dataset(
            split=part.get(split, split),
            as_supervised=True,
            read_config=tfds.ReadConfig(try_autocache=False),
        )
    part = "test" if split == "test" else "train"
    examples = sources.read_examples([str(sample_path(name, part))], spec.image_shape)
    first_validation = SAMPLE_SIZES["train"] - SAMPLE_VALIDATION_SIZE
    if split == "train":
        return examples.take(first_validation)
    return examples.skip(first_validation) if split == "validation" else examples


def _to_float(images, labels):
    return tf.cast(images, tf.float32) / 255.0, labels


def load_dataset(name, split, data_dir=None, source="auto"):
    """Streams one split of a data set.

    Args:
        name: a key of `DATASETS`.
        split: "train", "validation" (the last 5,000 training images; of the embedded sample the
            last 200) or "test".
        data_dir: see `resolve_source`.
        source: see `resolve_source`.

    Returns:
        `tf.data.Dataset` of (image float32 (H, W, C) in [0, 1], label int64 ()), unbatched, in the
        stored order, with known cardinality.

    Raises:
        ValueError: unknown `name`, `split` or `source`.
        FileNotFoundError: see `resolve_source`.
    """
    return load_uint8(name, split, data_dir, source).map(_to_float)


def examples_from_files(file_patterns, spec):
    """Streams TFRecords in TFDS's on-disk form, which TFX's ImportExampleGen hands on.

    Args:
        file_patterns: a glob pattern or a list of them; names that end in ".gz" are unzipped.
        spec: `DatasetSpec`. In each `tf.train.Example`, feature `image` holds a PNG of its shape
            and feature `label` an int64.

    Returns:
        `tf.data.Dataset` as of `load_dataset`.

    Raises:
        FileNotFoundError: no file matches.
    """
    files = sources.match_files(file_patterns)
    return sources.read_examples(files, spec.image_shape).map(_to_float)


def validate_images(images, image_shape):
    """Refuses images that are not float32 (B, H, W, C) in [0, 1].

    Args:
        images: array or eager tensor.
        image_shape: expected (H, W, C).

    Raises:
        TypeError: `images` is not float32.
        ValueError: wrong rank or shape, no image at all, or values outside [0, 1] (NaN included).
    """
    images = np.asarray(images)
    if images.dtype != np.float32:
        raise TypeError(f"`images` must be float32 in [0, 1]. Received: dtype={images.dtype}")
    if images.ndim != 4 or images.shape[1:] != tuple(image_shape) or not len(images):
        raise ValueError(
            f"`images` must have shape (batch, {', '.join(map(str, image_shape))}). "
            f"Received: shape={images.shape}"
        )
    low, high = images.min(), images.max()
    if not (low >= 0 and high <= 1):
        raise ValueError(
            f"`images` must lie in [0, 1]. Received: minimum {low!s}, maximum {high!s}"
        )


def validate_if_eager(images, image_shape):
    """Like `validate_images`, where there are values to look at; a traced graph has none yet.

    Args:
        images: array or tensor. Keras casts what a model is called with to its compute dtype, so a
            reduced precision is accepted here.
        image_shape: expected (H, W, C).
    """
    if isinstance(images, np.ndarray):
        validate_images(images, image_shape)
    elif isinstance(images, tf.Tensor) and hasattr(images, "numpy"):
        is_reduced = images.dtype in (tf.bfloat16, tf.float16)
        validate_images(tf.cast(images, tf.float32) if is_reduced else images, image_shape)


def training_batches(
    name,
    batch_size,
    seed,
    epochs,
    initial_epoch=0,
    *,
    augment=None,
    data_dir=None,
    source="auto",
    split="train",
    limit=None,
    train_files=None,
    steps_per_epoch=None,
):
    """Makes the shuffled batches of all epochs of a run, as one dataset.

    Order and augmentation depend on (seed, epoch, step) alone, so a run that goes on at
    `initial_epoch` sees what an uninterrupted run sees there.

    Args:
        name: a key of `DATASETS`.
        batch_size: images per batch; what is left at the end of an epoch is dropped.
        seed: integer.
        epochs: number of the run's last epoch + 1.
        initial_epoch: number of the first epoch to make.
        augment: None, "shift", "flip" or "crop_flip", see `augmentation.augment`.
        data_dir: see `resolve_source`.
        source: see `resolve_source`.
        split: see `load_dataset`.
        limit: use only the first so many images.
        train_files: file patterns to read instead, see `examples_from_files`.
        steps_per_epoch: batches that count as an epoch; a whole pass if None.

    Returns:
        (dataset, steps_per_epoch): `tf.data.Dataset` of (images float32 (B, H, W, C) in [0, 1],
        labels int64 (B,)), of (epochs - initial_epoch) * steps_per_epoch batches.

    Raises:
        ValueError: an argument out of its range.
        FileNotFoundError: see `resolve_source` and `examples_from_files`.
    """
    spec = get_spec(name)
    require_one_of((None, *vocabulary.AUGMENTATIONS), augment=augment)
    if not 0 <= initial_epoch <= epochs:
        raise ValueError(
            f"`initial_epoch` must be in [0, epochs]. "
            f"Received: initial_epoch={initial_epoch}, epochs={epochs}"
        )
    require_at_least(1, limit=limit)
    if train_files is None:
        examples = load_uint8(name, split, data_dir, source)
    else:
        examples = sources.read_examples(sources.match_files(train_files), spec.image_shape)
    if limit is not None:
        examples = examples.take(limit)
    count = int(examples.cardinality())
    if not 1 <= batch_size <= count:
        raise ValueError(
            f"`batch_size` must be in [1, {count}], the number of images. "
            f"Received: batch_size={batch_size}"
        )
    steps_per_epoch = steps_per_epoch or count // batch_size
    batches = batching.shuffled_batches(
        examples, batch_size, seed, epochs, initial_epoch, steps_per_epoch
    )

    def finish(step, images, labels):
        images, labels = _to_float(images, labels)
        return augmentation.augment(images, augment, tf.stack([seed, step])), labels

    batches = batches.map(finish, num_parallel_calls=tf.data.AUTOTUNE)
    return batches.prefetch(tf.data.AUTOTUNE), steps_per_epoch
