"""Malformed inputs, generated, and what must become of them.

Each function feeds so many inputs to one entrance and counts what was answered and what refused.
It raises AssertionError at an answer that is wrong, and whatever else than a refusal comes out.
"""

import base64
import collections
import io
import json
import zlib

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from benchmarks import _server

_DTYPES = ("float32", "float32", "float32", "float64", "float16", "int32", "uint8", "bool")
_FLOATS = st.floats(width=32) | st.sampled_from([-1e-3, 0.0, 0.5, 1.0, 1.001, 255.0])
_KEYS = st.sampled_from(["instances", "inputs", "signature_name", "images", "b64"])
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda one: st.lists(one, max_size=3) | st.dictionaries(_KEYS | st.text(max_size=8), one),
    max_leaves=8,
)


def call_models(models, images, count):
    """Calls `models`, images -> array, with arrays of all shapes, types and values.

    Keras casts float16 and float64 to its own precision, so these may be answered or refused.

    Args:
        models: Dictionary of name -> callable that takes float32 `(batch, H, W, C)` in [0, 1].
        images: Such images, to be answered for whatever was asked before.
        count: Inputs for each model.
    """
    expected = {name: np.asarray(model(images)) for name, model in models.items()}
    counts = collections.Counter()

    @examples(count)
    @given(_arrays(images))
    def check(array):
        is_right = _are_images(array, images.shape[1:])
        for name, model in models.items():
            try:
                answer = np.asarray(model(array))
            except (TypeError, ValueError):
                assert not is_right, f"{name} refused images"
                counts["refused"] += 1
            else:
                with np.errstate(over="ignore"):
                    is_cast = _are_images(array.astype(np.float32), images.shape[1:])
                is_answerable = is_right or (array.dtype.kind == "f" and is_cast)
                assert is_answerable, f"{name} answered {array.dtype} {array.shape}"
                assert np.all(np.isfinite(answer)), f"{name} answered NaN"
                counts["answered"] += 1

    check()
    for name, model in models.items():
        np.testing.assert_array_equal(model(images), expected[name], err_msg=name)
    return dict(counts)


def _arrays(images):
    shape = images.shape[1:]
    shapes = st.just((1, *shape)) | hnp.array_shapes(min_dims=0, max_dims=5, max_side=4)
    arrays = st.tuples(st.sampled_from(_DTYPES), shapes).flatmap(
        lambda pair: hnp.arrays(
            pair[0], pair[1], elements=None if pair[0] != "float32" else _FLOATS
        )
    )
    return arrays | st.builds(_spoiled, st.just(images), _FLOATS, st.integers(0, 10_000))


def _spoiled(images, value, place):
    """Returns an image of which one pixel has another value."""
    array = images[:1].copy()
    array.reshape(-1)[place % array.size] = value
    return array


def _are_images(array, shape):
    return (
        array.dtype == np.float32
        and array.ndim == 4
        and array.shape[1:] == shape
        and len(array) > 0
        and bool(np.all((array >= 0) & (array <= 1)))
    )


