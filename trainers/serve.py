"""Serves an exported bundle over REST: `python -m trainers.serve --bundle=saved_models/NAME`.

KServe's server (extra `serve`) on one SavedModel, with TensorFlow Serving's v1 bodies:

    POST /v1/models/NAME:predict   {"instances": [...]} or {"inputs": ...}, "signature_name"
    GET  /v1/models/NAME           whether it is ready
    GET  /v2/models/NAME           its inputs and outputs
    GET  /v2/health/live           whether the server lives

A body that is no request is answered with 400. An image that is wrong has an `error` of its own.
"""

import asyncio
import base64
import binascii
import json
from pathlib import Path

from absl import flags, logging

from trainers import _flags

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


def define_flags():
    """Defines the flags and returns their names; only `main` calls this.

    KServe defines its own, with its own parser.
    """
    before = set(flags.FLAGS)
    flags.DEFINE_string("bundle", None, "Folder of a bundle or of one of its versions.")
    flags.DEFINE_string("model_name", None, "In the URL; the bundle's folder's if not given.")
    flags.DEFINE_integer("port", 8080, "HTTP port.", lower_bound=1, upper_bound=65535)
    flags.mark_flag_as_required("bundle")
    return set(flags.FLAGS) - before


def serve(options):
    """Serves a bundle until the process is told to stop.

    Args:
        options: The flags by name.

    Raises:
        ImportError: If KServe is not installed.
        OSError: If the port is not free.
        ValueError: If there is no bundle, or it is damaged.
    """
    import sys

    bundle = Bundle(options["bundle"])
    name = options["model_name"] or bundle.folder.parent.name
    arguments, sys.argv = sys.argv, sys.argv[:1]  # KServe parses them where it is imported
    try:
        model_type, server_type = _kserve()
    finally:
        sys.argv = arguments
    _require_free(options["port"])
    logging.info("Serving %s as %s on port %d", bundle.folder, name, options["port"])
    server = server_type(http_port=options["port"], enable_grpc=False, enable_latency_logging=False)
    server.start([model_type(name, bundle)])


def _require_free(port):
    import socket

    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
        try:
            probe.bind(("", port))
        except OSError as error:
            raise OSError(
                f"`port` must be free. Received: port={port} ({error.strerror})"
            ) from error


def _kserve():
    """Returns our model's class and KServe's server."""
    import logging as standard_logging

    try:
        import kserve
        from kserve.errors import InvalidInput, ModelNotFound
    except ImportError as error:
        raise ImportError(
            'Serving needs KServe: `pip install -e ".[serve]"`. Received: ' + str(error)
        ) from error

    class BundleModel(kserve.Model):
        """A bundle behind KServe's endpoints."""

        def __init__(self, name, bundle):
            super().__init__(name)
            self.bundle = bundle
            self.ready = True

        def validate(self, payload):
            return payload

        async def predict(self, payload, headers=None, response_headers=None):
            try:
                return await asyncio.to_thread(self.bundle.answer, payload)
            except ValueError as error:
                raise InvalidInput(str(error)) from error

        async def get_input_types(self):
            return _described(self.bundle.inputs())

        async def get_output_types(self):
            return _described(self.bundle.outputs())

    def without_trace(record):
        """Leaves what was wrong with a request, and not where that was found."""
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, (InvalidInput, ModelNotFound)):
            record.msg, record.args, record.exc_info = "Refused: %s", (error,), None
        return True

    standard_logging.getLogger("kserve").addFilter(without_trace)
    return BundleModel, kserve.ModelServer


def _described(specs):
    return [
        {
            "name": name,
            "datatype": "BYTES" if spec.dtype.name == "string" else spec.dtype.name.upper(),
            "shape": [-1 if size is None else size for size in spec.shape],
        }
        for name, spec in specs.items()
    ]


def main():
    """Runs the command line."""
    _flags.run_app(define_flags(), serve)


if __name__ == "__main__":
    main()
