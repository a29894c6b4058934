"""A SavedModel that answers TensorFlow Serving's REST bodies."""

import base64
import binascii
import json
from pathlib import Path

_DEFAULT_SIGNATURE = "serving_default"


class Bundle:
    """A SavedModel that answers TensorFlow Serving's REST bodies.

    Args:
        folder: A version's folder, or the one that holds the versions; the highest is served.

    Raises:
        ValueError: If there is no SavedModel, or it is damaged.
    """

    def __init__(self, folder):
        import tensorflow as tf

        self.folder = _version(Path(folder).absolute())
        damages = (LookupError, OSError, RuntimeError, TypeError, ValueError)
        try:
            self._loaded = tf.saved_model.load(str(self.folder))
        except (*damages, tf.errors.OpError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ValueError(
                f"`bundle` must be a whole SavedModel. Received: {self.folder} ({reason})"
            ) from error
        self.signatures = dict(self._loaded.signatures)

    def inputs(self, signature=_DEFAULT_SIGNATURE):
        """Returns a signature's inputs: name -> `TensorSpec`."""
        return self.signatures[signature].structured_input_signature[1]

    def outputs(self, signature=_DEFAULT_SIGNATURE):
        """Returns a signature's outputs: name -> `TensorSpec`."""
        return self.signatures[signature].structured_outputs

    def answer(self, body):
        """Returns the answer to a body: `predictions` to `instances`, `outputs` to `inputs`.

        Args:
            body: JSON, decoded or not. Bytes in it are `{"b64": "..."}`, as for TensorFlow Serving.

        Raises:
            ValueError: If the body is no request.
        """
        if isinstance(body, bytes):
            try:
                body = json.loads(body)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"The body must be JSON. Received: {error}") from error
        if not isinstance(body, dict) or ("instances" in body) == ("inputs" in body):
            raise ValueError("The body must be an object with either `instances` or `inputs`")
        name = body.get("signature_name", _DEFAULT_SIGNATURE)
        if not isinstance(name, str) or name not in self.signatures:
            known = sorted(self.signatures)
            raise ValueError(f"`signature_name` must be one of {known}. Received: {name!r}")
        if "instances" in body:
            outputs = self._call(name, _columns(body["instances"], self.inputs(name)))
            rows = zip(*outputs.values(), strict=True)
            return {"predictions": [dict(zip(outputs, row, strict=True)) for row in rows]}
        columns = body["inputs"]
        if not isinstance(columns, dict):
            columns = dict.fromkeys(self.inputs(name), columns)
        return {"outputs": self._call(name, columns)}

    def _call(self, name, columns):
        specs = self.inputs(name)
        if set(columns) != set(specs):
            raise ValueError(f"Inputs must be {sorted(specs)}. Received: {sorted(columns)}")
        tensors = {key: _tensor(key, value, specs[key]) for key, value in columns.items()}
        outputs = self.signatures[name](**tensors)
        return {key: _plain(value.numpy()) for key, value in outputs.items()}


def _version(folder):
    versions = [path for path in folder.glob("*") if path.name.isdecimal()]
    if not (folder / "saved_model.pb").exists() and versions:
        folder = max(versions, key=lambda path: int(path.name))
    if not (folder / "saved_model.pb").exists():
        raise ValueError(
            "`bundle` must be a SavedModel's folder or one of its versions: "
            f"`python -m trainers.export` writes one. Received: {folder}"
        )
    return folder


def _columns(instances, specs):
    """Returns the inputs, by name, of instances that are inputs alone or objects of them."""
    if not isinstance(instances, list) or not instances:
        raise ValueError("`instances` must be a list that is not empty")
    are_named = [isinstance(one, dict) and set(one) != {"b64"} for one in instances]
    if not any(are_named):
        return dict.fromkeys(specs, instances)
    if not all(are_named) or any(set(one) != set(specs) for one in instances):
        raise ValueError(f"`instances` must all be inputs or all be objects of {sorted(specs)}")
    return {name: [one[name] for one in instances] for name in specs}


def _tensor(name, value, spec):
    import numpy as np
    import tensorflow as tf

    if not isinstance(value, list) or not value:
        raise ValueError(f"`{name}` must be a list that is not empty")
    if spec.dtype == tf.string:
        return tf.constant([_bytes(name, one) for one in value])
    words = f"`{name}` must be {spec.dtype.name} of shape {list(spec.shape)}"
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{words}. Received: rows of several lengths") from error
    if array.dtype.kind not in "iuf" or not spec.shape.is_compatible_with(array.shape):
        raise ValueError(f"{words}. Received: {array.dtype.name} of shape {list(array.shape)}")
    kind = spec.dtype.as_numpy_dtype
    if np.issubdtype(kind, np.integer):
        bounds = np.iinfo(kind)
        is_right = array.dtype.kind in "iu" and bounds.min <= array.min()
        if not is_right or array.max() > bounds.max:
            raise ValueError(f"{words}. Received: values that are none")
    return tf.constant(array.astype(kind))


def _bytes(name, value):
    try:
        return base64.b64decode(value["b64"], validate=True)
    except (TypeError, KeyError, ValueError, binascii.Error) as error:
        raise ValueError(f'`{name}` must be objects {{"b64": "..."}}') from error


def _plain(array):
    """Returns an array as JSON has it."""
    if array.dtype == object:
        return [value.decode("utf-8", "replace") for value in array]
    return array.tolist()
