"""The rates of the study, measured in one way.

Differs from the paper: the study gives a single undefined "attack success rate" and leaves the
purifier's cost out. Here the success rate counts only images that the target gets right without an
attack, the plain robust accuracy stands beside it, and so does the purified clean accuracy.
"""

import collections
import time

import keras
import numpy as np
import tensorflow as tf
from absl import logging

from tfpurify.arguments import require_target_class
from tfpurify.attacks.worst_case import norms_of
from tfpurify.data.loading import validate_images
from tfpurify.evaluation.checks import dead_share
from tfpurify.evaluation.intervals import wilson_interval
from tfpurify.models.logits import refuse_probabilities
from tfpurify.vocabulary import SURROGATE_MODES

# Rounding of x + epsilon * tanh(.) in float32, with room to spare.
_TOLERANCE = 1e-6
_GRADIENTS = 100  # images whose gradients are looked at


def evaluate(
    batches,
    classifier,
    purifier=None,
    attack=None,
    epsilon=None,
    target_class=None,
    norm="linf",
):
    """Measures the rates of one table cell in a single pass over the data.

    The target is purifier + classifier, or the bare classifier when there is no purifier. Images
    that it gets wrong without the attack never count as successes of the attack. Only counts are
    kept between batches, so memory does not grow with the data.

    Args:
        batches: Iterable of `(images, labels)`; images (B, H, W, C) in [0, 1], or uint8 in
            [0, 255]; labels (B,) or (B, 1), integers.
        classifier: The bare classifier, images -> logits. A Keras model or any callable.
        purifier: Optional, images -> images. A Keras model or any callable.
        attack: Optional, `attack(images, labels)` -> adversarial images.
        epsilon: Bound that the attack is held to, in (0, 1]; if None, the attack's own `epsilon`.
        target_class: Class that a targeted attack moves towards, an int in [0, num_classes), or
            None. With it `attack_success_rate` is the share classified as this class under attack,
            of the images with another label that the target gets right without the attack.
            `robust_accuracy` stays the plain accuracy under attack.
        norm: What `epsilon` bounds: `linf`, the largest |x' - x|, or `mean_squared`, the mean over
            pixels of (x' - x)^2 of each image.

    Returns:
        A dict: `n`; `clean_accuracy`; `purified_clean_accuracy` (None without a purifier);
        `correct_without_attack`, the target's count; `robust_accuracy`, `attack_success_rate` with
        its 95 % Wilson interval `_low` and `_high`, `epsilon` and `max_perturbation` (None without
        an attack, and the success rate also when no image counts for it); `dead_gradient`, the
        share of images at which the gradient that the attack climbs is zero, not finite or below
        float32's noise, of the first hundred (None if it climbs none); `wall_seconds`. More than a
        tenth is a warning and a flag of `make_record`: the attack could not work there.

    Raises:
        ValueError: If there are no images; if a part is in a surrogate mode or the classifier is
            already purified; if images, perturbations or logits break their contract.
    """
    _require_plain_target(classifier, purifier)
    if epsilon is None:
        epsilon = getattr(attack, "epsilon", None)
    if attack is not None and not (epsilon is not None and 0 < epsilon <= 1):
        raise ValueError(
            f"`epsilon` must be in (0, 1] when there is an attack. Received: epsilon={epsilon}"
        )
    require_target_class(target_class)
    if norm not in _SIZES:
        raise ValueError(f"`norm` must be one of {list(_SIZES)}. Received: norm={norm!r}")
    started = time.perf_counter()
    classify, purify = _compiled(classifier), _compiled(purifier)
    counts, max_perturbation, norms = collections.Counter(), 0.0, []
    for raw_images, raw_labels in batches:
        images, labels = _require_batch(raw_images, raw_labels)
        before = _predict(classify, None, images, labels, "clean", target_class)
        clean = plain = before == labels
        if purify is not None:
            plain = _predict(classify, purify, images, labels, "clean", target_class) == labels
        counts.update(n=len(labels), clean=clean.sum(), plain=plain.sum())
        if attack is not None:
            adversarial = tf.convert_to_tensor(attack(images, labels))
            left = _GRADIENTS - len(norms)
            found = norms_of(attack, images[:left], labels[:left]) if left > 0 else None
            norms.extend([] if found is None else found)
            size = _perturbation(images, adversarial, epsilon, norm)
            max_perturbation = max(max_perturbation, size)
            after = _predict(classify, purify, adversarial, labels, "adversarial", target_class)
            counted = plain if target_class is None else plain & (labels != target_class)
            success = after != labels if target_class is None else after == target_class
            counts.update(
                robust=(after == labels).sum(),
                counted=counted.sum(),
                fooled=(counted & success).sum(),
            )
    if not counts["n"]:
        raise ValueError("`batches` must hold at least one image. Received: none")
    return {
        **_rates(counts, purified=purifier is not None, attacked=attack is not None),
        "epsilon": None if attack is None else float(epsilon),
        "max_perturbation": None if attack is None else max_perturbation,
        "dead_gradient": dead_share(norms) if norms else None,
        "wall_seconds": time.perf_counter() - started,
    }


