"""Descent in a generator's latent space, differentiable without keeping what it went through."""

import tensorflow as tf

from tfpurify.models.losses import projection_error


def initial_state(z):
    """Returns z, its velocity, the best z so far and its error."""
    return [z, tf.zeros_like(z), z, tf.fill(tf.shape(z)[:1], float("inf"))]


def iterate(generator, images, state, move, steps, recompute=False):
    """Returns the state after some steps.

    Args:
        generator: A `FoldedGenerator`.
        images: `(batch, height, width, channels)`.
        state: As from `initial_state`, of one start an image.
        move: `move(step, z, velocity, gradient)`, returns the next z and velocity; `step` is a
            float32 scalar.
        steps: `(first, end)`: the number of the first step and of the one after the last.
        recompute: Whether a gradient recomputes each step from its z and velocity, so that a long
            descent keeps its states and not its activations.
    """
    first, end = steps

    def advance(step, z, velocity, images):
        errors, gradient, _ = generator.errors_and_gradient(z, images)
        return errors, *move(step, z, velocity, gradient)

    if recompute:
        advance = tf.recompute_grad(advance)

    def body(step, z, velocity, best_z, best_errors):
        # As a float: what is recomputed is watched, and integers cannot be.
        errors, next_z, velocity = advance(tf.cast(step, tf.float32), z, velocity, images)
        best_z, best_errors = keep_better(z, errors, best_z, best_errors)
        return step + 1, next_z, velocity, best_z, best_errors

    return tf.while_loop(
        lambda step, *_: step < end,
        body,
        (first, *state),
        maximum_iterations=end - first,
    )[1:]


def best(generator, images, state):
    """Returns the best z and its error, the last iterate included."""
    z, _, best_z, best_errors = state
    return keep_better(z, projection_error(images, generator(z)), best_z, best_errors)


def keep_better(z, errors, best_z, best_errors):
    """Returns for each image the z with the smaller error, and that error."""
    # Never where the descent has run away: ReLU may take NaN for 0, so that an error looks finite.
    is_better = (errors < best_errors) & tf.reduce_all(tf.math.is_finite(z), axis=1)
    return (
        tf.where(is_better[:, None], z, best_z),
        tf.where(is_better, errors, best_errors),
    )
