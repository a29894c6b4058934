"""What stands beside a bundle's graph: a card for people, requests for a server to warm up with."""

import tempfile
from pathlib import Path

import tensorflow as tf
from absl import logging

from tfpurify import provenance
from tfpurify.models import zoo

_CARD = "model_card.md"
_WARMUP = "assets.extra/tf_serving_warmup_requests"
_WARMUP_BATCHES = (1, 32)


def companion_files(name, parts, output_dir, image_shape, flag=None):
    """Returns what stands beside a bundle's graph: its card, and requests to warm up with.

    Args:
        name: The bundle's.
        parts: The `Part`s that it is made from.
        output_dir: Folder whose `runs/` go before the zoo.
        image_shape: `(height, width, channels)`.
        flag: A sentence on when `is_flagged` is true, or None if there is no flag.

    Returns:
        Pairs of a path within the version's folder and its content, bytes. Without the extra
        `serve` there are no requests.
    """
    files = [(_CARD, _card(name, parts, output_dir, flag))]
    try:
        warmup = _warmup_requests(name, image_shape)
    except ImportError as error:
        logging.warning('No %s: it needs `pip install -e ".[serve]"`. Received: %s', _WARMUP, error)
        return files
    return [*files, (_WARMUP, warmup)]


def _warmup_requests(name, image_shape):
    """Returns a TFRecord file of requests to each signature that serves, alone and in a batch."""
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

    image = tf.zeros(image_shape)
    file = tf.io.encode_png(tf.cast(image, tf.uint8))
    inputs = {
        "serving_default": ("images", image),
        "serve_uint8": ("images", tf.cast(image, tf.uint8)),
        "serve_image_bytes": ("image_bytes", file),
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "requests"
        with tf.io.TFRecordWriter(str(path)) as writer:
            for signature, (key, value) in inputs.items():
                for size in _WARMUP_BATCHES:
                    request = predict_pb2.PredictRequest()
                    request.model_spec.name = name
                    request.model_spec.signature_name = signature
                    batch = tf.stack([value] * size)
                    request.inputs[key].CopyFrom(tf.make_tensor_proto(batch.numpy()))
                    log = prediction_log_pb2.PredictLog(request=request)
                    entry = prediction_log_pb2.PredictionLog(predict_log=log)
                    writer.write(entry.SerializeToString())
        return path.read_bytes()


def _card(name, parts, output_dir, flag):
    """Returns the bundle's card, Markdown, with those of the zoo's models that are in it."""
    versions = ", ".join(f"{name} {value}" for name, value in provenance.versions().items())
    lines = [f"# {name}", "", "Made by:", "", f"    {provenance.command_line()}", ""]
    lines += [f"Versions: {versions}", "", "Parts:", ""]
    cards = []
    for part in (part.name for part in parts):
        is_run = (Path(output_dir) / "runs" / part / "model.keras").exists()
        lines.append(f"- {part}, from {'a run' if is_run else 'the zoo'}")
        path = zoo.default_folder() / f"{part}.md"
        if not is_run and path.exists():
            cards.append(path.read_text(encoding="utf-8").replace("# ", "## ", 1))
    if flag is not None:
        lines += ["", flag]
    return "\n".join([*lines, "", *cards]).encode()
