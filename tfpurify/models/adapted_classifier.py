"""What people have as a classifier, as one Keras model: images in [0, 1] -> float32 logits."""

import hashlib
import re
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from absl import logging

from tfpurify.arguments import require_one_of
from tfpurify.models.frozen_graph import freeze_graph, last_activation
from tfpurify.models.image_scale import ImageScale, require_right_scale
from tfpurify.models.logits import are_probabilities
from tfpurify.models.network_forms import as_function, load_network
from tfpurify.vocabulary import OUTPUTS

_NO_GRADIENT = "No gradient comes back through it, which every attack and PuVAE need"
_SMALLEST = 1e-37  # of a probability whose logarithm is taken: float32's smallest normal number


class AdaptedClassifier(keras.Model):
    """A classifier that `as_classifier` made: one graph of constants, frozen.

    Args:
        graph: Images -> logits, as `frozen_graph.freeze_graph` makes it.
        image_shape: `(height, width, channels)`.
        num_classes: Number of logits.
        reference: What a saved purifier says of it: `name`, `path` and `sha256`.

    Inputs: images `(batch, height, width, channels)` in [0, 1]. Outputs: logits
    `(batch, num_classes)`, float32.
    """

    def __init__(self, graph, image_shape, num_classes, reference):
        super().__init__(name=reference["name"], dtype="float32")
        self.image_shape = tuple(image_shape)
        self.num_classes = num_classes
        self.reference = dict(reference)
        self._hold = lambda: graph  # nothing of it is a Keras variable, or saved with one
        self.trainable = False
        self.built = True

    def call(self, images, training=False):
        return _one(self._hold()(tf.cast(images, tf.float32)))

    def get_config(self):
        raise ValueError(
            "A classifier of `as_classifier` has no configuration: keep the model that it was made "
            f"of, and make it again. Received: {self.reference}"
        )


