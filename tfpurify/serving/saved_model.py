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

import tensorflow as tf

from tfpurify.models.logits import logits_of, require_logits
from tfpurify.models.losses import projection_error
from tfpurify.serving.bundle_writer import export_model, image_shape_of
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
    shape = image_shape_of(classifier)
    require_logits(classifier, shape)

    def answer(images, error):
        return _answer(_verdict(logits_of(classifier, images)), error)

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
    require_logits(classifier, shape)

    def purify(images):
        images, error = check_images(images)
        return _answer(_purified(purifier, images), error)

    def classify_unpurified(images):
        images, error = check_images(images)
        return _answer(_verdict(logits_of(classifier, images)), error)

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
    return {**_verdict(logits_of(classifier, purified["purified_images"])), **purified}


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
