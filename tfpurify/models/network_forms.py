"""The forms in which people have a network: Keras models, functions, files, SavedModels."""

import inspect
import json
import zipfile
from pathlib import Path

import keras
import tensorflow as tf

from tfpurify.models.storage import CODE_CARRIERS, first_line

# TensorFlow's operations that run Python or touch other files than a SavedModel's own.
_UNSAFE_OPERATIONS = ("PyFunc", "PyFuncStateless", "EagerPyFunc", "ReadFile", "WriteFile")
_TRUST = "Pass `trust=True` (--trust_classifier) if you trust where it comes from."


def load_network(path, trust=False):
    """Loads a network from a file or folder, in any form that TensorFlow reads.

    Args:
        path: A `.keras` or `.h5` file, or a SavedModel folder.
        trust: Whether code inside it may run.

    Raises:
        ValueError: If it is damaged, needs a class that nobody registered, or would run code.
        FileNotFoundError: If there is nothing.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(
            f"`classifier` must be a file or folder that exists. Received: {path}"
        )
    if path.is_dir():
        return _load_saved_model(path, trust)
    if path.suffix not in (".keras", ".h5", ".hdf5"):
        raise ValueError(
            "`classifier` must be a .keras or .h5 file or a SavedModel folder; ONNX and PyTorch "
            "files have to be converted first, because an attack needs TensorFlow's gradients. "
            f"Received: {path}"
        )
    if not trust:
        _require_no_code(path)
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=not trust)
    except Exception as error:
        raise ValueError(
            f"{path} cannot be loaded: {first_line(error)}. Classes of your own must be registered "
            "with keras.saving.register_keras_serializable and imported first, or the model "
            "exported as a SavedModel with model.export"
        ) from error


def _require_no_code(path):
    """Refuses a Keras file with layers that hold code; Keras's own safe mode may be off."""
    try:
        if path.suffix == ".keras":
            with zipfile.ZipFile(path) as archive:
                config = json.loads(archive.read("config.json"))
        else:
            import h5py

            with h5py.File(path) as file:
                config = json.loads(file.attrs["model_config"])
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} must be a whole Keras model file: {first_line(error)}") from error
    found = sorted(_class_names(config) & CODE_CARRIERS)
    if found:
        raise ValueError(f"{path} holds code ({', '.join(found)}) and is refused. {_TRUST}")


def _class_names(config):
    if isinstance(config, dict):
        own = {config["class_name"]} if isinstance(config.get("class_name"), str) else set()
        return own.union(*map(_class_names, config.values()))
    if isinstance(config, (list, tuple)):
        return set().union(*map(_class_names, config))
    return set()


def _load_saved_model(path, trust):
    from tensorflow.core.protobuf import saved_model_pb2

    try:
        found = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
    except Exception as error:  # protobuf's own, or the file system's
        raise ValueError(f"{path} must be a SavedModel folder: {first_line(error)}") from error
    graphs = [meta.graph_def for meta in found.meta_graphs]
    nodes = [node for graph in graphs for node in graph.node]
    nodes += [n for graph in graphs for one in graph.library.function for n in one.node_def]
    unsafe = sorted({node.op for node in nodes} & set(_UNSAFE_OPERATIONS))
    if unsafe and not trust:
        raise ValueError(f"{path} runs {', '.join(unsafe)} and is refused. {_TRUST}")
    return tf.saved_model.load(str(path))


def as_function(network):
    """Returns a network as a function of one batch of images, in inference mode.

    Args:
        network: A Keras model or layer, what `tf.saved_model.load` returned, or a callable of
            TensorFlow operations.

    Returns:
        `(function, image_shape, dtype)`: the shape and the dtype of its images, each None where it
        does not say.

    Raises:
        TypeError: If it is nothing of these.
        ValueError: If it takes more than one input.
    """
    if isinstance(network, keras.Layer):
        return (lambda images: network(images, training=False)), _shape_of(network), None
    signatures = getattr(network, "signatures", None)
    if signatures:
        return _signature_function(signatures)
    if not callable(network):
        raise TypeError(
            "`model` must be a Keras model, a file of one, a SavedModel or a callable of "
            f"TensorFlow operations. Received: {type(network).__name__}"
        )
    takes_training = "training" in _parameters(network)
    return (lambda x: network(x, training=False) if takes_training else network(x)), None, None


def _shape_of(network):
    """Returns the shape of a Keras model's images as it says, or None."""
    shape = getattr(network, "input_shape", None) if network.built else None
    image_shape = getattr(network, "image_shape", None) or (shape or (None,))[1:]
    is_whole = isinstance(image_shape, tuple) and len(image_shape) == 3 and None not in image_shape
    return tuple(image_shape) if is_whole else None


def _signature_function(signatures):
    name = "serving_default" if "serving_default" in signatures else next(iter(signatures))
    signature = signatures[name]
    inputs = signature.structured_input_signature[1]
    if len(inputs) != 1:
        raise ValueError(
            f"`model` must have one input, the images. Received: signature {name} with inputs "
            f"{sorted(inputs)}"
        )
    [(argument, spec)] = inputs.items()
    shape = spec.shape[1:].as_list() if spec.shape.rank == 4 else [None]
    image_shape = None if None in shape else tuple(shape)
    return (lambda images: signature(**{argument: images})), image_shape, spec.dtype


def _parameters(network):
    try:
        return inspect.signature(network).parameters
    except (TypeError, ValueError):
        return {}
