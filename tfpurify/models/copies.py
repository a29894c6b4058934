"""Copies of trained models, with their weights."""

import keras
import tensorflow as tf

from tfpurify.models.adapted_classifier import AdaptedClassifier


def copy_of(model, **changes):
    """Returns a built copy of a Keras model, with its weights.

    Args:
        model: Built, and made again from its configuration alone.
        **changes: Of that configuration.
    """
    copy = type(model).from_config({**model.get_config(), **changes})
    copy.build()
    copy.set_weights(model.get_weights())
    return copy


def frozen_part(model, is_in_precision=True):
    """Returns a trained model as a part of one that is built now.

    That is the model itself, or a copy of it: in the scope of a strategy, whose models are made of
    variables of its own, and where models are built in another precision than the model's. A
    classifier of `as_classifier` has no variables, and its own precision.

    Args:
        model: Built.
        is_in_precision: Whether the part takes the precision in which models are built now.
    """
    if isinstance(model, AdaptedClassifier):
        return model
    if is_in_precision and model.dtype_policy != keras.config.dtype_policy():
        return copy_of(model, dtype=None)
    return copy_of(model) if tf.distribute.has_strategy() else model