def decode_files(image_shape, count):
    """Decodes image files that are cut, flipped or of another kind, as `serve_image_bytes` does.

    Args:
        image_shape: `(height, width, channels)` of the bundle.
        count: Files.
    """
    import tensorflow as tf

    from tfpurify.serving.decoding import decode_images

    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, image_shape, dtype=np.uint8)
    files = {"png": tf.io.encode_png(pixels), "jpeg": tf.io.encode_jpeg(pixels)}
    files = {kind: data.numpy() for kind, data in files.items()}
    files["foreign"] = _png_after_a_foreign_chunk(5000, image_shape)
    files["gif"] = _gif(5000, b"\0\0\0 \0\0\0 ")  # more pixels than may be, as 32 x 32
    decode = tf.function(lambda data: decode_images(data, image_shape))
    right = {kind: decode(tf.constant([data]))[0].numpy() for kind, data in files.items()}
    counts = collections.Counter()

    @examples(count)
    @given(st.sampled_from(sorted(files)), st.sampled_from(["no", "cut", "flip"]), st.integers(0))
    def check(kind, change, place):
        data = bytearray(files[kind])
        if change == "cut":
            data = data[: place % len(data)]
        elif change == "flip":
            data[place // 8 % len(data)] ^= 1 << place % 8
        images, _, errors = decode(tf.constant([bytes(data)]))
        is_refused = bool(errors.numpy()[0])
        counts["refused" if is_refused else "answered"] += 1
        if kind in ("gif", "foreign") or change == "cut":
            assert is_refused, f"{kind}, {change} at {place}, was decoded"
        elif change == "no":
            assert not is_refused, f"{kind} was refused"
        elif kind == "png" and not is_refused:  # a JPEG has no checksum
            np.testing.assert_array_equal(images, right[kind])

    check()
    return dict(counts)


def _png_after_a_foreign_chunk(size, image_shape):
    """Returns a PNG of `size` x `size` pixels after a chunk of another size, which readers skip."""
    pixels = np.zeros((size, size), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels, "L").save(buffer, "PNG")
    data = buffer.getvalue()
    chunk = b"prVt" + b"".join(side.to_bytes(4, "big") for side in image_shape[:2])
    chunk = (8).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
    return data[:8] + chunk + data[8:]


def _gif(size, header):
    """Returns a GIF of `size` x `size` pixels with the caller's bytes where a PNG has its size."""
    pixels = np.broadcast_to(np.arange(size, dtype=np.uint8), (size, size))
    image = Image.fromarray(pixels, "L").convert("P")
    buffer = io.BytesIO()
    image.save(buffer, "GIF", optimize=False)
    data = bytearray(buffer.getvalue())
    data[16 : 16 + len(header)] = header  # of the palette, which begins at 13
    return bytes(data)


def ask_server(port, name, images, labels, count):
    """Posts bodies to a server; half of them no JSON request, half with images that are wrong.

    Args:
        port: Of the server on loopback.
        name: Of the model.
        images: `(n, H, W, C)`, float32, of whole 255ths in [0, 1].
        labels: What the server's graph says of them, `(n,)`.
        count: Bodies.
    """
    counts = collections.Counter()
    wrong = st.sampled_from(["none", "nan", "range", "text", "shape", "b64"])
    rows = st.lists(st.tuples(st.integers(0, len(images) - 1), wrong), min_size=1, max_size=4)

    @examples(count - count // 2)
    @given(rows, st.sampled_from(["serving_default", "serve_uint8"]))
    def check_images(rows, signature):
        is_uint8 = signature == "serve_uint8"
        instances = [_instance(images[index], kind, is_uint8) for index, kind in rows]
        body = json.dumps({"signature_name": signature, "instances": instances}).encode()
        status, answer = _server.post(port, name, body)
        answered = ("none",) if is_uint8 else ("none", "range")
        if any(kind not in answered for _, kind in rows):
            assert status == 400, f"{signature}, {rows} got {status}"
            counts["refused"] += 1
            return
        assert status == 200, f"{signature}, {rows} got {status}: {answer}"
        for (index, kind), row in zip(rows, answer["predictions"], strict=True):
            assert row["label"] == (labels[index] if kind == "none" else -1)
            assert bool(row["error"]) == (kind != "none")
        counts["answered"] += 1

    @examples(count // 2)
    @given(_JSON.map(lambda body: json.dumps(body).encode()) | st.binary(max_size=64))
    def check_bodies(body):
        status, _ = _server.post(port, name, body)
        assert 400 <= status < 500, f"{body} got {status}"
        counts["refused"] += 1

    check_images()
    check_bodies()
    status, answer = _server.post(port, name, json.dumps({"instances": images.tolist()}).encode())
    assert status == 200, "the server does not answer any more"
    assert [row["label"] for row in answer["predictions"]] == list(labels)
    return dict(counts)


def _instance(image, kind, is_uint8):
    image = np.rint(255.0 * image).astype(np.int64) if is_uint8 else image.copy()
    if kind == "nan":
        image = image.astype(np.float32)
        image[0, 0, 0] = np.nan  # Python writes it into JSON, which has no NaN
    elif kind == "range":
        image[0, 0, 0] = 256 if is_uint8 else 1.5
    elif kind == "text":
        return [[["a"]]]
    elif kind == "shape":
        image = image[1:]
    elif kind == "b64":
        return {"b64": base64.b64encode(image.tobytes()).decode()}
    return image.tolist()


def examples(count):
    return settings(
        max_examples=count,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
