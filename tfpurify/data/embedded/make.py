"""Writes the embedded sample from the full data sets.

`python -m tfpurify.data.embedded.make --data_dir=DIR` reads the sets prepared by TFDS in DIR.
Images are taken in their stored order, the first so many of each class, and written class by class
in turn, so that every prefix is nearly balanced. The last 200 train images come from the full set's
validation part, so that nobody validates on an image that a model was trained on.
"""

from absl import app, flags, logging

from tfpurify import vocabulary
from tfpurify.data.embedded import SAMPLE_SIZES, SAMPLE_VALIDATION_SIZE, sample_path


def balanced(dataset, num_classes, size):
    """Picks the first `size / num_classes` examples of each class, interleaved by class.

    Args:
        dataset: iterable of (uint8 image (H, W, C), int label).
        num_classes: number of classes, which divides `size`.
        size: number of examples to return.

    Returns:
        List of (image, label), where example i has label i modulo `num_classes`.

    Raises:
        ValueError: if a class has too few examples.
    """
    per_class = size // num_classes
    found = [[] for _ in range(num_classes)]
    for image, label in dataset:
        if len(found[label]) < per_class:
            found[label].append((image, int(label)))
        if sum(map(len, found)) == per_class * num_classes:
            return [example for turn in zip(*found, strict=True) for example in turn]
    raise ValueError(
        f"`dataset` must hold {per_class} examples per class. "
        f"Received: {[len(examples) for examples in found]}"
    )


def make_sample(name, data_dir=None, folder=None):
    """Writes the train and test file of data set `name` into `folder`; returns their paths."""
    from tfpurify.data import loading, sources

    num_classes = loading.get_spec(name).num_classes

    def part(split, size):
        images = loading.load_uint8(name, split, data_dir, source="tfds")
        return balanced(images.as_numpy_iterator(), num_classes, size)

    parts = {
        "train": part("train", SAMPLE_SIZES["train"] - SAMPLE_VALIDATION_SIZE)
        + part("validation", SAMPLE_VALIDATION_SIZE),
        "test": part("test", SAMPLE_SIZES["test"]),
    }
    paths = []
    for key, examples in parts.items():
        paths.append(sample_path(name, key, folder))
        sources.write_examples(paths[-1], examples)
        logging.info("%s: %d images, %d bytes", paths[-1], len(examples), paths[-1].stat().st_size)
    return paths


def define_flags():
    """Defines the command line."""
    flags.DEFINE_string("data_dir", None, "TFDS directory of the full sets (default: TFDS's own).")
    flags.DEFINE_string("folder", None, "Folder to write to (default: the package's).")
    flags.DEFINE_multi_enum("dataset", vocabulary.DATASETS, vocabulary.DATASETS, "Data sets.")


def main(argv):
    """Writes the sample of every data set asked for."""
    if len(argv) > 1:
        raise app.UsageError(f"Unknown arguments: {argv[1:]}")
    for name in flags.FLAGS.dataset:
        make_sample(name, flags.FLAGS.data_dir, flags.FLAGS.folder)


if __name__ == "__main__":
    define_flags()
    app.run(main)
