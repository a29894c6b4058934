"""A folder of images: one subfolder a class, perhaps within `train/` and `test/`."""

import functools

import numpy as np
from absl import logging

from tfpurify.data.resizing import resized
from tfpurify.files import digest

_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif")
_GREY = ("1", "L", "LA", "I", "I;16", "F")
_MOST_REFUSED = 0.05  # of the files
_SHOWN = 5
_TEST_FOLDERS = ("test", "validation", "val")  # the first that is there


class ImageFolder:
    """Reads PNG, JPEG, BMP and the first frame of GIF, as Keras's reader of folders does.

    Grey or colour is decided once for all: colour, if any image is. What the camera says of how it
    was held (EXIF) is followed. A file that is no image is named and left out.

    Args:
        path: The folder.
        size: `(height, width)` to which images are resized, or None.

    Raises:
        ValueError: If there are no images in subfolders, their sizes differ and `size` is None, or
            more than 5 % of the files are no images.
    """

    source = "own"

    def __init__(self, path, size=None):
        self.path, self.size = path, size
        self.parts = {"": path}
        if (path / "train").is_dir():
            self.parts = {"train": path / "train"}
            found = [path / name for name in _TEST_FOLDERS if (path / name).is_dir()]
            if found:
                logging.info("The test images are those of %s", found[0])
                self.parts["test"] = found[0]
        first = next(iter(self.parts.values()))
        self.class_names = _subfolders(first)
        for part in self.parts.values():
            unknown = sorted(set(_subfolders(part)) - set(self.class_names))
            if unknown:
                raise ValueError(
                    f"`dataset` must have the same classes in all splits. Received: {unknown} in "
                    f"{part} alone"
                )
        self.files = {name: self._files(part) for name, part in self.parts.items()}
        self.image_shape = self._image_shape()

    def _files(self, part):
        """Returns `(path, label)` of what looks like an image, class by class."""
        found = [
            (file, label)
            for label, name in enumerate(self.class_names)
            for file in sorted((part / name).rglob("*"))
            if file.is_file() and not file.name.startswith(".")
        ]
        if not found:
            raise ValueError(
                "`dataset` must be a folder with one subfolder of images a class. "
                f"Received: {part} with {self.class_names or 'no subfolder'}"
            )
        return found

    def _image_shape(self):
        """Looks at every file's head; leaves out what is no image."""
        from PIL import Image, ImageOps

        heads, refused = {}, []
        for files in self.files.values():
            for file, _ in files:
                try:
                    with Image.open(file) as image:
                        if file.suffix.lower() not in _SUFFIXES:
                            raise ValueError(f"a {image.format} file")
                        turned = ImageOps.exif_transpose(image).size if image.getexif() else None
                        heads[file] = (*(turned or image.size), image.mode)
                        image.load()
                except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
                    refused.append((file, " ".join(str(error).split())[:100]))
        count = len(heads) + len(refused)
        for file, reason in refused[:_SHOWN]:
            logging.warning("%s is left out, it is no image: %s", file, reason)
        if len(refused) > _MOST_REFUSED * count:
            raise ValueError(
                f"`dataset` must be a folder of PNG, JPEG, BMP or GIF files. Received: "
                f"{len(refused)} of {count} files in {self.path} are none, as "
                f"{refused[0][0].name} ({refused[0][1]})"
            )
        sizes = {head[:2] for head in heads.values()}
        if len(sizes) > 1 and self.size is None:
            (one, other), names = sorted(sizes)[:: len(sizes) - 1], sorted(heads)
            raise ValueError(
                "`dataset` must have images of one size, or --image_size=HEIGHTxWIDTH resizes "
                f"them. Received: from {one[1]}x{one[0]} to {other[1]}x{other[0]} among "
                f"{len(names)} images"
            )
        self.files = {
            name: [(file, label) for file, label in files if file in heads]
            for name, files in self.files.items()
        }
        is_grey = all(mode in _GREY for _, _, mode in heads.values())
        logging.info("%s: %d %s images", self.path, len(heads), "grey" if is_grey else "colour")
        width, height = next(iter(sizes))
        return (*(self.size or (height, width)), 1 if is_grey else 3)

    def digest(self):
        """Returns the SHA-256 of the folder: of its files and their names."""
        return digest(self.path)

    @functools.cache  # noqa: B019 (one for each folder, and a program has one folder)
    def read(self):
        """Returns `train` and, if there is one, `test`: uint8 images and labels of each."""
        parts = {name or "train": self._read(files) for name, files in self.files.items()}
        return {"test": None, **parts}

    def _read(self, files):
        images = np.stack([self._decode(file) for file, _ in files])
        return images, np.array([label for _, label in files], np.int64)

    def _decode(self, file):
        from PIL import Image, ImageOps

        height, width, channels = self.image_shape
        with Image.open(file) as found:
            image = ImageOps.exif_transpose(found)
        if image.mode in ("I;16", "I"):  # PIL clips 16 bits instead of scaling them
            image = Image.fromarray((np.asarray(image, np.float64) / 257.0).astype(np.uint8))
        image = image.convert(
            "L" if channels == 1 else "RGB"
        )  # what is transparent keeps its colour
        pixels = np.asarray(image, np.uint8).reshape(1, *image.size[::-1], channels)
        return resized(pixels, (height, width))[0]


def _subfolders(path):
    return sorted(e.name for e in path.iterdir() if e.is_dir() and not e.name.startswith("."))