def _rates(counts, purified, attacked):
    n, correct, fooled = int(counts["n"]), int(counts["plain"]), int(counts["fooled"])
    counted = int(counts["counted"])
    low, high = wilson_interval(fooled, counted) if counted else (None, None)
    return {
        "n": n,
        "clean_accuracy": int(counts["clean"]) / n,
        "purified_clean_accuracy": correct / n if purified else None,
        "correct_without_attack": correct,
        "robust_accuracy": int(counts["robust"]) / n if attacked else None,
        "attack_success_rate": fooled / counted if counted else None,
        "attack_success_rate_low": low,
        "attack_success_rate_high": high,
    }


def _require_plain_target(classifier, purifier):
    for name, part in (("classifier", classifier), ("purifier", purifier)):
        mode = getattr(part, "gradient_mode", None)
        if mode in SURROGATE_MODES:
            raise ValueError(
                f"`{name}` must not mix or rank candidates: what is evaluated is what is served, "
                f"mode 'exact'. Received: gradient_mode={mode!r}"
            )
    if getattr(classifier, "purifier", None) is not None:
        raise ValueError(
            "`classifier` must be the bare classifier, with its purifier as `purifier`. "
            f"Received: {type(classifier).__name__} with a purifier inside"
        )


def _compiled(model):
    if not isinstance(model, keras.Model):
        return model
    return tf.function(lambda images: model(images, training=False), reduce_retracing=True)


def _require_batch(images, labels):
    images, labels = _as_float32(np.asarray(images)), np.asarray(labels)
    validate_images(images, images.shape[-3:])
    images = tf.convert_to_tensor(images)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.shape != (len(images),) or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"labels must be {len(images)} integers. "
            f"Received: shape={labels.shape}, dtype={labels.dtype}"
        )
    return images, labels


def _as_float32(images):
    """Returns images in [0, 1] as float32, and uint8 ones divided by 255, which it says once."""
    if images.dtype == np.uint8:
        logging.log_first_n(logging.INFO, "uint8 images: divided by 255", 1)
        return images.astype(np.float32) / 255.0
    return images.astype(np.float32) if images.dtype in (np.float64, np.float16) else images


def _require_like(images, expected, name):
    if images.shape != expected.shape or images.dtype != expected.dtype:
        raise ValueError(
            f"{name} must have the images' shape {expected.shape} and dtype {expected.dtype.name}. "
            f"Received: shape={images.shape}, dtype={images.dtype.name}"
        )
    low, high = float(tf.reduce_min(images)), float(tf.reduce_max(images))
    # Written so that a NaN fails it.
    if not (low >= -_TOLERANCE and high <= 1 + _TOLERANCE):
        raise ValueError(f"{name} must lie in [0, 1]. Received: values in [{low:.6g}, {high:.6g}]")


_SIZES = {
    "linf": ("max |x' - x|", lambda change: tf.reduce_max(tf.abs(change))),
    "mean_squared": (
        "max over images of mean (x' - x)^2",
        lambda change: tf.reduce_max(tf.reduce_mean(tf.square(change), axis=(1, 2, 3))),
    ),
}


def _perturbation(images, adversarial, epsilon, norm):
    _require_like(adversarial, images, "adversarial images")
    words, size = _SIZES[norm]
    largest = float(size(adversarial - images))
    if largest > epsilon + _TOLERANCE:
        raise ValueError(
            f"adversarial images must stay within epsilon={epsilon} of the images. "
            f"Received: {words} = {largest:.6g}"
        )
    return largest


def _predict(classify, purify, images, labels, kind, target_class):
    """Returns the classes that the images are taken for, (B,)."""
    inputs = images
    if purify is not None:
        inputs = tf.convert_to_tensor(purify(images))
        _require_like(inputs, images, f"purified {kind} images")
    logits = tf.cast(classify(inputs), tf.float32).numpy()
    refuse_probabilities(logits)
    if logits.ndim != 2 or len(logits) != len(labels):
        raise ValueError(
            f"logits must have shape ({len(labels)}, num_classes). Received: shape={logits.shape}"
        )
    if labels.min() < 0 or labels.max() >= logits.shape[1]:
        raise ValueError(
            f"labels must be in [0, {logits.shape[1]}). "
            f"Received: values in [{labels.min()}, {labels.max()}]"
        )
    require_target_class(target_class, logits.shape[1])
    broken = int((~np.isfinite(logits).all(axis=1)).sum())
    if broken:
        raise ValueError(
            f"logits must be finite. Received: NaN or infinity for {broken} of {len(labels)} "
            f"{kind} images of a batch"
        )
    return logits.argmax(axis=1)