def as_classifier(
    model,
    image_range=(0, 1),
    outputs="logits",
    num_classes=None,
    mean=None,
    std=None,
    channels="rgb",
    *,
    image_shape=None,
    output_name=None,
    images=None,
    labels=None,
    trust=False,
):
    """Returns any classifier as a Keras model: images in [0, 1] -> float32 logits.

    Its computation is taken as one graph with its weights as constants, so what becomes of the
    original afterwards changes nothing. Where it ends in a softmax, that is taken off, because
    float32 has no gradient where a softmax is sure; a softmax that is not the last operation stays,
    and the logits are the logarithms of the probabilities. One output of a sigmoid becomes two
    logits.

    Args:
        model: A Keras model; the path of a `.keras` or `.h5` file or of a SavedModel folder; what
            `tf.saved_model.load` returned; or a callable of TensorFlow operations.
        image_range: `(low, high)` of the images that it takes. Normalisation inside the model
            counts as part of it: a model that begins with `Rescaling(1/255)` takes (0, 255).
        outputs: `logits`, `probabilities`, or `auto`: probabilities, if it ends in a softmax or a
            sigmoid, or all rows of its outputs are in [0, 1] and sum to 1.
        num_classes: What its outputs must be, to have it checked.
        mean: Subtracted from the images in `image_range`, in the order of `channels`.
        std: Divided by after that.
        channels: `rgb` or `bgr`, the order in which it takes them.
        image_shape: `(height, width, channels)`, where the model does not say.
        output_name: Key of the outputs, where the model returns a dictionary of several.
        images: Labelled images in [0, 1] that a wrong scale is found out with, a few hundred.
        labels: Theirs, `(n,)` or `(n, 1)`.
        trust: Whether a file may run code.

    Returns:
        An `AdaptedClassifier`.

    Raises:
        TypeError: If the model is nothing of these.
        ValueError: If its outputs are not what `outputs` says or no gradient can come back through
            it; if another scale fits the labelled images clearly better; or a file is refused.
    """
    require_one_of(OUTPUTS, outputs=outputs)
    path = model if isinstance(model, (str, Path)) else None
    if isinstance(model, AdaptedClassifier):
        others = (tuple(image_range), outputs, num_classes, mean, std, channels, images)
        if others[:6] != ((0, 1), "logits", None, None, None, "rgb") or images is not None:
            raise ValueError(
                "`model` is a classifier of `as_classifier` already, images in [0, 1] -> logits: "
                f"make it anew to change that. Received: {others[:6]}"
            )
        return model
    network = model if path is None else load_network(path, trust)
    function, own_shape, dtype = as_function(network)
    image_shape = image_shape or own_shape
    if image_shape is None:
        raise ValueError(
            "`image_shape` is needed: the model does not say which images it takes. "
            "Received: image_shape=None"
        )
    if own_shape is not None and tuple(image_shape) != own_shape:
        raise ValueError(
            f"`model` takes images of shape {own_shape}. Received: images of "
            f"{tuple(image_shape)}; --image_size=HEIGHTxWIDTH resizes them"
        )
    if dtype is not None and not dtype.is_floating:
        raise ValueError(
            "`model` must take floating point images, or no gradient comes back through it. "
            f"Received: a signature of {dtype.name}"
        )
    scale = ImageScale(image_range, mean, std, channels)
    scale.require_channels(image_shape[-1])

    def frozen(one_scale):
        def outputs_of(batch):
            scaled = one_scale(batch)
            found = function(scaled if dtype is None else tf.cast(scaled, dtype))
            return _one(found, output_name)

        return freeze_graph(outputs_of, image_shape)

    name = _name_of(network, path)
    try:
        graph, outputs = _as_logits(frozen(scale), outputs, image_shape, name)
    except NotImplementedError as error:  # NumPy was given a tensor of a graph
        raise TypeError(f"`model` must be made of TensorFlow operations. {_NO_GRADIENT}") from error
    found = _count_classes(graph, image_shape)
    if num_classes not in (None, found):
        raise ValueError(f"`num_classes` must be the model's {found}. Received: {num_classes}")
    if images is not None:
        accuracy = _check_scale(frozen, scale, images, labels, image_shape, outputs)
        logging.info("%s is right for %.1f %% of %d images", name, 100 * accuracy, len(images))
    reference = {"name": name, "path": path and str(path), "sha256": _digest(graph)}
    return AdaptedClassifier(graph, image_shape, found, reference)


def _one(outputs, name=None):
    """Returns the one tensor among a model's outputs; asks for the name where there are several."""
    if isinstance(outputs, dict):
        if name is None and len(outputs) == 1:
            return next(iter(outputs.values()))
        if name not in outputs:
            raise ValueError(f"`output_name` must be one of {sorted(outputs)}. Received: {name!r}")
        return outputs[name]
    if isinstance(outputs, (list, tuple)):
        if len(outputs) != 1:
            raise ValueError(f"`model` must have one output. Received: {len(outputs)}")
        return outputs[0]
    return outputs


