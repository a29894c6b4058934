"""A server in a process of its own, on a free port of loopback."""

import contextlib
import http.client
import json
import socket
import subprocess
import sys
import time

_START_SECONDS = 120


@contextlib.contextmanager
def serving(bundle):
    """Serves a bundle with `trainers.serve`; gives its port.

    Args:
        bundle: The folder that holds the versions; `server.log` is written into it.

    Raises:
        RuntimeError: If the server does not start; with its log.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    path = bundle / "server.log"
    command = [sys.executable, "-m", "trainers.serve", f"--bundle={bundle}", f"--port={port}"]
    with open(path, "w", encoding="utf-8") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        _wait_for(process, port, path)
        yield port
        if process.poll() is not None:
            raise RuntimeError(f"The server has ended: {path.read_text(encoding='utf-8')}")
    finally:
        process.terminate()
        process.wait(timeout=60)


def _wait_for(process, port, log):
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except OSError:
            time.sleep(0.5)
        else:
            return
    raise RuntimeError(f"The server did not start: {log.read_text(encoding='utf-8')}")


def post(port, name, body):
    """Asks a server on loopback; returns the status and the answer, decoded.

    Args:
        port: Of the server.
        name: Of the model.
        body: Bytes.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        headers = {"content-type": "application/json"}
        connection.request("POST", f"/v1/models/{name}:predict", body, headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()
