"""A purifier as a detector: `python -m trainers.detect --dataset=mnist --defense=puvae`.

An image that the purifier moves far is taken for attacked. The thresholds come from clean
validation images; the attacks are a blind AdvGAN, a blind PGD, and PGD that knows the purifier,
without and with the detector.
"""

import json
from pathlib import Path

from absl import flags

from tfpurify import provenance, vocabulary
from tfpurify.registry import DEFENCES
from trainers import _flags

_DETECTORS = tuple(name for name, entry in DEFENCES.items() if entry.is_detector)
_ROC_POINTS = 101  # of a curve, as it is stored


def define_flags():
    """Defines the flags and returns their names; only `main` calls this."""
    before = set(flags.FLAGS)
    _flags.define_data()
    flags.DEFINE_enum("defense", "puvae", _DETECTORS, "Purifier.")
    flags.DEFINE_float("epsilon", None, "L-inf bound on the perturbation; the study's 0.2.")
    flags.DEFINE_integer("num_steps", 40, "Steps of PGD.", lower_bound=1)
    flags.DEFINE_integer("limit", 100, "Cap on the test images of PGD.", lower_bound=1)
    flags.DEFINE_integer("clean_limit", 1000, "Cap on all other images.", lower_bound=1)
    flags.DEFINE_integer("seed", 0, "Seed of PGD's starts.", lower_bound=0)
    flags.DEFINE_string("output_dir", None, "Folder whose runs/ go before the zoo.")
    flags.DEFINE_string("results_file", None, "JSON lines file in which lines replace older ones.")
    return set(flags.FLAGS) - before


def detect(options):
    """Measures the detector against each attack and returns the lines.

    Args:
        options: The flags by name.

    Raises:
        ValueError: If a part is not trained.
    """
    import numpy as np

    from tfpurify.data import loading
    from tfpurify.evaluation import detection
    from tfpurify.evaluation.defences import load_defence
    from tfpurify.vocabulary import STUDY_EPSILON

    dataset, source_flags = options["dataset"], (options["data_dir"], options["data_source"])
    source = loading.resolve_source(dataset, *source_flags)
    splits = {
        split: loading.load_dataset(dataset, split, options["data_dir"], source)
        .take(options["clean_limit"])
        .batch(50)
        for split in ("validation", "test")
    }
    epsilon = STUDY_EPSILON if options["epsilon"] is None else options["epsilon"]
    defence = load_defence(dataset, options["defense"], "whitebox", options["output_dir"])
    scores = _Scores(defence)
    validation = scores.of(splits["validation"])
    thresholds = [float(np.quantile(validation, 1.0 - rate)) for rate in detection.FALSE_ALARMS]
    clean = scores.of(splits["test"])
    lines = []
    for words, attacks, limit in _attacks_on(defence, thresholds, epsilon, options):
        batches = (
            splits["test"] if limit is None else splits["test"].unbatch().take(limit).batch(50)
        )
        line = _measure(scores, batches, attacks, clean, thresholds)
        lines.append(_line(line, words, source, epsilon, options))
        if options["results_file"]:
            detection.update_detection(Path(options["results_file"]), lines[-1:])
        shown = ("threat_model", "attack", "knows_detector", "n", "auc", "success_rate")
        shown += ("undetected_success_rates",)
        print(json.dumps({name: lines[-1][name] for name in shown}))
    return lines


class _Scores:
    """The errors and the predictions of a defence, from one pass of its purifier."""

    def __init__(self, defence):
        from tfpurify.models.losses import projection_error
        from tfpurify.models.tracing import trace_images

        def look(images):
            purified_images = defence.purifier(images, training=False)
            errors = projection_error(images, purified_images)
            return errors, defence.classifier(purified_images, training=False)

        self._look = trace_images(look, defence.classifier.image_shape)

    def __call__(self, images):
        """Returns errors `(n,)` and predicted classes `(n,)`."""
        import numpy as np

        errors, logits = self._look(images)
        return np.asarray(errors), np.asarray(logits).argmax(axis=1)

    def of(self, batches):
        """Returns the errors of all images, `(n,)`."""
        import numpy as np

        return np.concatenate([self(images)[0] for images, _ in batches])


def _attacks_on(defence, thresholds, epsilon, options):
    """Yields the words of each line, the attacks that it is of, and the cap on their images."""
    import dataclasses

    from tfpurify.attacks.pgd import PGD
    from tfpurify.evaluation.trained_advgans import load_advgans
    from tfpurify.purifiers.base import detector_penalty

    steps, seed, limit = options["num_steps"], options["seed"], options["limit"]
    blind = dataclasses.replace(defence, threat_model="blind")
    words = {"threat_model": "blind", "gradient_mode": None, "knows_detector": False, "seed": seed}
    advgans = load_advgans(blind, epsilon, options["output_dir"])
    for model in advgans.models.values():
        yield {**words, "attack": "advgan"}, [model], None
    yield {**words, "attack": "pgd"}, [PGD(defence.classifier, epsilon, steps, seed=seed)], limit
    mode = defence.modes[0]
    target = defence.target(mode)
    words |= {"threat_model": "whitebox", "gradient_mode": mode, "attack": "pgd"}
    yield words, [PGD(target, epsilon, steps, seed=seed)], limit
    penalties = [detector_penalty(defence.purifier, threshold) for threshold in thresholds]
    aware = [PGD(target, epsilon, steps, seed=seed, penalty=penalty) for penalty in penalties]
    yield {**words, "knows_detector": True}, aware, limit


def _measure(scores, batches, attacks, clean, thresholds):
    """Returns what a line tells of attacks, any of which may succeed with an image.

    The curve and its area are the last one's.
    """
    import numpy as np

    from tfpurify.evaluation.detection import roc_curve

    right, errors, fooled = [], [[] for _ in attacks], [[] for _ in attacks]
    for images, labels in batches:
        right.append(scores(images)[1] == np.asarray(labels))
        for index, attack in enumerate(attacks):
            found, after = scores(attack(images, labels))
            errors[index].append(found)
            fooled[index].append(right[-1] & (after != np.asarray(labels)))
    right = np.concatenate(right)
    errors, fooled = (np.stack([np.concatenate(x) for x in found]) for found in (errors, fooled))
    false, true, area = roc_curve(clean, errors[-1])
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


def _line(measured, words, source, epsilon, options):
    from tfpurify.evaluation import detection

    line = {
        **measured,
        **words,
        "dataset": options["dataset"],
        "data_source": source,
        "split": "test",
        "classifier": vocabulary.STUDY_CLASSIFIERS[options["dataset"]],
        "purifier": options["defense"],
        "epsilon": epsilon,
        "command": provenance.portable_command(provenance.command_line()),
        "versions": provenance.versions(),
    }
    return {key: line[key] for key in detection.DETECTION_KEYS}


def main():
    """Runs the command line."""
    _flags.run_app(define_flags(), detect)


if __name__ == "__main__":
    main()
