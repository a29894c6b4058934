"""What every trainer does around its model, from its settings to what it leaves behind."""

import contextlib
import json
import os
import re
import shutil
import time
from pathlib import Path

import keras
import tensorflow as tf
from absl import logging

from tfpurify.attacks.dead_gradient import explain_dead_gradient
from tfpurify.training import (
    configuration,
    distribution,
    naming,
    run_folder,
    run_summary,
    trained_parts,
)
from tfpurify.training.callbacks import CpuSeconds, ImageRow, StopOnNonFiniteLoss
from tfpurify.training.checkpoints import EpochCheckpoint, KeepBest
from tfpurify.training.run_images import NOT_FINITE, RunImages


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
        self.images = RunImages(self.config, fn_args.train_files or (), fn_args.eval_files or ())
        self.name = naming.run_name(trainer, self.config)
        self.spec = self.images.spec
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
        config = {"trainer": self.trainer, "source": self.images.source, **self.config}
        for name in ("train_files", "eval_files"):
            if getattr(self.images, name):
                config[name] = getattr(self.images, name)
        if self.config["resume"]:
            run_folder.require_same_config(self.folder, config)
        if self.is_chief:
            run_folder.begin(self.folder, config)
        self.distribution.wait()
        run_folder.require_chief_s_config(self.folder, config)
        self._is_prepared = True

    def classifier(self):
        """Returns the trained classifier that this run's configuration names."""
        return trained_parts.load_classifier(
            self.config["dataset"], self.output_dir, self.config["classifier"]
        )

    @contextlib.contextmanager
    def _precision(self):
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

    def total_steps(self, passes=None):
        """Returns the number of steps of a whole training, for its schedule."""
        steps_per_epoch, epochs = self.images.plan(passes)
        return steps_per_epoch * epochs

    def build_model(self, build):
        """Returns what `build()` makes, in the precision and on the devices that train it."""
        with self.scope(), self._precision():
            return build()

    def train(self, model, image_row=None, stage=".", passes=None, best=None):
        """Fits a compiled model, from the last checkpoint if there is one.

        Args:
            model: Compiled and built.
            image_row: Function images -> dictionary of name -> images, drawn each epoch.
            stage: Folder of this training within the run's, if there are several.
            passes: Whole passes over the images; the configuration's epochs if None.
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
            return self._train(model, image_row, stage, passes, best, checkpoints)

    def _train(self, model, image_row, stage, passes, best, checkpoints):
        self._prepare_folder()
        folder = self.folder / stage
        with self.scope():
            initial_epoch = checkpoints.restore(model) if self.config["resume"] else 0
        run_folder.require_same_epoch(folder, self.distribution.share(initial_epoch))
        self.resumed_after_epoch = initial_epoch
        steps_per_epoch, epochs = self.images.plan(passes)
        keep_best = KeepBest(folder, best)
        if initial_epoch >= epochs:
            logging.info("%s is already trained for %d epochs", folder, initial_epoch)
            keep_best.restore(model, {})
            return {}
        callbacks = [StopOnNonFiniteLoss(), CpuSeconds()]
        images, labels = next(iter(self.images.batches("validation", limit=8)))
        if self.is_chief:
            log_dir, history = str(folder / "tensorboard"), folder / "history.csv"
            run_summary.write_hparams(log_dir, self)
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
            with explain_dead_gradient(getattr(model, "target", model), images, labels):
                fitted = self.distribution.fit(
                    model,
                    self.images.training_batches(passes, initial_epoch),
                    steps_per_epoch=steps_per_epoch,
                    epochs=epochs,
                    initial_epoch=initial_epoch,
                    validation_data=self.images.validation_batches(),
                    callbacks=callbacks,
                    verbose="auto",
                )
        except (FloatingPointError, ValueError, tf.errors.InvalidArgumentError) as error:
            if self.is_chief and not run_folder.has_checkpoints(self.folder):
                shutil.rmtree(self.folder)
            not_finite = re.search(NOT_FINITE.format(r"\d+", r"\d+"), str(error))
            if not_finite:  # TensorFlow puts its own trace around it
                raise FloatingPointError(not_finite[0]) from error
            raise
        self.distribution.wait()  # until the chief has written the last epoch
        last = {name: values[-1] for name, values in fitted.history.items()}
        return keep_best.restore(model, last)

    def finish(self, model, logs, build, measure_and_export, before_saving=None):
        """Ends a run whose training is over: `model.keras`, its record, its exports, its summary.

        The chief alone does it; the other workers come back when it is done.

        Args:
            model: The trained one.
            logs: What `train` returned.
            build: Function () -> the same model, compiled, as given to `build_model`.
            measure_and_export: Function of the trained model, in float32 and on one device, that
                writes the record and what is served.
            before_saving: Function of the same model, if something is left to be done to it.

        Raises:
            ConnectionError: If the chief is gone.
        """
        if not self.is_chief:
            checkpoints = EpochCheckpoint(self.folder / "checkpoints")
            with self.distribution.needing_all(checkpoints.last_epoch):
                self.distribution.wait()
            return
        if self.config["mixed_precision"] or self.distribution.strategy is not None:
            trained, model = model, build()
            model.set_weights(trained.get_weights())
        if before_saving is not None:
            before_saving(model)
        self._save(model)
        measure_and_export(model)
        run_summary.write_summary(self, model, logs)
        self.distribution.wait()

    def _save(self, model):
        path, aside = self.folder / "model.keras", self.folder / ".model.keras"
        try:
            model.save(aside)
            os.replace(aside, path)
        finally:
            aside.unlink(missing_ok=True)
        logging.info("%s is in %s", self.name, path)

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
