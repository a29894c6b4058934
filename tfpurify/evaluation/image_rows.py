"""Images with what a classifier says of them, as a row of a figure shows them."""

import dataclasses

import numpy as np
import tensorflow as tf

from tfpurify.data import loading
from tfpurify.evaluation import experiments
from tfpurify.vocabulary import display


@dataclasses.dataclass(frozen=True)
class ImageRow:
    """One row of a figure.

    Args:
        title: What the images are.
        images: `(n, height, width, channels)` in [0, 1].
        labels: True labels `(n,)`.
        predictions: Predicted labels `(n,)`.
        confidences: Probabilities of the predictions `(n,)`.
        class_names: One for each label.
    """

    title: str
    images: object
    labels: object
    predictions: object
    confidences: object
    class_names: tuple


def make_image_rows(dataset, images, parts, is_measured):
    """Returns a figure's rows: one image of each class, clean, attacked and purified.

    Args:
        dataset: Name of the data set.
        images: Stream of `(image, label)`.
        parts: `ExperimentParts`.
        is_measured: Function of an experiment -> whether it is among those that are measured.
    """
    images, labels = next(iter(images.batch(250)))
    _, first = np.unique(labels.numpy(), return_index=True)
    clean, labels = tf.gather(images, first), labels.numpy()[first]

    def row(title, images):
        probabilities = tf.nn.softmax(parts.traced_classifier()(images)).numpy()
        predictions, confidences = probabilities.argmax(axis=1), probabilities.max(axis=1)
        names = loading.get_spec(dataset).class_names
        return ImageRow(title, np.asarray(images), labels, predictions, confidences, names)

    rows, attacked = [row("clean", clean)], {}
    shown = filter(is_measured, experiments.STUDY_EXPERIMENTS)
    for experiment in sorted(shown, key=lambda experiment: experiment.purifier != "none"):
        if experiment.threat_model not in ("blind", "whitebox"):
            continue
        attacker, purifier = experiment.attacker, display(experiment.purifier)
        if attacker not in attacked:
            attacked[attacker] = parts.load(attacker)(clean)
            known = "the bare classifier" if attacker == "whitebox_none" else purifier
            rows.append(row(f"attack on {known}", attacked[attacker]))
        if experiment.purifier != "none":
            purified_images = parts.observed(experiment.purifier).purify(attacked[attacker])
            title = f"{experiment.threat_model}: purified by {purifier}"
            rows.append(row(title, purified_images))
    return rows
