"""The server: what its bodies are answered with, and that no body kills it."""

import base64
import json
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from benchmarks._server import serving
from tfpurify.serving import saved_model
from tfpurify.serving.bundle import Bundle
from trainers.serve import serve

ROOT = Path(saved_model.__file__).parents[2]
SHAPE = (4, 4, 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two versions of a bundle; the second is the one to be served."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input(SHAPE), keras.layers.Flatten(), keras.layers.Dense(10, name="logits")]
    )
    folder = tmp_path_factory.mktemp("bundles") / "tiny"
    saved_model.export_classifier(model, folder)
    model.layers[-1].kernel.assign(2.0 * model.layers[-1].kernel)
    saved_model.export_classifier(model, folder)
    return folder


@pytest.fixture(scope="module")
def bundle(folder):
    return Bundle(folder)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).uniform(size=(3, *SHAPE)).astype("float32")


def test_instances_and_inputs_are_answered_like_the_graph(folder, bundle, images):
    assert bundle.folder.name == "2"
    loaded = tf.saved_model.load(str(folder / "2"))
    expected = loaded.signatures["serving_default"](images=tf.constant(images))["logits"]
    named = [{"images": image} for image in images.tolist()]
    for instances in (images.tolist(), named):
        rows = bundle.answer({"instances": instances})["predictions"]
        np.testing.assert_allclose([row["logits"] for row in rows], expected, atol=1e-6)
    for inputs in (images.tolist(), {"images": images.tolist()}):
        columns = bundle.answer(json.dumps({"inputs": inputs}).encode())["outputs"]
        np.testing.assert_allclose(columns["logits"], expected, atol=1e-6)
    assert columns["error"] == [""] * 3


def test_files_come_as_base64_and_a_wrong_one_has_its_error(bundle, images):
    png = tf.io.encode_png((255 * images[0]).astype("uint8")).numpy()
    instances = [{"b64": base64.b64encode(data).decode()} for data in (png, b"junk")]
    body = {"signature_name": "serve_image_bytes", "instances": instances}
    right, wrong = bundle.answer(body)["predictions"]
    assert right["error"] == "" and right["label"] in range(10)
    assert wrong["error"].startswith("image_bytes must be") and wrong["label"] == -1


def test_a_nan_has_its_error_and_the_answer_is_json(bundle, images):
    body = json.dumps({"instances": [images[0].tolist(), (np.nan * images[1]).tolist()]}).encode()
    answer = bundle.answer(body)
    assert [row["label"] >= 0 for row in answer["predictions"]] == [True, False]
    json.dumps(answer, allow_nan=False)


WRONG_BODIES = [
    b"",
    b"x",
    b"[" * 100_000,
    b"null",
    b"[]",
    b"{}",
    b'{"instances": []}',
    b'{"instances": 1}',
    b'{"instances": [1]}',
    b'{"instances": [[[[1]]], [[[1, 2]]]]}',
    b'{"instances": [{"images": 1}, 2]}',
    b'{"instances": [{"pictures": 1}]}',
    b'{"instances": [[[["a"]]]]}',
    b'{"instances": [1], "inputs": [1]}',
    b'{"inputs": {"images": "x"}}',
    b'{"inputs": {"pictures": [1]}}',
    b'{"signature_name": "none", "instances": [1]}',
    b'{"signature_name": ["serving_default"], "instances": [1]}',
    b'{"signature_name": "serve_image_bytes", "instances": ["text"]}',
    b'{"signature_name": "serve_image_bytes", "instances": [{"b64": "???"}]}',
    b'{"signature_name": "serve_image_bytes", "instances": [{"b64": 3}]}',
    json.dumps(
        {"signature_name": "serve_uint8", "inputs": np.full((1, *SHAPE), 256).tolist()}
    ).encode(),
    json.dumps(
        {"signature_name": "serve_uint8", "inputs": np.full((1, *SHAPE), 0.5).tolist()}
    ).encode(),
]


