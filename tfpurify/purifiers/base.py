"""The Purifier contract, the choice of a candidate, and the ways a gradient crosses a purifier."""

import keras
import tensorflow as tf
from keras import ops

from tfpurify.arguments import require_above_zero
from tfpurify.data.loading import validate_if_eager
from tfpurify.models.base import Configured
from tfpurify.models.logits import logits_of
from tfpurify.models.losses import projection_error

# What an error of twice the detector's threshold costs an attacker, beside the margin of logits.
_PENALTY_WEIGHT = 10.0


class Purifier(Configured, keras.Model):
    """Images -> images of the same shape, dtype and range [0, 1].

    A subclass sets `image_shape` and implements `call(images, training=False)`.
    """

    def differentiable(self, images):
        """Returns what `call` does, with the gradient of the mode `exact`.

        Args:
            images: `(batch, height, width, channels)`, float32 in [0, 1].
        """
        return self(images)


class CandidatePurifier(Purifier):
    """A purifier that makes several images of each, and returns the one nearest to it.

    A subclass sets `image_shape` and implements `candidates`.
    """

    def candidates(self, images):
        """Returns K proposals for each image, `(batch, K, height, width, channels)`, in [0, 1]."""
        raise NotImplementedError

    def call(self, images, training=False):
        validate_if_eager(images, self.image_shape)
        candidates = self.candidates(images)
        return select_nearest(ops.cast(images, candidates.dtype), candidates)


def candidate_errors(images, candidates):
    """Mean over pixels of the squared distance of each candidate: `(batch, K)`.

    Args:
        images: `(batch, height, width, channels)`.
        candidates: `(batch, K, height, width, channels)`.

    Raises:
        ValueError: If the shapes do not fit each other.
    """
    if len(candidates.shape) != 5 or tuple(candidates.shape[2:]) != tuple(images.shape[1:]):
        raise ValueError(
            "`candidates` must have shape (batch, K, height, width, channels) for images "
            f"{tuple(images.shape)}. Received: candidates {tuple(candidates.shape)}"
        )
    squared = ops.square(candidates - ops.expand_dims(images, 1))
    return ops.mean(squared, axis=(2, 3, 4))


def select_nearest(images, candidates):
    """Returns for each image the candidate with the smallest RMSE to it.

    Args:
        images: `(batch, height, width, channels)`.
        candidates: `(batch, K, height, width, channels)`.

    Returns:
        `(batch, height, width, channels)`.

    Source: PuVAE, section 3.3 (per class); DefenseGAN, section 3.1 (per restart), where the choice
    is made for each image, not once for a batch.
    """
    nearest = tf.argmin(candidate_errors(images, candidates), axis=1)
    return tf.gather(candidates, nearest, axis=1, batch_dims=1)


def nearest_candidates(images, candidates, count):
    """Returns the `count` candidates nearest to each image, `(batch, count, H, W, C)`.

    Args:
        images: `(batch, height, width, channels)`.
        candidates: `(batch, K, height, width, channels)`.
        count: At most K; all K if it is more.
    """
    errors = candidate_errors(images, candidates)
    _, nearest = ops.top_k(-errors, min(count, candidates.shape[1]))
    return tf.gather(candidates, nearest, axis=1, batch_dims=1)


def selection_logits(images, candidates, temperature=0.005):
    """Returns minus the candidates' errors / temperature: `(batch, K)`, the nearest has the most.

    Args: as for `soft_min_weights`.
    """
    return -candidate_errors(images, candidates) / temperature


def soft_min_weights(images, candidates, temperature=0.005):
    """Softmax of minus the candidates' errors: `(batch, K)`, summing to one.

    What `select_nearest` does for temperature -> 0, with a gradient that sees every candidate.

    Args:
        images: `(batch, height, width, channels)`.
        candidates: `(batch, K, height, width, channels)`.
        temperature: In units of the mean squared error, > 0.
    """
    return ops.softmax(selection_logits(images, candidates, temperature), axis=1)


def soft_logits(images, candidates, classifier, temperature=0.005, count=None):
    """Returns the candidates' logits, mixed by `soft_min_weights`: `(batch, num_classes)`.

    Args:
        images: `(batch, height, width, channels)`.
        candidates: `(batch, K, height, width, channels)`.
        classifier: Images -> logits.
        temperature: As for `soft_min_weights`.
        count: How many of the nearest candidates are classified and mixed; all if None.
    """
    if count is not None:
        candidates = nearest_candidates(images, candidates, count)
    weights = soft_min_weights(images, candidates, temperature)
    logits = logits_of(classifier, ops.reshape(candidates, (-1, *images.shape[1:])))
    logits = ops.reshape(logits, (-1, candidates.shape[1], logits.shape[-1]))
    return ops.sum(ops.expand_dims(weights, -1) * logits, axis=1)


@tf.custom_gradient
def identity_backward(images, purified_images):
    """Forward `purified_images`, backward the identity to `images`.

    Source: Athalye et al. 2018, section 4.1 (BPDA).
    """

    def gradient(upstream):
        return upstream, tf.zeros_like(upstream)

    return tf.identity(purified_images), gradient


def reconstruction_errors(purifier, images):
    """Mean over pixels of (purified - image)^2, with the gradient of the mode `exact`: `(batch,)`.

    Args:
        purifier: A `Purifier`.
        images: `(batch, height, width, channels)` in [0, 1].
    """
    return projection_error(images, purifier.differentiable(images))


def detector_penalty(purifier, threshold):
    """Returns what an attacker adds to its loss who knows the detector: images -> `(batch,)`.

    Zero for an image whose error stays below the threshold.

    Args:
        purifier: A `Purifier`.
        threshold: Above it an image is taken for attacked, > 0.

    Raises:
        ValueError: If the threshold is not > 0.

    Source: Carlini and Wagner 2017, "Adversarial examples are not easily detected".
    """
    require_above_zero(threshold=threshold)
    return lambda images: (
        _PENALTY_WEIGHT * tf.nn.relu(reconstruction_errors(purifier, images) / threshold - 1.0)
    )
