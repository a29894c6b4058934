"""A trained defence, by name, as a bundle or as one file of another runtime."""

from pathlib import Path

import numpy as np
from absl import logging

from tfpurify.data import loading
from tfpurify.evaluation import detection
from tfpurify.serving.companion_files import companion_files
from tfpurify.serving.onnx_and_litert import export_litert, export_onnx
from tfpurify.serving.saved_model import export_classifier, export_purified_classifier
from tfpurify.training import configuration, trained_parts

_FALSE_ALARMS = 0.01  # share of clean validation images that are flagged
_FILES = {"onnx": (export_onnx, ".onnx"), "litert": (export_litert, ".tflite")}


def export_trained(
    dataset,
    defense,
    *,
    output_dir,
    classifier=None,
    format="saved_model",
    projector=None,
    time_budget_ms=None,
    calibration_examples=1000,
    name=None,
    data_dir=None,
    data_source="auto",
):
    """Exports a defence and returns the path of the version or of the file.

    Args:
        dataset: Name of the data set.
        defense: One of `vocabulary.DEFENSES`.
        output_dir: Where `saved_models/` is written, and whose `runs/` go before the zoo.
        classifier: Name of the classifier's network; the study's if None.
        format: `saved_model`, `onnx` or `litert`.
        projector: DefenseGAN's, `fast` or `reference`; fast where there is an encoder if None.
        time_budget_ms: Milliseconds for an image that the fast projector may take here.
        calibration_examples: Clean validation images that the threshold of the flag comes from.
        name: Of the bundle; `DEFENSE_DATASET_CLASSIFIER` if None.
        data_dir: As for `load_dataset`.
        data_source: As for `load_dataset`.

    Raises:
        ValueError: If a part is not trained, or an option does not fit the defence.
        OSError: If the folder cannot be written.
    """
    configuration.require_name(name)
    architecture = classifier or loading.get_spec(dataset).default_classifier
    descent = {} if time_budget_ms is None else {"time_budget_ms": time_budget_ms}
    if defense.startswith("defensegan"):
        defense = _with_projector(dataset, defense, output_dir, projector)
    elif projector is not None or descent:
        raise ValueError(
            "`projector` and `time_budget_ms` need a DefenseGAN. Received: "
            f"defense={defense}, projector={projector}, time_budget_ms={time_budget_ms}"
        )
    if defense == "none" and format in _FILES:
        raise ValueError(f"`format={format}` needs a purifier, a PuVAE. Received: defense=none")
    parts = trained_parts.classifier_parts(dataset, architecture)
    target = trained_parts.load_deployed(defense, dataset, output_dir, architecture, **descent)
    name = f"{defense}_{dataset}_{architecture}" if name is None else name
    folder = Path(output_dir) / "saved_models" / name
    if format in _FILES:
        export, suffix = _FILES[format]
        path = folder.with_name(name + suffix)
        export(target, path)
    elif defense == "none":
        files = companion_files(name, parts, output_dir, target.image_shape)
        path = export_classifier(target, folder, files)
    else:
        parts += trained_parts.purifier_parts(defense, dataset)
        source = loading.resolve_source(dataset, data_dir, data_source)
        images = loading.load_dataset(dataset, "validation", data_dir, source)
        batches = images.take(calibration_examples).batch(50)
        errors = detection.errors_over(batches, target.purifier)
        threshold = float(np.quantile(errors, 1.0 - _FALSE_ALARMS))
        flag = (
            f"`is_flagged`: the reconstruction error is above {threshold:.6g}, the "
            f"{1 - _FALSE_ALARMS:.0%} quantile of {len(errors)} clean validation images ({source})."
        )
        files = companion_files(name, parts, output_dir, target.purifier.image_shape, flag)
        path = export_purified_classifier(target, folder, threshold, files)
    logging.info("%s: %s", format, path)
    return path


def _with_projector(dataset, defense, output_dir, projector):
    """Returns a DefenseGAN's name; with the fast projector it has another."""
    if defense == "defensegan" and projector != "reference":
        parts = trained_parts.purifier_parts("defensegan_fast", dataset)
        is_there = all(trained_parts.is_trained(part.name, output_dir) for part in parts)
        if is_there or projector == "fast":
            defense = "defensegan_fast"
    if (projector == "fast") != (defense == "defensegan_fast") and projector is not None:
        raise ValueError(
            "`projector` must be that of the defense. "
            f"Received: projector={projector}, defense={defense}"
        )
    logging.info("DefenseGAN: the %s projector", "fast" if "fast" in defense else "reference")
    return defense
