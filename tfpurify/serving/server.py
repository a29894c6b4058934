"""KServe's server, the extra `serve`, on one bundle."""

import asyncio
import sys

from absl import logging

from tfpurify.serving.bundle import Bundle


def serve_bundle(folder, model_name, port):
    """Serves a bundle until the process is told to stop.

    Args:
        folder: Of the bundle or of one of its versions.
        model_name: In the URL; the bundle's folder's if None.
        port: HTTP port.

    Raises:
        ImportError: If KServe is not installed.
        OSError: If the port is not free.
        ValueError: If there is no bundle, or it is damaged.
    """
    bundle = Bundle(folder)
    name = model_name or bundle.folder.parent.name
    arguments, sys.argv = sys.argv, sys.argv[:1]  # KServe parses them where it is imported
    try:
        model_type, server_type = _kserve()
    finally:
        sys.argv = arguments
    _require_free(port)
    logging.info("Serving %s as %s on port %d", bundle.folder, name, port)
    server = server_type(http_port=port, enable_grpc=False, enable_latency_logging=False)
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
