"""The shipped weights: saved small, verified by digest, loaded without running foreign code.

A zoo is a folder with one `.npz` file per model and a `manifest.json` that says what each file is,
how it was trained and which SHA-256 digest it must have.
"""

import hashlib
import json
import os
import re
import zipfile
from pathlib import Path

import keras
import numpy as np

import tfpurify
from tfpurify.files import write_aside
from tfpurify.models.storage import check_config, decode, encode, first_line
from tfpurify.provenance import versions

_METADATA_KEYS = ("kind", "dataset", "command", "seed", "validation")
_WRITTEN_KEYS = ("class_name", "file", "sha256", "bytes", "parameters", "storage", "versions")


def default_folder():
    """Returns the zoo's folder: `TFPURIFY_ZOO`, else `saved_models/zoo` of this repository."""
    configured = os.environ.get("TFPURIFY_ZOO")
    if configured:
        return Path(configured)
    return Path(tfpurify.__file__).resolve().parents[1] / "saved_models" / "zoo"


def available(folder=None):
    """Returns the sorted names of the models in the zoo; an empty list where there is no zoo.

    Args:
        folder: The zoo's folder. Defaults to `default_folder()`.

    Raises:
        ValueError: If `manifest.json` cannot be read.
    """
    return sorted(_read_manifest(_resolve(folder)))


def describe(name, folder=None):
    """Returns a model's entry in the manifest: digest, size, command, seed, versions, validation.

    Args:
        name: A name that `list_presets()` lists.
        folder: The zoo's folder. Defaults to `default_folder()`.

    Raises:
        ValueError: If the zoo has no such model, or `manifest.json` cannot be read.
    """
    folder = _resolve(folder)
    models = _read_manifest(folder)
    if name not in models:
        listed = ", ".join(sorted(models)) or "nothing"
        raise ValueError(
            f"`name` must be a model of the zoo {folder}, which holds: {listed}. "
            f"Received: name={name!r}"
        )
    return models[name]


def list_presets(folder=None):
    """Returns what the zoo holds: a dictionary of name -> card, sorted by name.

    A card is the manifest's entry: `class_name`, `dataset`, `command`, `seed`, `validation`,
    `file`, `sha256`, `bytes`, `parameters`, `storage`, `versions`, and what its trainer added.

    Args:
        folder: The zoo's folder. Defaults to `default_folder()`.

    Raises:
        ValueError: If `manifest.json` cannot be read.
    """
    return dict(sorted(_read_manifest(_resolve(folder)).items()))


def load_preset(name, folder=None):
    """Rebuilds any model of the zoo as the class it was saved as, with its weights in float32.

    What comes back is what is stored: of a prior (`dcgan_mnist`) the whole `DCGAN`, in front of
    which `DefenseGAN.from_preset` puts its projector.

    The digest is verified before anything in the file is read, and the configuration may name only
    Keras's and tfpurify's own classes: a file from elsewhere cannot bring code with it.

    Args:
        name: A name that `list_presets()` lists.
        folder: The zoo's folder. Defaults to `default_folder()`.

    Returns:
        The built, uncompiled Keras model.

    Raises:
        ValueError: If the zoo has no such model; if its file is missing, truncated or not the one
            that the manifest names; or if it does not fit the model that this code builds.
    """
    folder = _resolve(folder)
    entry = describe(name, folder)
    path = folder / entry["file"]
    advice = f"Get it back with `git checkout -- {path}`"
    if entry.get("command"):
        advice += f" or train it again with `{entry['command']}`"
    try:
        blob = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}). {advice}.") from error
    found = hashlib.sha256(blob).hexdigest()
    if found != entry["sha256"]:
        raise ValueError(
            f"{path} must have sha256 {entry['sha256']} ({entry['bytes']} bytes). "
            f"Received: {found} ({len(blob)} bytes). {advice}."
        )
    model = decode(blob, path)
    model.source_file = str(path)  # what `models.base.reference_to` says of it
    return model


