"""DefenseGAN's two projectors: how each moves z, and which of its starts go on.

Source: as for `DefenseGAN`.
"""

import tensorflow as tf
from keras import ops

from tfpurify.purifiers import descent

DEFAULTS = {
    "reference": {"num_steps": 200, "num_restarts": 10, "step_size": 10.0, "momentum": 0.7},
    "fast": {"num_steps": 10, "num_restarts": 2, "step_size": 2.0, "momentum": 0.9},
}
_DECAY_START = 0.8  # share of the reference's steps after which the step size is divided by ten
_SCREENING = 0.25  # share of the fast projector's steps that all starts get, not only the best


def reference_move(num_steps, step_size, momentum):
    """Returns a step of gradient descent with momentum, for `descent.iterate`."""

    def move(step, z, velocity, gradient):
        is_late = step >= _DECAY_START * num_steps
        velocity = momentum * velocity + gradient
        return z - tf.where(is_late, 0.1 * step_size, step_size) * velocity, velocity

    return move


def fast_move(step_size, momentum, preconditioner):
    """Returns a step of Nesterov's on the preconditioned gradient, for `descent.iterate`.

    Args:
        step_size: Of the descent.
        momentum: Of the descent.
        preconditioner: The encoder's variable, `(latent_dim, latent_dim)`.
    """
    # Read here, because a loop's gradient cannot read a variable anew.
    preconditioner = tf.convert_to_tensor(preconditioner)

    def move(_, z, velocity, gradient):
        change = step_size * (gradient @ preconditioner)
        velocity = momentum * velocity - change
        return z + momentum * velocity - change, velocity

    return move


def descend_reference(generator, images, z0, num_steps, move):
    """Lets every start go all the way.

    Args:
        generator: A `FoldedGenerator`.
        images: `(batch, height, width, channels)`.
        z0: `(batch, num_restarts, latent_dim)`.
        num_steps: Of the descent.
        move: As for `descent.iterate`.

    Returns:
        The best iterate of each start `(batch, num_restarts, latent_dim)` and its mean squared
        error `(batch, num_restarts)`.
    """
    num_restarts, latent_dim = ops.shape(z0)[1], z0.shape[-1]
    repeated_images = tf.repeat(images, num_restarts, axis=0)
    state = descent.initial_state(tf.reshape(z0, (-1, latent_dim)))
    state = descent.iterate(generator, repeated_images, state, move, (0, num_steps))
    z, errors = descent.best(generator, repeated_images, state)
    return tf.reshape(z, (-1, num_restarts, latent_dim)), tf.reshape(errors, (-1, num_restarts))


def descend_fast(generator, images, z0, num_steps, move):
    """Lets every start go a quarter of the way, and each image's best one the rest.

    Args and returns: as for `descend_reference`.
    """
    num_restarts, latent_dim = ops.shape(z0)[1], z0.shape[-1]
    screening = (0, max(1, int(_SCREENING * num_steps)))
    repeated_images = tf.repeat(images, num_restarts, axis=0)
    state = descent.initial_state(tf.reshape(z0, (-1, latent_dim)))
    state = descent.iterate(generator, repeated_images, state, move, screening)
    screened = [tf.reshape(part, (-1, num_restarts, *part.shape[1:])) for part in state]
    all_z, all_errors = screened[2:]
    nearest = tf.argmin(all_errors, axis=1)
    state = [tf.gather(part, nearest, axis=1, batch_dims=1) for part in screened]
    state = descent.iterate(generator, images, state, move, (screening[1], num_steps))
    z, errors = descent.best(generator, images, state)
    is_nearest = tf.one_hot(nearest, num_restarts, True, False)
    return (
        tf.where(is_nearest[..., None], z[:, None], all_z),
        tf.where(is_nearest, errors[:, None], all_errors),
    )


def descend_differentiably(generator, images, z, steps, move):
    """Returns G of the best iterate from one start an image, with a gradient for some steps.

    Args:
        generator: A `FoldedGenerator`.
        images: `(batch, height, width, channels)`.
        z: `(batch, latent_dim)`.
        steps: `(first, end)`: the steps that the gradient goes back through. Those before `first`
            are taken too, and count as given.
        move: As for `descent.iterate`.
    """
    state, (first, _) = descent.initial_state(z), steps
    if first:
        fixed = tf.stop_gradient(images)
        state = descent.iterate(generator, fixed, state, move, (0, first))
        state = [tf.stop_gradient(part) for part in state]
    state = descent.iterate(generator, images, state, move, steps, recompute=True)
    return generator(descent.best(generator, images, state)[0])
