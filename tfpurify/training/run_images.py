"""Which images a run sees, and how many steps it takes over them."""

import functools

import tensorflow as tf

from tfpurify.data import loading

_VALIDATION_BATCH_SIZE = 250
NOT_FINITE = "`images` must be finite. Received: NaN or infinity at step {} of epoch {}"


class RunImages:
    """The images of one training run.

    Args:
        config: The run's configuration.
        train_files: Patterns of TFRecords to train on; the data set's own images if there are none.
        eval_files: The same for validation.
    """

    def __init__(self, config, train_files=(), eval_files=()):
        self.config = config
        self.spec = loading.get_spec(config["dataset"])
        self.train_files, self.eval_files = list(train_files), list(eval_files)

    @functools.cached_property
    def source(self):
        """Where the images come from; found late, so that a missing part costs no download."""
        return loading.resolve_source(
            self.config["dataset"], self.config["data_dir"], self.config["data_source"]
        )

    def batches(self, split, limit=None):
        """Returns a split as batches, the first `limit` images of it."""
        if split == "validation" and self.eval_files:
            dataset = loading.examples_from_files(self.eval_files, self.spec)
        else:
            dataset = loading.load_dataset(
                self.config["dataset"], split, self.config["data_dir"], self.source
            )
        if limit is not None:
            dataset = dataset.take(limit)
        return dataset.batch(_VALIDATION_BATCH_SIZE).prefetch(2)

    def validation_batches(self):
        """Returns what is measured after each epoch."""
        return self.batches("validation", self.config["validation_examples"])

    def training_batches(self, passes=None, initial_epoch=0):
        """Returns the batches of all epochs to come; they end in an error at NaN or infinity.

        Args:
            passes: Whole passes over the images; the configuration's epochs if None.
            initial_epoch: How many epochs are done.
        """
        batches, steps_per_epoch = self._training_batches(passes, initial_epoch)
        return _require_finite(batches, initial_epoch, self._capped(steps_per_epoch))

    def plan(self, passes=None):
        """Returns the steps of an epoch and the number of epochs."""
        _, steps_per_epoch = self._training_batches(passes)
        epochs, steps_per_epoch = passes or self.config["epochs"], self._capped(steps_per_epoch)
        cap = self.config["train_steps"]
        return steps_per_epoch, epochs if cap is None else min(epochs, cap // steps_per_epoch)

    def _capped(self, steps_per_epoch):
        return min(steps_per_epoch, self.config["train_steps"] or steps_per_epoch)

    def _training_batches(self, passes, initial_epoch=0):
        return loading.training_batches(
            self.config["dataset"],
            self.config["batch_size"],
            self.config["seed"],
            passes or self.config["epochs"],
            initial_epoch=initial_epoch,
            augment=self.config.get("augment"),
            data_dir=self.config["data_dir"],
            source=self.source,
            train_files=self.train_files or None,
            steps_per_epoch=self.config["steps_per_epoch"] if passes is None else None,
        )


def _require_finite(batches, initial_epoch, steps_per_epoch):
    """Returns the batches, which end in an error at NaN or infinity: a ReLU makes zeros of them."""

    def check(index, batch):
        place = (index % steps_per_epoch + 1, initial_epoch + index // steps_per_epoch + 1)
        is_finite = tf.reduce_all(tf.math.is_finite(batch[0]))
        with tf.control_dependencies(
            [tf.debugging.Assert(is_finite, [tf.strings.format(NOT_FINITE, place)])]
        ):
            return tf.nest.map_structure(tf.identity, batch)

    return batches.enumerate().map(check)
