"""How a model of the zoo is stored: its configuration and its weights, small, and no code.

What is read may name Keras's and tfpurify's own classes alone.
"""

import importlib
import io
import json
import re
import zipfile
import zlib

import keras
import numpy as np

INT8_MIN_SIZE = 200_000  # elements from which a kernel is stored as int8
_KERAS_MODULES = re.compile(
    r"builtins|keras(\.(activations|constraints|dtype_policies|initializers|layers|losses|metrics"
    r"|models|optimizers|optimizers\.schedules|random|regularizers|src\.models\.\w+))?"
)
# Where the modules stand now that older files name; the classes kept their registered names.
MOVED = {
    "tfpurify.classifiers": "tfpurify.models.classifiers",
    "tfpurify.layers": "tfpurify.models.layers",
    "tfpurify.optimizers": "tfpurify.models.optimizers",
    "tfpurify.purified_classifier": "tfpurify.purifiers.purified_classifier",
}
# Layers that hold Python code, or that read what they compute from another file.
CODE_CARRIERS = frozenset(
    {"__lambda__", "Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"}
)


def encode(model):
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


def decode(blob, path):
    """Rebuilds the model in a verified file's bytes; `path` is for the messages."""
    try:
        with np.load(io.BytesIO(blob), allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
        config = json.loads(arrays.pop("config").item())
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} must be a zoo file: {first_line(error)}") from error
    check_config(config, path)
    try:
        model = keras.saving.deserialize_keras_object(_portable(config), safe_mode=True)
        variables = model.weights
    except Exception as error:
        raise ValueError(
            f"{path} holds a configuration that this version cannot build: {first_line(error)}"
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


def check_config(config, path):
    """Refuses a configuration that could bring code; imports the tfpurify modules that it names.

    Keras's safe mode refuses lambdas too, but a process may have switched it off.
    """
    if isinstance(config, (list, tuple)):
        for item in config:
            check_config(item, path)
    if not isinstance(config, dict):
        return
    if "class_name" in config:
        class_name, module = config["class_name"], str(config.get("module") or "builtins")
        registered = keras.saving.get_registered_object(config.get("registered_name"))
        if re.fullmatch(r"tfpurify(\.\w+)*", module):
            _import_own(MOVED.get(module, module), path)
        elif not (_KERAS_MODULES.fullmatch(module) or registered):
            raise ValueError(f"{path} names a foreign class and is refused: {module}.{class_name}")
        if class_name in CODE_CARRIERS:
            raise ValueError(f"{path} may hold code and is refused: {module}.{class_name}")
    for item in config.values():
        check_config(item, path)


def _import_own(module, path):
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise ValueError(f"{path} needs {module}, which this version does not have") from error


def first_line(error):
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
