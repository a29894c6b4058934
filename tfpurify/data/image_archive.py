"""An `.npz` file of images: `x_train`, `y_train`, `x_test` and `y_test`."""

import zipfile

import numpy as np
from absl import logging

from tfpurify.data.resizing import resized
from tfpurify.files import digest

_KEYS = ("x_train", "y_train", "x_test", "y_test")


class ImageArchive:
    """Reads images as bytes, or as numbers in [0, 1] or [0, 255], which is said.

    Args:
        path: The file. Grey images may go without their channel; labels are integers from 0,
            `(n,)` or `(n, 1)`. Without `x_test` and `y_test` a share of the images is set aside.
        size: `(height, width)` to which images are resized, or None.

    Raises:
        ValueError: If an array is missing, or is no images or no labels.
    """

    source = "own"

    def __init__(self, path, size=None):
        self.path = path
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {key: file[key] for key in _KEYS if key in file.files}
                found = file.files
        except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(f"`dataset` must be an .npz file. Received: {path}: {error}") from None
        if set(arrays) not in ({*_KEYS}, {*_KEYS[:2]}):
            raise ValueError(
                f"`dataset` must be an .npz file of {', '.join(_KEYS)}. Received: {path} with "
                f"{sorted(found)}"
            )
        self._parts, scale = {"test": None}, self._scale(arrays)
        for part in ("train", "test"):
            if f"x_{part}" in arrays:
                images = _as_bytes(f"x_{part}", arrays[f"x_{part}"], scale)
                labels = self._labels(f"y_{part}", arrays[f"y_{part}"], len(images))
                self._parts[part] = resized(images, size), labels
        images, labels = self._parts["train"]
        shapes = {part[0].shape[1:] for part in self._parts.values() if part is not None}
        if len(shapes) > 1:
            raise ValueError(
                f"`dataset` must have images of one shape. Received: {sorted(shapes)} in {path}"
            )
        self.image_shape = images.shape[1:]
        count = 1 + max(int(part[1].max()) for part in self._parts.values() if part is not None)
        if count > len(labels):
            raise ValueError(
                f"`y_train` must be labels from 0 on, one for each class. Received: {count - 1} "
                f"among labels of {len(labels)} images"
            )
        self.class_names = tuple(map(str, range(count)))

    def read(self):
        """Returns `train` and, if there is one, `test`: uint8 images and labels of each."""
        return self._parts

    def digest(self):
        """Returns the SHA-256 of the file."""
        return digest(self.path)

    def _scale(self, arrays):
        """Returns what white is in images that are no bytes: 255, or 1 where they are in [0, 1]."""
        images = [array for key, array in arrays.items() if key.startswith("x_") and array.size]
        images = [array for array in images if array.dtype != np.uint8]
        if not images:
            return 255
        are_numbers = all(array.dtype.kind in "fiu" for array in images)
        low = min(float(np.min(array)) for array in images) if are_numbers else np.nan
        highest = [float(np.max(array)) for array in images] if are_numbers else [np.nan]
        high = max(highest)
        if not (low >= 0 and (high <= 1 or 128 <= high <= 255)):
            raise ValueError(
                "`x_train` and `x_test` must be uint8, or numbers in [0, 1] or [0, 255]. "
                f"Received: {images[0].dtype} in [{low:g}, {high:g}]"
            )
        if high > 1 and min(highest) <= 1:
            raise ValueError(
                "`x_train` and `x_test` must be on one scale. "
                f"Received: one up to {min(highest):g}, the other up to {high:g}"
            )
        scale = 1 if high <= 1 else 255
        logging.info("The images of %s are taken as numbers in [0, %d]", self.path, scale)
        return scale

    def _labels(self, key, labels, count):
        if labels.shape not in ((count,), (count, 1)) or labels.dtype.kind not in "iu":
            raise ValueError(
                f"`{key}` must be {count} integers, one for each image. "
                f"Received: {labels.dtype} of shape {labels.shape}"
            )
        labels = labels.reshape(-1).astype(np.int64)
        if labels.min() < 0:
            raise ValueError(f"`{key}` must count from 0. Received: {labels.min()}")
        return labels


def _as_bytes(key, images, scale):
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or not len(images) or images.shape[-1] not in (1, 3):
        raise ValueError(
            f"`{key}` must be (n, height, width) or (n, height, width, 1 or 3). "
            f"Received: shape {images.shape}"
        )
    if images.dtype == np.uint8:
        return images
    return np.rint(images.astype(np.float64) * (255 / scale)).astype(np.uint8)
