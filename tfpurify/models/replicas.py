"""What a train step owes to the other replicas of a `tf.distribute` strategy.

Outside a strategy, and with one replica, nothing here changes a number.
"""

import tensorflow as tf


def apply_mean(optimizer, gradients, variables):
    """Takes the step of a loss that is a mean over the batch, whose parts the replicas hold.

    Keras's optimizers add up the replicas' gradients, and the gradient of the whole batch's mean is
    the mean of theirs. Keras's own losses are divided by the number of replicas where they are
    made; ours are plain means.

    Args:
        optimizer: Keras's or ours.
        gradients: Of the replica's own part of the batch, one for each variable; None where there
            is none.
        variables: What to update.
    """
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    if replicas > 1:
        gradients = [None if gradient is None else gradient / replicas for gradient in gradients]
    optimizer.apply(gradients, variables)


def own_step(step):
    """Returns a number for this step that no other step of any replica has.

    Noise that is keyed by (seed, step) would be the same on every replica.

    Args:
        step: Number of the step, the same on all replicas.
    """
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return step
    own = tf.cast(context.replica_id_in_sync_group, tf.int32)
    return tf.cast(step, tf.int32) * context.num_replicas_in_sync + own
