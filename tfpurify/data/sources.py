"""Where images are found: a prepared TFDS directory, TFDS's download, TFRecord files."""

import functools
import http.client
import os
import re
import urllib.request

import numpy as np
import tensorflow as tf
from absl import logging

from tfpurify.data.embedded import SAMPLE_SIZES
from tfpurify.files import aside

PROBE_SECONDS = 3


def tfds_root(data_dir=None):
    """Returns the TFDS directory: `data_dir`, else `TFDS_DATA_DIR`, else TFDS's default."""
    root = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return os.path.expanduser(root)


def find_prepared(name, data_dir):
    """Returns the folder of the newest prepared version, or None; a look at file names only."""
    folder = os.path.join(tfds_root(data_dir), name)
    entries = tf.io.gfile.listdir(folder) if tf.io.gfile.isdir(folder) else []
    versions = [
        entry
        for entry in (entry.strip("/") for entry in entries)
        if re.fullmatch(r"\d+\.\d+\.\d+", entry)
        and tf.io.gfile.exists(os.path.join(folder, entry, "dataset_info.json"))
    ]
    newest = max(versions, key=lambda version: [*map(int, version.split("."))], default=None)
    return newest and os.path.join(folder, newest)


@functools.cache
def _probe(url):
    """Returns why `url` cannot be had, or "" when it can; asked once per process.

    `tfds.load` itself retries for minutes when there is no network.
    """
    try:
        request = urllib.request.Request(url, method="HEAD")
        with urllib.request.urlopen(request, timeout=PROBE_SECONDS):
            return ""
    except (OSError, http.client.HTTPException) as error:
        return f"{type(error).__name__}: {error}"


@functools.cache
def download(name, url, root):
    """Has TFDS prepare `name` in `root` if `url`, a file of it, answers; returns why not, or ""."""
    reason = _probe(url)
    if reason:
        return f"no download ({url}: {reason})"
    import tensorflow_datasets as tfds

    logging.info("Downloading %s with TFDS to %s", name, root)
    try:
        tfds.builder(name, data_dir=root).download_and_prepare()
    except Exception as error:  # TFDS raises its downloader's, its checksums' and the disk's errors
        message = " ".join(str(error).split())[:200]
        return f"download failed ({type(error).__name__}: {message})"
    return ""


@functools.cache
def warn_embedded(name, reason):
    """Says loudly, once per reason, that the embedded sample stands in for the full data set."""
    logging.warning(
        "EMBEDDED SAMPLE: %s is read from the package's %d train and %d test images, not from the "
        "full data set: %s.",
        name,
        SAMPLE_SIZES["train"],
        SAMPLE_SIZES["test"],
        reason,
    )


def match_files(file_patterns):
    """Returns the sorted files that a glob pattern, or a list of them, matches."""
    patterns = [file_patterns] if isinstance(file_patterns, str) else list(file_patterns)
    files = sorted({file for pattern in patterns for file in tf.io.gfile.glob(pattern)})
    if not files:
        raise FileNotFoundError(f"`file_patterns` must match TFRecord files. Received: {patterns}")
    return files


def read_examples(files, image_shape):
    """Returns (uint8 image, int64 label) from TFRecords in TFDS's form, of known cardinality.

    Args:
        files: non-empty list of paths; those that end in ".gz" are unzipped.
        image_shape: (H, W, C) of the PNG in feature `image`; feature `label` is an int64.
    """
    # One file after another, so that the order of the examples is the order of the files.
    records = functools.reduce(
        lambda done, more: done.concatenate(more),
        [tf.data.TFRecordDataset(f, "GZIP" if f.endswith(".gz") else "") for f in files],
    )
    features = {
        "image": tf.io.FixedLenFeature([], tf.string),
        "label": tf.io.FixedLenFeature([], tf.int64),
    }

    def decode(record):
        example = tf.io.parse_single_example(record, features)
        image = tf.io.decode_png(example["image"], channels=image_shape[-1])
        return tf.ensure_shape(image, image_shape), example["label"]

    examples = records.map(decode, num_parallel_calls=tf.data.AUTOTUNE)
    count = records.reduce(np.int64(0), lambda total, _: total + 1)
    return examples.apply(tf.data.experimental.assert_cardinality(count))


def write_examples(path, examples):
    """Writes what `read_examples` reads; the file appears whole or not at all.

    Args:
        path: of the TFRecord file; its folder is made if missing.
        examples: iterable of (uint8 image (H, W, C), int label).
    """
    with aside(path) as hidden, tf.io.TFRecordWriter(str(hidden)) as writer:
        for image, label in examples:
            png = tf.io.encode_png(image, compression=9).numpy()
            feature = {
                "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[png])),
                "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
            }
            example = tf.train.Example(features=tf.train.Features(feature=feature))
            writer.write(example.SerializeToString(deterministic=True))
