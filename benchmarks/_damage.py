"""Files that are damaged at random or hold code, and what loading them comes to."""

import json
import shutil
import zipfile

import keras
import numpy as np

from tfpurify import load_model
from tfpurify.models import zoo
from tfpurify.training.checkpoints import EpochCheckpoint

_ZOO_NAME = "encoder_dcgan_mnist"


def damage(path, rng):
    """Cuts a file at a random place or flips one random bit of it."""
    content = bytearray(path.read_bytes())
    if rng.random() < 0.5:
        content = content[: rng.randrange(len(content))]
    else:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def checkpoints(run, rng, count):
    """Damages the last checkpoint of a finished run: the one before has to be used.

    Args:
        run: The run's folder.
        rng: `random.Random`.
        count: Damaged copies.
    """
    model = load_model(run / "model.keras")
    last = EpochCheckpoint(run / "checkpoints").last_epoch()
    counts = {"fell_back": 0, "wrong": 0}
    for _ in range(count):
        copy = run / "copy"
        shutil.copytree(run / "checkpoints", copy)
        damage(max(copy.glob("epoch-*")), rng)
        is_right = EpochCheckpoint(copy).restore(model) == last - 1
        counts["fell_back" if is_right else "wrong"] += 1
        shutil.rmtree(copy)
    return counts


def keras_files(run, rng, count):
    """Damages a run's `model.keras`: it has to be refused, or to hold what it held."""
    expected = [variable.numpy() for variable in load_model(run / "model.keras").variables]
    counts = {"refused": 0, "harmless": 0, "wrong": 0}
    for _ in range(count):
        path = run / "damaged.keras"
        shutil.copy(run / "model.keras", path)
        damage(path, rng)
        try:
            found = [variable.numpy() for variable in load_model(path).variables]
        except ValueError as error:
            counts["refused" if str(path) in str(error) else "wrong"] += 1
        else:  # a bit that nothing reads, of a date in the archive
            is_right = all(map(np.array_equal, found, expected))
            counts["harmless" if is_right else "wrong"] += 1
    return counts


def zoo_files(folder, rng, count):
    """Damages a file of the zoo: it has to be refused by name."""
    counts = {"refused": 0, "wrong": 0}
    for _ in range(count):
        copy = folder / "zoo"
        copy.mkdir()
        for name in ("manifest.json", f"{_ZOO_NAME}.npz"):
            shutil.copy(zoo.default_folder() / name, copy)
        damage(copy / f"{_ZOO_NAME}.npz", rng)
        try:
            zoo.load_preset(_ZOO_NAME, copy)
        except ValueError as error:
            counts["refused" if _ZOO_NAME in str(error) else "wrong"] += 1
        else:
            counts["wrong"] += 1
        shutil.rmtree(copy)
    return counts


def foreign_files(folder):
    """Loads `.keras` files that hold code, Keras's safe mode on or off: none may run."""
    marker, counts = folder / "ran", {"refused": 0, "wrong": 0}
    for index, layer in enumerate(_foreign_layers(marker)):
        path = folder / f"foreign{index}.keras"
        write_foreign(path, layer)
        for is_safe in (True, False):
            marker.unlink(missing_ok=True)
            with keras.src.saving.serialization_lib.SafeModeScope(is_safe):
                try:
                    load_model(path)
                except ValueError as error:
                    is_right = str(path) in str(error) and not marker.exists()
                else:
                    is_right = False
            counts["refused" if is_right else "wrong"] += 1
    return counts


def _foreign_layers(marker):
    """Yields the configurations of layers that would make a file when they are built or called."""
    run = keras.layers.Lambda(lambda x, path=str(marker): (open(path, "w").close(), x)[1])
    yield keras.saving.serialize_keras_object(run)
    for module, name in (("os", "system"), ("subprocess", "run"), ("keras.layers", "TFSMLayer")):
        config = {"args": [f"touch {marker}"], "filepath": str(marker)}
        yield {"module": module, "class_name": name, "config": config, "registered_name": name}


def write_foreign(path, layer):
    """Writes a `.keras` file of one layer.

    Args:
        path: Of the file.
        layer: The layer's configuration.
    """
    outer = {"module": "keras", "class_name": "Sequential", "config": {"layers": [layer]}}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps(outer))
        archive.writestr("metadata.json", json.dumps({"keras_version": keras.__version__}))
        archive.writestr("model.weights.h5", b"")
