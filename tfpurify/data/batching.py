"""Shuffled batches whose order is a function of (seed, epoch), so that a run can be resumed."""

import functools

import numpy as np
import tensorflow as tf

IN_MEMORY_BYTES = 200_000_000


def shuffled_batches(examples, batch_size, seed, epochs, initial_epoch=0, steps_per_epoch=None):
    """Batches all epochs of a run, each in an order of its own; the rest of an epoch is dropped.

    Images are held in memory when they are small as uint8, else read anew each epoch and shuffled
    within a buffer of that size.

    Args:
        examples: `tf.data.Dataset` of (uint8 image, int64 label) with known cardinality.
        batch_size: images per batch, at most the number of images.
        seed: integer.
        epochs: number of the run's last epoch + 1.
        initial_epoch: number of the first epoch to make.
        steps_per_epoch: batches that count as an epoch; a whole pass if None. Every pass over the
            images has an order of its own, however long an epoch is.

    Returns:
        `tf.data.Dataset` of (step, uint8 images, labels), where the step counts from epoch 0.
    """
    image_bytes = np.prod(examples.element_spec[0].shape)
    pass_steps = int(examples.cardinality()) // batch_size
    steps_per_epoch = steps_per_epoch or pass_steps
    first, last = initial_epoch * steps_per_epoch, epochs * steps_per_epoch
    if int(examples.cardinality()) * image_bytes <= IN_MEMORY_BYTES:
        return _from_memory(examples, batch_size, seed, first, last)
    first_pass, last_pass = first // pass_steps, -(-last // pass_steps)
    batches = _streamed(examples, batch_size, seed, last_pass, first_pass)
    return batches.skip(first - first_pass * pass_steps).take(last - first)


def _from_memory(examples, batch_size, seed, first, last):
    count = int(examples.cardinality())
    steps = count // batch_size
    all_images = np.empty((count, *examples.element_spec[0].shape), np.uint8)
    all_labels = np.empty((count,), np.int64)
    start = 0
    for images, labels in examples.batch(1024).as_numpy_iterator():
        end = start + len(labels)
        all_images[start:end], all_labels[start:end] = images, labels
        start = end
    with tf.device("CPU:0"):
        all_images, all_labels = tf.constant(all_images), tf.constant(all_labels)

    def gather(step):
        positions = step % steps * batch_size + tf.range(batch_size, dtype=tf.int64)
        # A permutation of [0, count) that needs no buffer and no generator state.
        shuffled = tf.random.experimental.index_shuffle(
            positions, tf.stack([seed, step // steps]), count - 1
        )
        return step, tf.gather(all_images, shuffled), tf.gather(all_labels, shuffled)

    step_numbers = tf.data.Dataset.range(first, last)
    return step_numbers.map(gather, num_parallel_calls=tf.data.AUTOTUNE)


def _streamed(examples, batch_size, seed, epochs, initial_epoch):
    steps = int(examples.cardinality()) // batch_size
    buffer_size = int(IN_MEMORY_BYTES // np.prod(examples.element_spec[0].shape))

    def one_epoch(epoch):
        # A seed per epoch as a Python integer: a tensor fails when TensorFlow's global seed is 0.
        shuffled = examples.shuffle(buffer_size, seed=seed + epoch, reshuffle_each_iteration=False)
        batches = shuffled.batch(batch_size, drop_remainder=True).enumerate(epoch * steps)
        return batches.map(lambda step, batch: (step, *batch))

    return functools.reduce(
        lambda done, epoch: done.concatenate(one_epoch(epoch)),
        range(initial_epoch, epochs),
        one_epoch(0).take(0),
    )
