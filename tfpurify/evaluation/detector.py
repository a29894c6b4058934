"""Measures a trained purifier as a detector: what `trainers.detect` does.

Apart from `detection`, whose lines the report reads without TensorFlow.
"""

import dataclasses

import numpy as np

from tfpurify import provenance
from tfpurify.attacks.pgd import PGD
from tfpurify.data import loading
from tfpurify.evaluation import detection
from tfpurify.evaluation.defences import load_defence
from tfpurify.evaluation.trained_advgans import load_advgans
from tfpurify.models.losses import projection_error
from tfpurify.models.tracing import trace_images
from tfpurify.purifiers.base import detector_penalty
from tfpurify.vocabulary import STUDY_EPSILON

_ROC_POINTS = 101  # of a curve, as it is stored


def measure_detector(options, show):
    """Measures a detector against each attack, and writes down what comes out.

    Args:
        options: `trainers.detect`'s flags by name.
        show: Function of a line, called as soon as it is measured.

    Returns:
        The lines.

    Raises:
        ValueError: If a part is not trained.
    """
    dataset, data_dir = options["dataset"], options["data_dir"]
    source = loading.resolve_source(dataset, data_dir, options["data_source"])
    validation, test = (
        loading.load_dataset(dataset, split, data_dir, source).take(options["clean_limit"])
        for split in ("validation", "test")
    )
    epsilon = STUDY_EPSILON if options["epsilon"] is None else options["epsilon"]
    defence = load_defence(
        dataset, options["defense"], "whitebox", options["output_dir"], options.get("classifier")
    )
    look = _trace(defence)
    validation_errors, clean = (
        np.concatenate([look(images)[0] for images, _ in split.batch(50)])
        for split in (validation, test)
    )
    thresholds = np.quantile(validation_errors, 1.0 - np.array(detection.FALSE_ALARMS)).tolist()
    lines = []
    for fields, attacks, limit in _attacks_on(defence, thresholds, epsilon, options):
        line = {
            **_measure(look, test.take(limit).batch(50), attacks, clean, thresholds),
            **fields,
            "dataset": dataset,
            "data_source": source,
            "split": "test",
            "classifier": options.get("classifier") or loading.get_spec(dataset).default_classifier,
            "purifier": options["defense"],
            "epsilon": epsilon,
            "seed": options["seed"],
            "command": provenance.portable_command(provenance.command_line()),
            "versions": provenance.versions(),
        }
        lines.append({key: line[key] for key in detection.DETECTION_KEYS})
        if options["results_file"]:
            detection.update_detection(options["results_file"], lines[-1:])
        show(lines[-1])
    return lines


def _trace(defence):
    """Returns a function of images: their errors and classes, `(n,)` each, from one pass."""

    def look(images):
        purified_images = defence.purifier(images, training=False)
        errors = projection_error(images, purified_images)
        return errors, defence.classifier(purified_images, training=False)

    traced = trace_images(look, defence.classifier.image_shape)

    def look_at(images):
        errors, logits = traced(images)
        return np.asarray(errors), np.asarray(logits).argmax(axis=1)

    return look_at


def _attacks_on(defence, thresholds, epsilon, options):
    """Yields a line's own fields, the attacks that it is of, and the cap on their images."""
    mode, limit = defence.modes[0], options["limit"]

    def pgd(target, penalty=None):
        return PGD(target, epsilon, options["num_steps"], seed=options["seed"], penalty=penalty)

    blind = {"threat_model": "blind", "gradient_mode": None, "knows_detector": False}
    attacker = dataclasses.replace(defence, threat_model="blind")
    for model in load_advgans(
        attacker, epsilon, options["output_dir"], architecture=options.get("classifier")
    ).models.values():
        yield {**blind, "attack": "advgan"}, [model], options["clean_limit"]
    yield {**blind, "attack": "pgd"}, [pgd(defence.classifier)], limit
    target = defence.target(mode)
    knowing = {"threat_model": "whitebox", "gradient_mode": mode, "attack": "pgd"}
    yield {**knowing, "knows_detector": False}, [pgd(target)], limit
    penalties = [detector_penalty(defence.purifier, threshold) for threshold in thresholds]
    aware = [pgd(target, penalty) for penalty in penalties]
    yield {**knowing, "knows_detector": True}, aware, limit


def _measure(look, batches, attacks, clean, thresholds):
    """Returns what a line tells of attacks, any of which may succeed with an image.

    The curve and its area are the last one's.
    """
    right, errors, fooled = [], [[] for _ in attacks], [[] for _ in attacks]
    for images, labels in batches:
        right.append(look(images)[1] == np.asarray(labels))
        for index, attack in enumerate(attacks):
            found, after = look(attack(images, labels))
            errors[index].append(found)
            fooled[index].append(right[-1] & (after != np.asarray(labels)))
    right = np.concatenate(right)
    errors, fooled = (np.stack([np.concatenate(x) for x in found]) for found in (errors, fooled))
    false, true, area = detection.roc_curve(clean, errors[-1])
    points = np.linspace(0.0, 1.0, _ROC_POINTS)
    undetected = [np.any(fooled & (errors <= threshold), axis=0) for threshold in thresholds]
    return {
        "n": len(right),
        "auc": area,
        "false_positive_rates": points.tolist(),
        "true_positive_rates": np.interp(points, false, true).tolist(),
        "thresholds": thresholds,
        "false_alarms": [float(np.mean(clean > threshold)) for threshold in thresholds],
        "success_rate": float(np.any(fooled, axis=0).sum() / right.sum()),
        "undetected_success_rates": [float(found.sum() / right.sum()) for found in undetected],
    }
