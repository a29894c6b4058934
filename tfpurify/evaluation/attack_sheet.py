"""Images to look at: clean, attacked and purified, with what the classifier says of each."""

import numpy as np
import tensorflow as tf

from tfpurify.attacks.pgd import PGD
from tfpurify.data import loading
from tfpurify.evaluation.image_rows import ImageRow
from tfpurify.models.logits import logits_of
from tfpurify.vocabulary import display

_COUNT = 8


def strongest_pgd(defence, epsilon, num_steps=40, seed=0):
    """Returns PGD through what a defence's attacker knows, its gradient the strongest known way."""
    return PGD(defence.target(defence.modes[0]), epsilon, num_steps, seed=seed)


def make_sheet(defence, batches, attack=None):
    """Returns rows of images for `report.figures.figure_images`.

    Args:
        defence: A `Defence`; what its attacker knows decides through what he attacks.
        batches: Iterable of images and labels; the first of the first batch are taken.
        attack: `attack(images, labels)`; None: nobody attacks.
    """
    images, labels = next(iter(batches))
    images, labels = images[:_COUNT], np.reshape(labels[:_COUNT], -1)
    names = loading.get_spec(defence.dataset).class_names

    def row(title, shown):
        probabilities = tf.nn.softmax(logits_of(defence.classifier, shown)).numpy()
        best = probabilities.argmax(axis=1)
        return ImageRow(title, np.asarray(shown), labels, best, probabilities.max(axis=1), names)

    rows = [row("clean", images)]
    if defence.purifier is not None:
        rows.append(row("clean, purified", defence.purifier(images, training=False)))
    if attack is None:
        return rows
    attacked = tf.convert_to_tensor(attack(images, tf.constant(labels)))
    who = "the bare classifier" if not defence.is_crossed else display(defence.name)
    rows.append(row(f"attack on {who}", attacked))
    if defence.purifier is not None:
        rows.append(row("attacked, purified", defence.purifier(attacked, training=False)))
    return rows