@pytest.mark.parametrize("body", WRONG_BODIES, ids=lambda body: body[:60].decode())
def test_what_is_no_request_is_refused(bundle, body):
    with pytest.raises(ValueError, match="must|Received"):
        bundle.answer(body)


def test_no_bundle_is_refused(tmp_path):
    with pytest.raises(ValueError, match="`bundle` must be a SavedModel"):
        Bundle(tmp_path)


@pytest.mark.parametrize("name", ["saved_model.pb", "variables/variables.data-00000-of-00001"])
def test_a_cut_bundle_is_refused(folder, tmp_path, name):
    damaged = shutil.copytree(folder / "2", tmp_path / "2")
    part = damaged / name
    part.write_bytes(part.read_bytes()[:50])
    with pytest.raises(ValueError, match="`bundle` must be a whole SavedModel. Received: .*2"):
        Bundle(damaged)


_FLIPPED = """
import sys
from pathlib import Path
import numpy as np
from tfpurify.serving.bundle import Bundle
rng, path = np.random.default_rng(0), Path(sys.argv[1]) / "saved_model.pb"
whole = path.read_bytes()
for index, place in enumerate(rng.integers(0, len(whole), 20)):
    data = bytearray(whole)
    data[place] ^= 1 << rng.integers(0, 8)
    if index < int(sys.argv[2]):
        continue
    print(index, flush=True)
    path.write_bytes(data)
    try:
        Bundle(path.parent)
    except ValueError as error:
        assert str(error).startswith("`bundle` must be a whole SavedModel"), error
        print("refused", flush=True)
"""


def test_a_flipped_bit_in_a_graph_is_refused_in_words_if_it_is_seen(folder, tmp_path):
    damaged = shutil.copytree(folder / "2", tmp_path / "2")
    whole, refused, start = (folder / "2" / "saved_model.pb").read_bytes(), 0, 0
    # In processes of their own: a graph that parses and makes no sense can abort TensorFlow.
    while start < 20:
        (damaged / "saved_model.pb").write_bytes(whole)
        arguments = [sys.executable, "-c", _FLIPPED, str(damaged), str(start)]
        finished = subprocess.run(arguments, check=False, capture_output=True, text=True, cwd=ROOT)
        assert finished.returncode <= 0, finished.stderr  # an error of Python's is ours
        words = finished.stdout.split()
        refused += words.count("refused")
        start = 1 + int([word for word in words if word != "refused"][-1])
    assert refused > 0


def test_a_port_that_is_taken_is_refused(folder):
    options = {"bundle": folder, "model_name": None}
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        with pytest.raises(OSError, match="`port` must be free"):
            serve({**options, "port": taken.getsockname()[1]})


def ask(url, body=None):
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body), timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


@pytest.fixture
def server(folder):
    with serving(folder) as port:
        yield f"http://127.0.0.1:{port}"


def test_a_server_answers_and_no_body_kills_it(server, folder, images):
    predict = f"{server}/v1/models/tiny:predict"
    for body in WRONG_BODIES:
        status, answer = ask(predict, body)
        assert status == 400 and answer["error"]
    assert ask(f"{server}/v1/models/nobody:predict", b"{}")[0] == 404
    status, answer = ask(predict, json.dumps({"instances": images.tolist()}).encode())
    assert status == 200 and len(answer["predictions"]) == 3
    assert ask(f"{server}/v1/models/tiny") == (200, {"name": "tiny", "ready": True})
    assert ask(f"{server}/v2/models/tiny")[1]["inputs"] == [
        {"name": "images", "datatype": "FLOAT32", "shape": [-1, *SHAPE]}
    ]
    log = (folder / "server.log").read_text(encoding="utf-8")
    assert log.count("Traceback") == 0, log
    assert log.count("Refused: ") == len(WRONG_BODIES) + 1
