"""What every trainer does around its model: folders, data, checkpoints, logs, records, exports."""

import contextlib
import csv
import functools
import json
import os
import re
import shutil
import time
from pathlib import Path

import keras
import tensorflow as tf
from absl import logging
from tensorboard.plugins.hparams import api as hparams

from tfpurify import provenance
from tfpurify.attacks.dead_gradient import naming_the_layer
from tfpurify.data import loading
from tfpurify.files import write_aside
from tfpurify.training import configuration, distribution, naming, run_folder, trained_parts
from tfpurify.training.callbacks import CpuSeconds, ImageRow, StopOnNonFiniteLoss
from tfpurify.training.checkpoints import EpochCheckpoint, KeepBest

VALIDATION_BATCH_SIZE = 250
_NOT_FINITE = "`images` must be finite. Received: NaN or infinity at step {} of epoch {}"


class Run:
    """One training run, resumable.

    Writes `{output_dir}/runs/NAME/`: `config.json`, `checkpoints/`, `tensorboard/`, `record.jsonl`,
    `summary.json` and `model.keras`; SavedModels go to `{output_dir}/saved_models/NAME/VERSION/`,
    or to `fn_args.serving_model_dir` where TFX gives one.

    Args:
        trainer: The trainer's name.
        fn_args: `FnArgs`, TFX's or ours.

    Raises:
        ValueError: If the configuration is wrong.
        OSError: If the output folder cannot be written.
    """

    def __init__(self, trainer, fn_args):
        self.trainer = trainer
        self.config = configuration.resolve(trainer, fn_args.custom_config)
        if fn_args.train_steps:
            self.config["train_steps"] = fn_args.train_steps
        self.train_files = list(fn_args.train_files or [])
        self.eval_files = list(fn_args.eval_files or [])
        self.name = naming.run_name(trainer, self.config)
        self.spec = loading.get_spec(self.config["dataset"])
        self.output_dir = Path(self.config["output_dir"])
        self.folder = Path(fn_args.model_run_dir or self.output_dir / "runs" / self.name)
        self.serving_model_dir = fn_args.serving_model_dir
        self.started = time.time()
        self.resumed_after_epoch = 0
        self._is_prepared = False
        run_folder.require_writable(self.folder)
        self.distribution = distribution.Distribution(
            self.config["distribution"], self.config["batch_size"]
        )
        for name in ("base_model", "hyperparameters"):
            if getattr(fn_args, name, None):
                logging.warning("fn_args.%s is not used by this trainer", name)
        keras.utils.set_random_seed(self.config["seed"])
        logging.info("%s: %s", self.name, json.dumps(self.config, sort_keys=True))

    def _prepare_folder(self):
        """Makes the run's folder, once all that the run needs is known to be there."""
        if self._is_prepared:
            return
        config = {"trainer": self.trainer, "source": self.source, **self.config}
        if self.train_files:
            config["train_files"] = self.train_files
        if self.eval_files:
            config["eval_files"] = self.eval_files
        if self.config["resume"]:
            run_folder.require_same_config(self.folder, config)
        if self.is_chief:
            run_folder.begin(self.folder, config)
        self.distribution.wait()
        run_folder.require_chief_s_config(self.folder, config)
        self._is_prepared = True

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
        return dataset.batch(VALIDATION_BATCH_SIZE).prefetch(2)

    def classifier(self):
        """Returns the trained classifier that this run's configuration names."""
        return trained_parts.load_classifier(
            self.config["dataset"], self.output_dir, self.config["classifier"]
        )

    @contextlib.contextmanager
    def precision(self):
        """Builds models in bfloat16 inside, if the configuration asks for it."""
        before = keras.config.dtype_policy()
        try:
            if self.config["mixed_precision"]:
                keras.config.set_dtype_policy("mixed_bfloat16")
            yield
        finally:
            keras.config.set_dtype_policy(before)

    @property
    def is_chief(self):
        """Whether this worker writes: all but one only train."""
        return self.distribution.is_chief

    def scope(self):
        """Returns the context in which models are built that the run trains."""
        return self.distribution.scope()

    def in_scope(self, model):
        """Returns a part for a model that is built now: it, or a copy where a strategy has one."""
        if self.distribution.strategy is None:
            return model
        copy = type(model).from_config(model.get_config())
        copy.build()
        copy.set_weights(model.get_weights())
        return copy

    def in_precision(self, classifier):
        """Returns a classifier in the precision in which models are built now: it or a copy."""
        if classifier.dtype_policy == keras.config.dtype_policy():
            return self.in_scope(classifier)
        config = {k: v for k, v in classifier.get_config().items() if k != "dtype"}
        copy = type(classifier).from_config(config)
        copy.build()
        copy.set_weights(classifier.get_weights())
        return copy

    def total_steps(self, epochs=None):
        """Returns the number of steps of a whole training, for its schedule."""
        steps_per_epoch, epochs = self._plan(epochs)
        return steps_per_epoch * epochs

    def _plan(self, epochs=None):
        _, steps_per_epoch = self._training_batches(epochs)
        epochs = epochs or self.config["epochs"]
        cap = self.config["train_steps"]
        if cap is None:
            return steps_per_epoch, epochs
        steps_per_epoch = min(steps_per_epoch, cap)
        return steps_per_epoch, min(epochs, cap // steps_per_epoch)

    def _training_batches(self, epochs=None, initial_epoch=0):
        """Returns batches of the run's own epochs; of `epochs` whole passes, if given."""
        return loading.training_batches(
            self.config["dataset"],
            self.config["batch_size"],
            self.config["seed"],
            epochs or self.config["epochs"],
            initial_epoch=initial_epoch,
            augment=self.config.get("augment"),
            data_dir=self.config["data_dir"],
            source=self.source,
            train_files=self.train_files or None,
            steps_per_epoch=self.config.get("steps_per_epoch") if epochs is None else None,
        )

    def full_precision(self, model, build):
        """Returns the trained model in float32, on one device: itself, or one with its weights."""
        if not self.config["mixed_precision"] and self.distribution.strategy is None:
            return model
        full = build()
        full.set_weights(model.get_weights())
        return full

    def train(self, model, image_row=None, stage=".", epochs=None, best=None):
        """Fits a compiled model, from the last checkpoint if there is one.

        Args:
            model: Compiled and built.
            image_row: Function images -> dictionary of name -> images, drawn each epoch.
            stage: Folder of this training within the run's, if there are several.
            epochs: Whole passes over the images; the configuration's epochs if None.
            best: Validation metric whose highest epoch the model is left with; the last if None.

        Returns:
            The logs of the epoch that the model is left with.

        Raises:
            ConnectionError: If another worker is gone.
            FloatingPointError: If a loss is not finite.
            ValueError: If an attack's gradient is dead; names the layer in which it died.
        """
        checkpoints = EpochCheckpoint(self.folder / stage / "checkpoints")
        with self.distribution.needing_all(checkpoints.last_epoch):
            return self._train(model, image_row, stage, epochs, best, checkpoints)

    def _train(self, model, image_row, stage, epochs, best, checkpoints):
        self._prepare_folder()
        folder = self.folder / stage
        with self.scope():
            initial_epoch = checkpoints.restore(model) if self.config["resume"] else 0
        run_folder.require_same_epoch(folder, self.distribution.share(initial_epoch))
        self.resumed_after_epoch = initial_epoch
        passes = epochs
        steps_per_epoch, epochs = self._plan(passes)
        keep_best = KeepBest(folder, best)
        if initial_epoch >= epochs:
            logging.info("%s is already trained for %d epochs", folder, initial_epoch)
            keep_best.restore(model, {})
            return {}
        callbacks = [StopOnNonFiniteLoss(), CpuSeconds()]
        images, labels = next(iter(self.batches("validation", limit=8)))
        if self.is_chief:
            log_dir, history = str(folder / "tensorboard"), folder / "history.csv"
            self._write_hparams(log_dir)
            run_folder.cut_history(history, initial_epoch)
            callbacks += [
                keras.callbacks.CSVLogger(str(history), append=True),
                keep_best,
                checkpoints,  # after these: an epoch that is cut off before it is run again
                keras.callbacks.TensorBoard(log_dir, write_graph=False),
            ]
            if image_row is not None:
                callbacks.append(ImageRow(log_dir, images, image_row))
        try:
            with naming_the_layer(getattr(model, "target", model), images, labels):
                fitted = self.distribution.fit(
                    model,
                    _require_finite(
                        self._training_batches(passes, initial_epoch)[0],
                        initial_epoch,
                        steps_per_epoch,
                    ),
                    steps_per_epoch=steps_per_epoch,
                    epochs=epochs,
                    initial_epoch=initial_epoch,
                    validation_data=self._validation_batches(),
                    callbacks=callbacks,
                    verbose="auto",
                )
        except (FloatingPointError, ValueError, tf.errors.InvalidArgumentError) as error:
            if self.is_chief and not run_folder.has_checkpoints(self.folder):
                shutil.rmtree(self.folder)
            not_finite = re.search(_NOT_FINITE.format(r"\d+", r"\d+"), str(error))
            if not_finite:  # TensorFlow puts its own trace around it
                raise FloatingPointError(not_finite[0]) from error
            raise
        self.distribution.wait()  # until the chief has written the last epoch
        last = {name: values[-1] for name, values in fitted.history.items()}
        return keep_best.restore(model, last)

    def _validation_batches(self):
        return self.batches("validation", self.config["validation_examples"])

    def _write_hparams(self, log_dir):
        with tf.summary.create_file_writer(log_dir).as_default():
            hparams.hparams(
                {
                    name: value if isinstance(value, (int, float, str, bool)) else str(value)
                    for name, value in self.config.items()
                },
                trial_id=self.name,
            )

    def save(self, model):
        """Writes `model.keras`."""
        path = self.folder / "model.keras"
        aside = self.folder / ".model.keras"
        try:
            model.save(aside)
            os.replace(aside, path)
        finally:
            aside.unlink(missing_ok=True)
        logging.info("%s is in %s", self.name, path)

    def wait_for_chief(self):
        """Comes back when the chief ends the run: what is left is its work alone.

        Raises:
            ConnectionError: If it does not get there.
        """
        checkpoints = EpochCheckpoint(self.folder / "checkpoints")
        with self.distribution.needing_all(checkpoints.last_epoch):
            self.distribution.wait()

    def summarize(self, model, logs):
        """Writes `summary.json`: command, versions, time, validation figures. It ends a run.

        Args:
            model: Compiled; measured on validation images if `logs` has nothing of them.
            logs: What `train` returned.
        """
        self._write_summary(model, logs)
        self.distribution.wait()

    def _write_summary(self, model, logs):
        path = self.folder / "summary.json"
        if not logs and path.exists():
            return
        validation = {
            name.removeprefix("val_"): value
            for name, value in logs.items()
            if name.startswith("val_")
        } or model.evaluate(self._validation_batches(), return_dict=True, verbose=0)
        summary = {
            "name": self.name,
            "trainer": self.trainer,
            "command": provenance.command_line(),
            "seed": self.config["seed"],
            "dataset": self.config["dataset"],
            "versions": provenance.versions(),
            "wall_seconds": round(time.time() - self.started, 1),
            "cpu_seconds": self._cpu_seconds(),
            "resumed_after_epoch": self.resumed_after_epoch,
            "validation": validation,
        }
        write_aside(path, json.dumps(summary, indent=2, sort_keys=True) + "\n")

    def _cpu_seconds(self):
        """Returns the processor time of all epochs, also before a pause; None if unknown."""
        rows = []
        for path in self.folder.glob("**/history.csv"):
            with open(path, newline="", encoding="utf-8") as file:
                rows += csv.DictReader(file)
        try:
            return round(sum(float(row["cpu_seconds"]) for row in rows), 1)
        except (KeyError, TypeError, ValueError):  # written without it, or cut off by a full disk
            return None

    def export(self, exporter, model, name=None, is_serving=True):
        """Exports a SavedModel.

        Args:
            exporter: A function of `tfpurify.serving.saved_model`.
            model: What it exports.
            name: Of the bundle; the run's if None.
            is_serving: Whether this is what `fn_args.serving_model_dir` is for.
        """
        if self.serving_model_dir and is_serving:
            serving = Path(self.serving_model_dir)
            version = exporter(model, serving.parent / f".{serving.name}")
            if serving.exists():
                os.replace(serving, version.parent / "before")
            os.replace(version, serving)
            shutil.rmtree(version.parent)
        else:
            base = self.folder if self.serving_model_dir else self.output_dir
            serving = exporter(model, base / "saved_models" / (name or self.name))
        logging.info("SavedModel: %s", serving)


def cosine(config, total_steps):
    """Returns a schedule up to `learning_rate` in a twentieth of the steps, and down to zero."""
    warmup_steps = total_steps // 20
    return keras.optimizers.schedules.CosineDecay(
        config["learning_rate"] / 100,
        total_steps - warmup_steps,
        warmup_target=config["learning_rate"],
        warmup_steps=warmup_steps,
    )


def _require_finite(batches, initial_epoch, steps_per_epoch):
    """Returns the batches, which end in an error at NaN or infinity: a ReLU makes zeros of them."""

    def check(index, batch):
        place = (index % steps_per_epoch + 1, initial_epoch + index // steps_per_epoch + 1)
        is_finite = tf.reduce_all(tf.math.is_finite(batch[0]))
        with tf.control_dependencies(
            [tf.debugging.Assert(is_finite, [tf.strings.format(_NOT_FINITE, place)])]
        ):
            return tf.nest.map_structure(tf.identity, batch)

    return batches.enumerate().map(check)
