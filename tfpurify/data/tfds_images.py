"""Any data set of images with one label that TensorFlow Datasets knows."""

import numpy as np
import tensorflow as tf
from absl import logging

from tfpurify import vocabulary
from tfpurify.data import sources
from tfpurify.data.resizing import resize

_BATCH_SIZE = 1024
_HOST = "https://storage.googleapis.com/tfds-data"


class TFDSImages:
    """Reads a prepared data set, or has TFDS prepare it.

    The test split is TFDS's `test`, else its `validation`.

    Args:
        name: TFDS's name.
        size: `(height, width)` to which images are resized, or None.
        data_dir: TFDS directory; `TFDS_DATA_DIR` if None.

    Raises:
        ValueError: If TFDS does not know it, or it is no images with one label.
    """

    source = "tfds"

    def __init__(self, name, size=None, data_dir=None):
        import tensorflow_datasets as tfds

        self.name, self.size, self.data_dir = name, size, data_dir
        folder = sources.find_prepared(name, data_dir)
        try:
            if folder:
                builder = tfds.builder_from_directory(folder)
            else:
                builder = tfds.builder(name, data_dir=sources.tfds_root(data_dir))
        except Exception as error:  # TFDS has errors of its own for names that it does not know
            raise ValueError(
                f"`dataset` must be one of {list(vocabulary.DATASETS)}, a folder of images, an "
                f".npz file or TFDS's name of a data set. Received: {name} ({type(error).__name__})"
            ) from None
        features = builder.info.features
        image, label = (dict(features.items()).get(key) for key in ("image", "label"))
        if not isinstance(image, tfds.features.Image) or not isinstance(
            label, tfds.features.ClassLabel
        ):
            raise ValueError(
                "`dataset` must have images with one label. "
                f"Received: {name} with {sorted(features)}"
            )
        height, width, channels = image.shape
        if size is None and None in (height, width):
            raise ValueError(
                "`dataset` must have images of one size, or --image_size=HEIGHTxWIDTH resizes "
                f"them. Received: {name} of any size"
            )
        self.image_shape = (*(size or (height, width)), channels)
        self.class_names = tuple(label.names)
        self.version = str(builder.info.version)

    def digest(self):
        """Returns TFDS's version of the data set."""
        return self.version

    def read(self):
        """Returns `train` and, if there is one, `test`: uint8 images and labels of each.

        Raises:
            FileNotFoundError: If it is neither prepared nor can be downloaded.
        """
        import tensorflow_datasets as tfds

        root = sources.tfds_root(self.data_dir)
        if not sources.find_prepared(self.name, self.data_dir):
            reason = sources.download(self.name, _HOST, root)
            if reason:
                raise FileNotFoundError(
                    f"`dataset` must be prepared, or there must be a way to get it. Received: "
                    f"nothing of {self.name} in {root}, and {reason}"
                )
        builder = tfds.builder_from_directory(sources.find_prepared(self.name, self.data_dir))
        names = {
            "train": "train",
            "test": next(
                (name for name in ("test", "validation") if name in builder.info.splits), None
            ),
        }
        logging.info("%s comes from %s", self.name, builder.data_dir)
        return {key: name and self._read(builder, name) for key, name in names.items()}

    def _read(self, builder, split):
        def pick(example):
            image = example["image"]
            if self.size is not None:
                image = resize(image, self.size)
            return image, example["label"]

        examples = builder.as_dataset(split=split).map(pick, num_parallel_calls=tf.data.AUTOTUNE)
        batches = list(examples.batch(_BATCH_SIZE).as_numpy_iterator())
        return tuple(np.concatenate(parts) for parts in zip(*batches, strict=True))