def _as_logits(graph, outputs, image_shape, name):
    """Returns a frozen graph that yields logits, and what the first one yields, no longer `auto`.

    Refuses outputs that are not as they are said.
    """
    activation, inner = last_activation(graph)
    probe = tf.random.stateless_uniform((8, *image_shape), seed=(0, 0))
    values = np.asarray(_one(graph(probe)), np.float32)
    if values.ndim != 2 or len(values) != 8:
        raise ValueError(
            "`model` must return `(batch, num_classes)` for a batch of any size. "
            f"Received: shape {values.shape} for 8 images"
        )
    if not np.all(np.isfinite(values)):
        raise ValueError("`model` must return finite values. Received: NaN or infinity")
    are_sure = activation in ("softmax", "sigmoid") or are_probabilities(values)
    if values.shape[1] == 1:  # whatever made it: an activation may be hidden behind a reshape
        are_sure = activation == "sigmoid" or _is_one_probability(graph, image_shape)
    if outputs == "auto":
        outputs = "probabilities" if are_sure else "logits"
        logging.info("%s returns %s", name, outputs)
    if outputs == "logits" and are_sure:
        raise ValueError(
            f"{name} returns probabilities, which are no logits: pass outputs='probabilities' "
            "(--classifier_outputs=probabilities). Received: outputs='logits'"
        )
    if outputs == "probabilities" and not (values.min() >= 0 and values.max() <= 1):
        raise ValueError(
            f"{name} must return probabilities. Received: values in [{values.min():.4g}, "
            f"{values.max():.4g}]; pass outputs='logits' (--classifier_outputs=logits)"
        )
    is_cut = activation is not None
    if is_cut:
        logging.info("The %s at the end of %s is taken off", activation, name)
    elif outputs == "probabilities":
        logging.warning(
            "%s returns probabilities and no softmax can be taken off: their logarithms stand for "
            "logits, and where it is sure of a class they have no gradient",
            name,
        )

    def logits_of(images):
        found = tf.cast(_one(inner(images)), tf.float32)
        if outputs == "probabilities" and not is_cut:
            if values.shape[1] == 1:
                found = tf.concat([1.0 - found, found], axis=1)
            return tf.math.log(tf.maximum(found, _SMALLEST))
        return tf.concat([tf.zeros_like(found), found], axis=1) if values.shape[1] == 1 else found

    return freeze_graph(logits_of, image_shape), outputs


def _is_one_probability(graph, image_shape):
    """Says whether one output stays in [0, 1] on noise of all strengths, black and white."""
    noise = tf.random.stateless_uniform((32, *image_shape), seed=(0, 2))
    strengths = tf.reshape(tf.linspace(0.0, 1.0, 32), (32, 1, 1, 1))
    probes = (noise, noise * strengths, 1.0 - noise * strengths, tf.round(noise))
    values = np.concatenate([np.asarray(_one(graph(probe)), np.float32) for probe in probes])
    return bool(values.min() >= 0 and values.max() <= 1)


def _count_classes(graph, image_shape):
    """Returns the number of logits; refuses a graph that no gradient comes back through."""
    probe = tf.random.stateless_uniform((2, *image_shape), seed=(0, 1))
    with tf.GradientTape() as tape:
        tape.watch(probe)
        logits = _one(graph(probe))
    if tape.gradient(logits, probe) is None:
        raise ValueError(
            f"`model` must be differentiable. {_NO_GRADIENT}. Received: one that rounds, casts to "
            "integers or leaves TensorFlow on the way"
        )
    return int(logits.shape[-1])


def _check_scale(frozen, scale, images, labels, image_shape, outputs):
    images = np.asarray(images, np.float32)
    labels = np.reshape(np.asarray(labels), -1)
    if images.shape[1:] != tuple(image_shape) or len(images) != len(labels):
        raise ValueError(
            f"`images` must be {tuple(image_shape)} and as many as `labels`. "
            f"Received: {images.shape} and {len(labels)} labels"
        )

    def classify(one_scale):
        graph = frozen(one_scale)
        batches = [images[start : start + 64] for start in range(0, len(images), 64)]

        def scores(_):
            found = np.concatenate([_one(graph(tf.constant(batch))) for batch in batches])
            threshold = 0.5 if outputs == "probabilities" else 0.0
            is_single = found.shape[1] == 1
            return np.hstack([threshold - found, found - threshold]) if is_single else found

        return scores

    return require_right_scale(classify, scale, images, labels)


def _name_of(network, path):
    name = getattr(network, "name", None) or getattr(network, "__name__", "")
    name = Path(path).stem if path is not None else str(name)
    return re.sub(r"[^A-Za-z0-9_.-]", "", name).lstrip("_.-") or "classifier"


def _digest(graph):
    """Returns the SHA-256 of a frozen graph: of its operations and its weights."""
    definition = graph.graph.as_graph_def().SerializeToString(deterministic=True)
    return hashlib.sha256(definition).hexdigest()
