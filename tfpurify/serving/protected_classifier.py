"""A classifier's protection from end to end: measured, told, and as a bundle to serve."""

import time

import numpy as np
from absl import logging

from tfpurify.arguments import parse_epsilon, require_one_of
from tfpurify.data import loading
from tfpurify.evaluation.attack_sheet import make_sheet, strongest_pgd
from tfpurify.evaluation.defences import load_defence
from tfpurify.evaluation.protection import Protection
from tfpurify.evaluation.verdict import judge
from tfpurify.files import claim
from tfpurify.report.protection_page import screen, table_rows, write_page
from tfpurify.report.writing import require_writable
from tfpurify.serving.trained_defence import export_trained
from tfpurify.vocabulary import DEFENSES, display

_TIMED_IMAGES = 32


def protect_classifier(options, show):
    """Does all that `trainers.protect` promises.

    Args:
        options: Its flags by name.
        show: Function of text for the screen.

    Returns:
        The `Verdict`s, one for each purifier and epsilon.

    Raises:
        ValueError: If an option is out of range, or the classifier is not one for these images.
        ChildProcessError: If a training fails.
        OSError: If the output folder cannot be written, or another process writes it.
    """
    for name in options["purifier"] or ():
        require_one_of(DEFENSES[1:], purifier=name)
    protection = Protection(
        options["dataset"],
        options["output_dir"],
        [parse_epsilon(word) for word in options["epsilon"] or ()],
        options["purifier"] or (),
        options["classifier"],
        options["minutes"],
        options["limit"],
        options["num_steps"],
        options["data_dir"],
        options["data_source"],
        options["seed"],
        show,
    )
    accuracy = protection.check_classifier()
    logging.set_verbosity(logging.WARNING)  # what is to be read goes through `show`
    show(
        f"{protection.architecture} is right for {accuracy:.1%} of the validation images of "
        f"{protection.dataset}. Is that what you expect? If not, see --image_range."
    )
    claim(require_writable(protection.folder) / ".lock")
    for record in protection.run():
        who = display(record["purifier"])
        who = "no purifier" if record["purifier"] == "none" else f"{who}, {record['threat_model']}"
        show(f"  {who}: {record['robust_accuracy']:.1%} of {record['n']} images stay right")
    defences = {
        name: load_defence(
            protection.dataset, name, "whitebox", protection.output_dir, protection.architecture
        )
        for name in ("none", *protection.purifiers)
    }
    rows = table_rows(protection, _milliseconds(protection, defences))
    verdicts = [
        judge(
            protection.record("none", "whitebox", epsilon),
            *(protection.record(name, threat, epsilon) for threat in ("blind", "whitebox")),
        )
        for epsilon in protection.epsilons
        for name in protection.purifiers
    ]
    commands = [
        f"python -m trainers.serve --bundle={_export(protection, name)}"
        for name in protection.purifiers
    ]
    sheets = _sheets(protection, defences)
    path = write_page(protection, rows, verdicts, sheets, accuracy, commands)
    show("\n" + screen(rows) + "\n")
    for words in [verdict.words for verdict in verdicts] + protection.warnings:
        show(words)
    show(f"\nThe page: {path}")
    for command in commands:
        show(f"Serve it: {command}")
    return verdicts


def _images(protection, count):
    dataset = loading.load_dataset(
        protection.dataset, "test", protection.place["data_dir"], protection.source
    )
    return dataset.take(count).batch(count)


def _milliseconds(protection, defences):
    """Returns the time of an image by defence, the classifier's included; the best of three."""
    images, _ = next(iter(_images(protection, _TIMED_IMAGES)))
    found = {}
    for name, defence in defences.items():
        seconds = []
        for _ in range(4):  # the first traces
            started = time.perf_counter()
            np.asarray(defence.served(images))
            seconds.append(time.perf_counter() - started)
        found[name] = 1000 * min(seconds[1:]) / len(images)
    return found


def _sheets(protection, defences):
    epsilon = protection.epsilons[0]
    return {
        f"Attacks by PGD within {epsilon:.4g}: {display(name)}": make_sheet(
            defence,
            _images(protection, 8),
            strongest_pgd(defence, epsilon, protection.num_steps, protection.seed),
        )
        for name, defence in defences.items()
        if name != "none"
    }


def _export(protection, name):
    """Exports a purifier with the classifier and returns the bundle's folder."""
    version = export_trained(
        protection.dataset,
        name,
        output_dir=protection.output_dir,
        classifier=protection.architecture,
        **protection.place,
    )
    return version.parent
