"""SavedModel bundles: graphs that serve without tfpurify, Keras or Python.

A bundle is `FOLDER/VERSION/` with named signatures from float32 images `(batch, height, width,
channels)` in [0, 1], input name `images`, to a dictionary of outputs; a defence's also take uint8
images and files. It appears whole or not at all, which is what TensorFlow Serving's watch on
`FOLDER` needs.

    loaded = tf.saved_model.load("saved_models/NAME/1")
    outputs = loaded.signatures["serving_default"](images=images)

To take gradients through a signature, keep `loaded`, which owns the weights, and use a tape that is
not persistent: TensorFlow differentiates a loaded loop only once.
"""

import os
import shutil
import tempfile
from pathlib import Path

import tensorflow as tf

from tfpurify.models.losses import projection_error
from tfpurify.serving.decoding import check_images, decode_images, require_shape


def export_classifier(classifier, folder, extra_files=()):
    """Exports a classifier.

    Args:
        classifier: Built Keras model, images -> logits.
        folder: Where the versions live, made if missing.
        extra_files: Pairs of a path within the version's folder and its content, bytes.

    Returns:
        The path of the new version. `serving_default`, `serve_uint8` and `serve_image_bytes` take
        what those of `export_purified_classifier` do, and give `logits`, `probabilities`, `label`
        and `error`.

    Raises:
        OSError: If the folder cannot be written.
    """
    shape = _image_shape(classifier, None)

    def answer(images, error):
        return _answer(_verdict(classifier(images, training=False)), error)

    return export_model(classifier, folder, _serving(answer, shape), shape, extra_files)


def export_purifier(purifier, folder):
    """Exports a purifier alone.

    Args:
        purifier: Built `Purifier`, images -> images.
        folder: Where the versions live, made if missing.

    Returns:
        The path of the new version. `serving_default` gives `purified_images`.

    Raises:
        OSError: If the folder cannot be written.
    """

    def purify(images):
        return {"purified_images": purifier(images, training=False)}

    return export_model(purifier, folder, {"serving_default": purify})


def export_purified_classifier(purified_classifier, folder, threshold=None, extra_files=()):
    """Exports a purifier and the classifier behind it as one graph.

    The graph is always the defence itself: `gradient_mode` is about attacks and does not matter.

    | signature | input | outputs |
    | --- | --- | --- |
    | `serving_default` | `images`, float32 in [0, 1] | all |
    | `serve_uint8` | `images`, uint8 | all |
    | `serve_image_bytes` | `image_bytes` `(batch,)`: PNG or JPEG files | all, and `is_resized` |
    | `purify` | as `serving_default` | `purified_images`, `reconstruction_error`, `error` |
    | `classify_unpurified` | as `serving_default` | `logits`, `probabilities`, `label`, `error` |

    All outputs are `logits`, `probabilities`, `label`, `purified_images`, `reconstruction_error`
    (the mean squared difference between the image and the purified one), `is_flagged` if there is a
    threshold, and `error`: a string for each image, empty unless it is no image. Such an image has
    label -1, zeros in the other outputs, and is flagged; its neighbours' answers are as without it.

    Args:
        purified_classifier: Built `PurifiedClassifier`.
        folder: Where the versions live, made if missing.
        threshold: Reconstruction error above which an image is flagged; no flag if None.
        extra_files: Pairs of a path within the version's folder and its content, bytes.

    Returns:
        The path of the new version.

    Raises:
        OSError: If the folder cannot be written.
    """
    purifier, classifier = purified_classifier.purifier, purified_classifier.classifier
    shape = tuple(purifier.image_shape)

    def purify(images):
        images, error = check_images(images)
        return _answer(_purified(purifier, images), error)

    def classify_unpurified(images):
        images, error = check_images(images)
        return _answer(_verdict(classifier(images, training=False)), error)

    def answer(images, error):
        outputs = _answer(defence_outputs(purifier, classifier, images), error)
        if threshold is not None:
            is_far = outputs["reconstruction_error"] > threshold
            outputs["is_flagged"] = is_far | (error != "")
        return outputs

    signatures = {
        **_serving(answer, shape),
        "purify": purify,
        "classify_unpurified": classify_unpurified,
    }
    return export_model(purified_classifier, folder, signatures, shape, extra_files)


def export_attack(attack, folder):
    """Exports a trained attack's generator; its target stays behind.

    Args:
        attack: Built `AdvGAN`, or any Keras model with `generate(images) -> adversarial_images`.
        folder: Where the versions live, made if missing.

    Returns:
        The path of the new version. `serving_default` gives `adversarial_images`.

    Raises:
        OSError: If the folder cannot be written.
    """

    def generate(images):
        return {"adversarial_images": attack(images)}

    return export_model(attack, folder, {"serving_default": generate})


