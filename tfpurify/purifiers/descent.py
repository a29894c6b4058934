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


def in_chunks(descend, images, z0, chunk_size, num_restarts):
    """Descends for some images after the others, so that memory does not grow with the batch.

    Args:
        descend: Function of images and starts -> z `(chunk, num_restarts, latent_dim)` and errors
            `(chunk, num_restarts)`.
        images: `(batch, height, width, channels)`.
        z0: Starts of each image `(batch, any, latent_dim)`.
        chunk_size: Images that descend at once.
        num_restarts: How many starts `descend` returns for each image.

    Returns:
        z and errors of the whole batch.
    """
    count = tf.shape(images)[0]
    num_chunks = -(-count // chunk_size)

    def descend_chunk(index, all_z, all_errors):
        rows = slice(index * chunk_size, (index + 1) * chunk_size)
        z, errors = descend(images[rows], z0[rows])
        return index + 1, all_z.write(index, z), all_errors.write(index, errors)

    def new_array():
        return tf.TensorArray(tf.float32, size=num_chunks, infer_shape=False)

    _, all_z, all_errors = tf.while_loop(
        lambda index, *_: index < num_chunks,
        descend_chunk,
        (0, new_array(), new_array()),
        parallel_iterations=1,
    )
    return (
        tf.reshape(all_z.concat(), (count, num_restarts, z0.shape[-1])),
        tf.reshape(all_errors.concat(), (count, num_restarts)),
    )
