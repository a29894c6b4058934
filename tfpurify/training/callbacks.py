"""What happens each epoch: its time, image rows, a stop where a loss is not finite."""

import math
import os
import time

import keras
import tensorflow as tf


class CpuSeconds(keras.callbacks.Callback):
    """Adds `cpu_seconds` to an epoch's logs: processor time of this process since the last one."""

    def on_train_begin(self, logs=None):
        self.before = time.process_time()

    def on_epoch_end(self, epoch, logs=None):
        now = time.process_time()
        logs["cpu_seconds"] = round(now - self.before, 1)
        self.before = now


class StopOnNonFiniteLoss(keras.callbacks.Callback):
    """Raises FloatingPointError as soon as any logged loss is not finite.

    `keras.callbacks.TerminateOnNaN` looks at `loss` alone; AdvGAN and DCGAN have several.
    """

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        for name, value in (logs or {}).items():
            if not math.isfinite(value):
                raise FloatingPointError(
                    f"`{name}` must be finite. Received: {value} at step {batch + 1} of epoch "
                    f"{self.epoch + 1}"
                )


class ImageRow(keras.callbacks.Callback):
    """Draws a row of images for TensorBoard each epoch.

    Args:
        log_dir: TensorBoard's folder.
        images: `(n, height, width, channels)` in [0, 1].
        image_row: Function images -> dictionary of name -> images in [0, 1].
    """

    def __init__(self, log_dir, images, image_row):
        super().__init__()
        self.writer = tf.summary.create_file_writer(os.path.join(log_dir, "images"))
        self.images = images
        self.image_row = image_row

    def on_epoch_end(self, epoch, logs=None):
        rows = {"clean": self.images, **self.image_row(self.images)}
        with self.writer.as_default(step=epoch):
            for name, images in rows.items():
                row = tf.concat(tf.unstack(images[:8]), axis=1)
                tf.summary.image(name, row[None])
        self.writer.flush()
