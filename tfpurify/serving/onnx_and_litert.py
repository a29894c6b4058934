"""PuVAE and its classifier as ONNX and LiteRT files, for runtimes without TensorFlow.

Both have the input `images` `(batch, height, width, channels)`, float32 in [0, 1], and the outputs
`logits`, `probabilities`, `label`, `purified_images` and `reconstruction_error`. They do not look
for images that are wrong, as a served SavedModel does.
"""

import tempfile
from pathlib import Path

import tensorflow as tf

from tfpurify.files import write_aside
from tfpurify.purifiers.puvae import PuVAE
from tfpurify.serving.bundle_writer import export_model
from tfpurify.serving.saved_model import defence_outputs

_OPSET = 17  # of ONNX


def export_onnx(purified_classifier, path):
    """Writes an ONNX file.

    Args:
        purified_classifier: Built `PurifiedClassifier` of a PuVAE.
        path: Of the file, made whole or not at all.

    Raises:
        ValueError: If the purifier is no PuVAE.
        ImportError: If tf2onnx is not installed (extra `onnx`).
        OSError: If the file cannot be written.
    """
    _require_puvae(purified_classifier, "ONNX")
    try:
        import tf2onnx
    except ImportError as error:
        raise _missing(error) from error
    spec = tf.TensorSpec((None, *purified_classifier.purifier.image_shape), tf.float32, "images")
    function = tf.function(
        lambda images: _answer(purified_classifier, images), [spec], autograph=False
    )
    model, _ = tf2onnx.convert.from_function(function, input_signature=[spec], opset=_OPSET)
    write_aside(path, model.SerializeToString())


def export_litert(purified_classifier, path):
    """Writes a LiteRT (TensorFlow Lite) file, whose signature is `serving_default`.

    Args:
        purified_classifier: Built `PurifiedClassifier` of a PuVAE.
        path: Of the file, made whole or not at all.

    Raises:
        ValueError: If the purifier is no PuVAE.
        OSError: If the file cannot be written.
    """
    _require_puvae(purified_classifier, "LiteRT")
    signatures = {"serving_default": lambda images: _answer(purified_classifier, images)}
    shape = purified_classifier.purifier.image_shape
    with tempfile.TemporaryDirectory() as folder:
        version = export_model(purified_classifier, folder, signatures, shape)
        converter = tf.lite.TFLiteConverter.from_saved_model(
            str(version), signature_keys=["serving_default"]
        )
        write_aside(Path(path), converter.convert())


def _answer(purified_classifier, images):
    return defence_outputs(purified_classifier.purifier, purified_classifier.classifier, images)


def _require_puvae(purified_classifier, name):
    if not isinstance(purified_classifier.purifier, PuVAE):
        raise ValueError(
            f"{name} has no operations for the gradients that DefenseGAN's descent takes, so the "
            f"purifier must be a PuVAE. Received: {type(purified_classifier.purifier).__name__}"
        )


def _missing(error):
    return ImportError(f'ONNX needs tf2onnx: `pip install -e ".[onnx]"`. Received: {error}')
