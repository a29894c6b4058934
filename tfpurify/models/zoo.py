"""The shipped weights: saved small, verified by digest, loaded without running foreign code.

A zoo is a folder with one `.npz` file per model and a `manifest.json` that says what each file is,
how it was trained and which SHA-256 digest it must have.
"""

import hashlib
import importlib
import io
import json
import os
import re
import zipfile
import zlib
from pathlib import Path

import keras
import numpy as np

import tfpurify
from tfpurify.files import write_aside
from tfpurify.provenance import versions

INT8_MIN_SIZE = 200_000  # elements from which a kernel is stored as int8

_METADATA_KEYS = ("kind", "dataset", "command", "seed", "validation")
_WRITTEN_KEYS = ("class_name", "file", "sha256", "bytes", "parameters", "storage", "versions")
_KERAS_MODULES = re.compile(
    r"builtins|keras(\.(activations|constraints|dtype_policies|initializers|layers|losses|metrics"
    r"|models|optimizers|optimizers\.schedules|random|regularizers|src\.models\.\w+))?"
)
# Layers that hold Python code, or that read what they compute from another file.
# Where the modules stand now that older files name; the classes kept their registered names.
_MOVED = {
    "tfpurify.classifiers": "tfpurify.models.classifiers",
    "tfpurify.layers": "tfpurify.models.layers",
    "tfpurify.optimizers": "tfpurify.models.optimizers",
    "tfpurify.purified_classifier": "tfpurify.purifiers.purified_classifier",
}
_CODE_CARRIERS = frozenset(
    {"__lambda__", "Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"}
)


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
    return _decode(blob, path)


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
        raise ValueError(f"{path} must be a whole .keras file: {_first_line(error)}") from error
    if damaged is not None:
        raise ValueError(f"{path} must be a whole .keras file. Received: {damaged} is damaged")
    _check_config(config, path)
    try:
        return keras.saving.load_model(path, compile=compile, safe_mode=True)
    except Exception as error:
        raise ValueError(f"{path} must be a whole .keras file: {_first_line(error)}") from error


def save(model, name, folder=None, **metadata):
    """Adds a model to the zoo, or replaces it there.

    Only the configuration and `model.weights` are stored (the statistics of batch normalisation
    included), never optimizer or metric state. Kernels of `INT8_MIN_SIZE` elements or more become
    int8 with one scale per entry of the last axis, everything else float16. What was written is
    rebuilt once before it is published, so that an incomplete `get_config` shows here.

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
    blob, storage = _encode(model)
    _decode(blob, path)
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
            f"{path} must be a JSON object with the key 'models'. Received: {_first_line(error)}. "
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


def _encode(model):
    """Returns the `.npz` file's bytes and how many variables it holds of each type."""
    config = _portable(keras.saving.serialize_keras_object(model))
    arrays = {"config": np.array(json.dumps(config).encode())}
    storage = {}
    for index, variable in enumerate(model.weights):
        value = variable.value.numpy()
        key = f"{index:04d}"
        if keras.backend.is_float_dtype(variable.dtype):
            value = value.astype(np.float32)
            if not np.all(np.isfinite(value)):
                raise ValueError(f"`model` must hold finite weights. Received: {variable.path}")
            if value.ndim > 1 and value.size >= INT8_MIN_SIZE:
                value, arrays[f"{key}_scale"] = _quantize(value)
            elif np.max(np.abs(value), initial=0.0) <= np.finfo(np.float16).max:
                value = value.astype(np.float16)
        arrays[key] = value
        storage[value.dtype.name] = storage.get(value.dtype.name, 0) + 1
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue(), storage


def _decode(blob, path):
    """Rebuilds the model in a verified file's bytes; `path` is for the messages."""
    try:
        with np.load(io.BytesIO(blob), allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
        config = json.loads(arrays.pop("config").item())
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} must be a zoo file: {_first_line(error)}") from error
    _check_config(config, path)
    try:
        model = keras.saving.deserialize_keras_object(_portable(config), safe_mode=True)
        variables = model.weights
    except Exception as error:
        raise ValueError(
            f"{path} holds a configuration that this version cannot build: {_first_line(error)}"
        ) from error
    scales = {key: arrays.pop(key) for key in sorted(arrays) if key.endswith("_scale")}
    if len(variables) != len(arrays):
        raise ValueError(
            f"{path} must hold the {len(variables)} variables of {model.name!r}. "
            f"Received: {len(arrays)} variables"
        )
    for variable, (key, value) in zip(variables, sorted(arrays.items()), strict=True):
        if tuple(variable.shape) != value.shape:
            raise ValueError(
                f"{path} must hold shape {tuple(variable.shape)} for {variable.path!r}. "
                f"Received: shape {value.shape}"
            )
        scale = scales.get(f"{key}_scale")
        variable.assign(value if scale is None else value.astype(np.float32) * scale)
    return model


def _quantize(value):
    """Returns int8 and its scale, max |value| / 127 over all axes but the last."""
    scale = np.max(np.abs(value), axis=tuple(range(value.ndim - 1))) / 127.0
    scale = np.where(scale > 0, scale, 1.0).astype(np.float32)
    return np.rint(value / scale).clip(-127, 127).astype(np.int8), scale


def _portable(config):
    """Drops what belongs to one training run: `compile` arguments and a reduced precision."""
    if isinstance(config, (list, tuple)):
        return [_portable(item) for item in config]
    if not isinstance(config, dict):
        return config
    if config.get("class_name") == "DTypePolicy":
        return {**config, "config": {"name": "float32"}}
    return {key: _portable(item) for key, item in config.items() if key != "compile_config"}


def _check_config(config, path):
    """Refuses a configuration that could bring code; imports the tfpurify modules that it names.

    Keras's safe mode refuses lambdas too, but a process may have switched it off.
    """
    if isinstance(config, (list, tuple)):
        for item in config:
            _check_config(item, path)
    if not isinstance(config, dict):
        return
    if "class_name" in config:
        class_name, module = config["class_name"], str(config.get("module") or "builtins")
        registered = keras.saving.get_registered_object(config.get("registered_name"))
        if re.fullmatch(r"tfpurify(\.\w+)*", module):
            _import_own(_MOVED.get(module, module), path)
        elif not (_KERAS_MODULES.fullmatch(module) or registered):
            raise ValueError(f"{path} names a foreign class and is refused: {module}.{class_name}")
        if class_name in _CODE_CARRIERS:
            raise ValueError(f"{path} may hold code and is refused: {module}.{class_name}")
    for item in config.values():
        _check_config(item, path)


def _import_own(module, path):
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise ValueError(f"{path} needs {module}, which this version does not have") from error


def _first_line(error):
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
