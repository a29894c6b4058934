"""How a training is spread over devices and machines, and what only one of them does."""

import contextlib
import functools
import os
import signal
import threading

import tensorflow as tf
from absl import logging

from tfpurify.training import cluster, replicated_fit

# What TensorFlow raises where another worker is gone; see BUILD_NOTES.md.
_LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
)


class Distribution:
    """One training on one device, on all devices of a machine, or on those of several machines.

    `none`: `fit`, on one device. `mirrored`: each device of this machine holds the weights and
    takes its part of every batch. `multi_worker`: the same over all machines that `TF_CONFIG`
    names; each runs the same command, and the first of them, the chief, alone writes.

    Args:
        kind: One of `vocabulary.DISTRIBUTIONS`.
        batch_size: Images in a step, of all replicas together.

    Raises:
        ValueError: If `TF_CONFIG` is missing or wrong, or the replicas cannot share a batch.
    """

    def __init__(self, kind, batch_size):
        self.strategy, self.is_chief = None, True
        self._addresses = []
        if kind == "mirrored":
            self.strategy = _strategy(kind)
        elif kind == "multi_worker":
            self._addresses, own = cluster.from_environment(os.environ)
            self.is_chief = own == 0
            logging.info("Worker %d, waiting for all of %s", own, self._addresses)
            self.strategy = _strategy(kind)
        self._require_divisible(batch_size)

    def _require_divisible(self, batch_size):
        replicas = 1 if self.strategy is None else self.strategy.num_replicas_in_sync
        if batch_size % replicas:
            raise ValueError(
                f"`batch_size` must be a multiple of the {replicas} replicas that share a batch. "
                f"Received: batch_size={batch_size}"
            )

    def scope(self):
        """Returns the context in which the weights of a model are made on every replica."""
        return contextlib.nullcontext() if self.strategy is None else self.strategy.scope()

    def fit(self, model, batches, **options):
        """Trains a compiled model that was built in `scope`; arguments and result as of `fit`."""
        if self.strategy is None:
            return model.fit(batches, **options)
        if not self.is_chief:
            options["verbose"] = 0
        return replicated_fit.fit(model, self.strategy, batches, **options)

    def share(self, number):
        """Returns the number that each replica gives, in order, once every worker has called this.

        Args:
            number: Integer below 2^24.
        """
        if self.strategy is None:
            return [number]
        replicas = self.strategy.num_replicas_in_sync

        def own():
            place = tf.distribute.get_replica_context().replica_id_in_sync_group
            return float(number) * tf.one_hot(place, replicas)

        @tf.function(autograph=False)
        def all_of_them():
            return self.strategy.reduce("SUM", self.strategy.run(own), axis=None)

        return [int(value) for value in all_of_them().numpy()]

    def wait(self):
        """Comes back once every worker has called this."""
        self.share(0)

    @contextlib.contextmanager
    def needing_all(self, epochs_done):
        """Says what to do where another worker is gone, of which TensorFlow says only how it knew.

        Args:
            epochs_done: Function -> the epochs that a checkpoint holds.

        Raises:
            ConnectionError: Instead of TensorFlow's errors.
        """
        try:
            yield
        except _LOST as error:
            if len(self._addresses) < 2:
                raise
            epochs = epochs_done()
            start = f"after epoch {epochs}" if epochs else "from the beginning"
            raise ConnectionError(
                f"All workers ({', '.join(self._addresses)}) must stay until the end, and at least "
                "one is gone; its own last line says why. Start all of them again, with the same "
                f"commands: they go on {start}. Received: {_reason(error)}"
            ) from error


@functools.cache
def _strategy(kind):
    """Returns the process's one strategy: a second would number its exchanges as the first does."""
    tf.get_logger().setLevel("WARNING")  # it has several lines for every exchange
    if kind == "mirrored":
        return tf.distribute.MirroredStrategy()
    # Has to come before anything else that TensorFlow computes.
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    if threading.current_thread() is threading.main_thread():
        # TensorFlow catches SIGTERM to tell the other workers of it; then none of them ends.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    return strategy


def _reason(error):
    """Returns what TensorFlow says of a collective operation that failed, without its trace."""
    _, found, reason = str(error).partition("Collective ops is aborted")
    line, *_ = (found + reason or str(error)).strip().splitlines() or [""]
    return f"{type(error).__name__}: {line}"