def load_model(path, compile=True):
    """Loads a public model's `.keras` file in a process that has not imported its class.

    Args:
        path: A file that `model.save` wrote.
        compile: Whether to restore optimizers and their state too.

    Raises:
        ValueError: If the file is damaged, or names a class that is neither Keras's nor ours.
        OSError: If there is no such file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read("config.json"))
            damaged = archive.testzip()
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise ValueError(f"{path} must be a whole .keras file: {first_line(error)}") from error
    if damaged is not None:
        raise ValueError(f"{path} must be a whole .keras file. Received: {damaged} is damaged")
    check_config(config, path)
    try:
        model = keras.saving.load_model(path, compile=compile, safe_mode=True)
        model.source_file = str(path)
        return model
    except Exception as error:
        raise ValueError(f"{path} must be a whole .keras file: {first_line(error)}") from error


def save(model, name, folder=None, **metadata):
    """Adds a model to the zoo, or replaces it there.

    Only the configuration and `model.weights` are stored (the statistics of batch normalisation
    included), never optimizer or metric state. Kernels of `storage.INT8_MIN_SIZE` elements or more
    become int8 with one scale per entry of the last axis, everything else float16. What was written
    is rebuilt once before it is published, so that an incomplete `get_config` shows here.

    Args:
        model: A built Keras model of a registered class. One that holds a frozen classifier or
            target is given without it.
        name: Lower-case letters, digits, "_" and "-": the file becomes `NAME.npz`.
        folder: The zoo's folder, made if missing. Defaults to `default_folder()`.
        **metadata: For the manifest: `kind`, `dataset`, `command`, `seed`, `validation`, and
            anything else that JSON can hold.

    Returns:
        The manifest entry.

    Raises:
        ValueError: If the name or the metadata is unfit, the model is not built, cannot be rebuilt
            from its configuration, or holds a weight that is not finite.
        OSError: If the folder cannot be written.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name):
        raise ValueError(f"`name` must match [a-z0-9][a-z0-9_-]*. Received: name={name!r}")
    reserved = sorted(set(metadata) & set(_WRITTEN_KEYS))
    if reserved:
        raise ValueError(f"`metadata` must leave {', '.join(reserved)} to the zoo.")
    if not model.built:
        raise ValueError(f"`model` must be built. Received: model={model.name!r}")
    folder = _resolve(folder)
    path = folder / f"{name}.npz"
    blob, storage = encode(model)
    decode(blob, path)
    entry = {
        **dict.fromkeys(_METADATA_KEYS),
        **metadata,
        "class_name": type(model).__name__,
        "file": path.name,
        "sha256": hashlib.sha256(blob).hexdigest(),
        "bytes": len(blob),
        "parameters": sum(int(np.prod(weight.shape)) for weight in model.weights),
        "storage": storage,
        "versions": versions(),
    }
    manifest = {"models": {**_read_manifest(folder), name: entry}}
    text = json.dumps(manifest, indent=2, sort_keys=True, allow_nan=False) + "\n"
    _write(path, blob)
    _write(folder / "manifest.json", text)
    return entry


def _resolve(folder):
    return default_folder() if folder is None else Path(folder)


def _read_manifest(folder):
    path = folder / "manifest.json"
    try:
        models = json.loads(path.read_text(encoding="utf-8"))["models"]
        for name, entry in models.items():
            if Path(entry["file"]).name != entry["file"] or not entry["sha256"]:
                raise ValueError(f"the entry {name!r} must name a file of this folder")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} must be a JSON object with the key 'models'. Received: {first_line(error)}. "
            f"Get it back with `git checkout -- {path}`."
        ) from error
    return models


def _write(path, content):
    try:
        write_aside(path, content)
    except OSError as error:
        raise OSError(
            f"`folder` must be a writable folder. Received: folder={path.parent} ({error.strerror})"
        ) from error