def export_model(model, folder, signatures, image_shape=None, extra_files=()):
    """Writes the next version of a bundle.

    Each weight is stored once, and only if a signature uses it: `keras.export.ExportArchive` and
    `model.export` write them twice, discriminators and frozen models included.

    Args:
        model: Keras model that owns every variable that the signatures use.
        folder: Where the versions live, made if missing.
        signatures: Dictionary of name -> function(images) -> dictionary of tensors, or a pair of a
            function and its input's `TensorSpec`. The one named `serving_default` is what servers
            use when none is asked for.
        image_shape: (height, width, channels). Defaults to `model.image_shape`, else to the shape
            that the model was built with.
        extra_files: Pairs of a path within the version's folder and its content, bytes.

    Returns:
        The path of the new version, `FOLDER/VERSION`.

    Raises:
        ValueError: If the model is not built, or `image_shape` is neither given nor known.
        OSError: If the folder cannot be written.
    """
    if not model.built:
        raise ValueError(f"`model` must be built. Received: model={model.name!r}, not built")
    spec = tf.TensorSpec((None, *_image_shape(model, image_shape)), tf.float32, name="images")
    # Without autograph: a loop in `call` is a `tf.while_loop` already.
    pairs = {
        name: signature if isinstance(signature, tuple) else (signature, spec)
        for name, signature in signatures.items()
    }
    functions = {
        name: tf.function(function, input_signature=[spec], autograph=False)
        for name, (function, spec) in pairs.items()
    }
    bundle = tf.Module()
    bundle.weights = _captured(model, functions.values())
    folder = Path(folder)
    made = not folder.exists()
    aside = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # A folder inside the private temporary one, so that the bundle gets the usual permissions.
        aside = Path(tempfile.mkdtemp(prefix=".export-", dir=folder))
        tf.saved_model.save(bundle, str(aside / "bundle"), signatures=functions)
        for name, content in extra_files:
            path = aside / "bundle" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        version = folder / str(next_version(folder))
        os.rename(aside / "bundle", version)
    except (OSError, tf.errors.OpError) as error:
        words = str(error).splitlines()[0].rpartition("}} ")[2].partition(" [Op")[0]
        reason = getattr(error, "strerror", None) or words  # TensorFlow's, without its nodes
        raise OSError(
            f"`folder` must be a writable folder. Received: folder={folder} ({reason})"
        ) from error
    finally:
        if aside is not None:
            shutil.rmtree(aside, ignore_errors=True)
        if made and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    return version


def next_version(folder):
    """Returns 1 + the highest version in the folder; 1 where there is none."""
    folder = Path(folder)
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return 1 + max((int(name) for name in names if name.isdecimal()), default=0)


def _verdict(logits):
    logits = tf.cast(logits, tf.float32)  # reduced precision stays inside the graph
    return {
        "logits": logits,
        "probabilities": tf.nn.softmax(logits),
        "label": tf.argmax(logits, axis=-1),
    }


def _serving(answer, shape):
    """Returns signatures for images as floats, as bytes and as files.

    Args:
        answer: Function of images and their errors -> dictionary of outputs.
        shape: `(height, width, channels)`.
    """

    def serve_uint8(images):
        images = require_shape(images)
        return answer(tf.cast(images, tf.float32) / 255.0, tf.fill(tf.shape(images)[:1], ""))

    def serve_image_bytes(image_bytes):
        images, is_resized, error = decode_images(image_bytes, shape)
        return {**answer(images, error), "is_resized": is_resized}

    files = tf.TensorSpec((None,), tf.string, name="image_bytes")
    return {
        "serving_default": lambda images: answer(*check_images(images)),
        "serve_uint8": (serve_uint8, tf.TensorSpec((None, *shape), tf.uint8, name="images")),
        "serve_image_bytes": (serve_image_bytes, files),
    }


def defence_outputs(purifier, classifier, images):
    """Returns what a purifier and the classifier behind it make of images, by name."""
    purified = _purified(purifier, images)
    return {**_verdict(classifier(purified["purified_images"], training=False)), **purified}


def _purified(purifier, images):
    purified_images = purifier(images, training=False)
    error = projection_error(images, purified_images)
    return {"purified_images": purified_images, "reconstruction_error": error}


def _answer(outputs, error):
    """Returns the outputs with those of wrong images blanked, and the errors."""
    is_wrong = error != ""
    blanks = {"label": -1}

    def blank(name, value):
        mask = tf.reshape(is_wrong, (-1, *[1] * (value.shape.rank - 1)))
        return tf.where(mask, tf.cast(blanks.get(name, 0), value.dtype), value)

    return {**{name: blank(name, value) for name, value in outputs.items()}, "error": error}


def _captured(model, functions):
    """Returns the model's TensorFlow variables that the traced functions read, each once.

    A `tf.Module` that held the Keras model instead would load in Python, but not in the session
    loader, which is what serving uses.
    """
    captured = {
        id(tensor)
        for function in functions
        for tensor in function.get_concrete_function().captured_inputs
    }
    return [v.value for v in model.variables if id(v.value.handle) in captured]


def _image_shape(model, image_shape):
    if image_shape is None:
        image_shape = getattr(model, "image_shape", None)
    if image_shape is None:
        image_shape = ((model.get_build_config() or {}).get("input_shape") or ())[1:]
    if len(image_shape) != 3 or None in image_shape:
        raise ValueError(
            f"`image_shape` must be (height, width, channels). Received: image_shape={image_shape}"
        )
    return tuple(image_shape)
