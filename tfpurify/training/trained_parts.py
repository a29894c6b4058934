"""Trained models by name: from an output folder's runs, else from the zoo."""

import json
from pathlib import Path

from absl import logging

from tfpurify.data import loading
from tfpurify.models import zoo
from tfpurify.training import configuration, naming, presets
from tfpurify.vocabulary import BASELINES, STUDY_CLASSIFIERS


def classifier_part(dataset, architecture=None):
    """Returns the name of a classifier and the command that trains it."""
    architecture = architecture or STUDY_CLASSIFIERS[dataset]
    return _name_and_command("classifier", {"dataset": dataset, "classifier": architecture})


def purifier_parts(defense, dataset):
    """Returns what a purifier is made from: pairs of name and the command that trains it.

    The fast projector is made from its encoder and from the prior that this was trained with.
    """
    trainer, options = presets.PURIFIER_PARTS[defense]
    options = {"dataset": dataset, **options}
    part = _name_and_command(trainer, options)
    return [part, prior_part(options)] if trainer == "encoder" else [part]


def prior_part(options):
    """Returns the name of an encoder's prior and the command that trains it."""
    names = ("dataset", "gan_loss", "width")
    return _name_and_command("defensegan", {k: options[k] for k in names if k in options})


def _name_and_command(trainer, options):
    name = naming.run_name(trainer, configuration.resolve(trainer, options))
    flags = " ".join(f"--{flag}={value}" for flag, value in options.items())
    return name, f"python -m trainers.{trainer} {flags}"


def attack_part(dataset, epsilon, classifier=None, defense="none"):
    """Returns the name of the whitebox attack on a defense and the command that trains it."""
    options = {"dataset": dataset, "epsilon": epsilon}
    if defense != "none":
        options |= {"defense": defense, "whitebox": True}
    if classifier is not None:
        options["classifier"] = classifier
    return _name_and_command("advgan", options)


def blackbox_part(dataset, epsilon, distillation):
    """Returns the name of an attack through a surrogate and the command that trains it."""
    options = {"dataset": dataset, "epsilon": epsilon, "blackbox": distillation}
    return _name_and_command("advgan", options)


def is_trained(name, output_dir):
    """Says whether a model is among an output folder's runs or in the zoo."""
    return name in zoo.available() or bool(output_dir and _path(name, output_dir).exists())


def _path(name, output_dir):
    return Path(output_dir) / "runs" / name / "model.keras"


def require_parts(parts, output_dir):
    """Checks that parts are trained, before anything is loaded or written.

    Args:
        parts: Pairs of name and command.
        output_dir: As for `load_part`.

    Raises:
        ValueError: If any is in neither place; names the commands that train all that are missing.
    """
    missing = [(name, command) for name, command in parts if not is_trained(name, output_dir)]
    if missing:
        names, commands = zip(*missing, strict=True)
        raise ValueError(
            f"{' and '.join(names)} must be trained first, or be in the zoo. Train with: "
            f"{' and then '.join(commands)}. Received: neither in "
            f"{Path(output_dir or '.') / 'runs'} nor in the zoo, which has {zoo.available()}"
        )


def describe(name, output_dir):
    """Returns how a model was trained: its run's configuration, or what the zoo says of it.

    Args:
        name: Name of the run or of the zoo's entry.
        output_dir: As for `load_part`.
    """
    path = Path(output_dir or ".") / "runs" / name / "config.json"
    if output_dir is not None and path.exists():
        return json.loads(path.read_text(encoding="utf-8"))
    return zoo.describe(name)


def load_part(name, output_dir, command):
    """Returns a trained model.

    Args:
        name: Name of the run or of the zoo's entry.
        output_dir: Folder whose `runs/NAME/model.keras` goes before the zoo; None for the zoo only.
        command: What trains it, for the error.

    Raises:
        ValueError: If it is in neither.
    """
    require_parts([(name, command)], output_dir)
    if output_dir is not None and _path(name, output_dir).exists():
        logging.info("%s comes from %s", name, _path(name, output_dir))
        if name in zoo.available():
            logging.warning("%s of %s goes before the zoo's", name, Path(output_dir) / "runs")
        return zoo.load_model(_path(name, output_dir), compile=False)
    logging.info("%s comes from the zoo", name)
    return zoo.load_preset(name)


def load_classifier(dataset, output_dir=None, architecture=None):
    """Returns a trained classifier; the study's for the data set unless another is named."""
    name, command = classifier_part(dataset, architecture)
    return load_part(name, output_dir, command)


def load_purifier(defense, dataset, output_dir=None, **descent):
    """Returns a trained purifier, or None for `none`.

    Args:
        defense: One of `vocabulary.DEFENSES` or `vocabulary.BASELINES`.
        dataset: Name of the data set.
        output_dir: As for `load_part`.
        **descent: DefenseGAN's arguments; by default those of its projector, which is the
            reference (L=200 steps from R=10 starts) unless the defense has an encoder.
    """
    if defense == "none":
        return None
    if defense in BASELINES:
        from tfpurify.purifiers.art import ARTPurifier

        return ARTPurifier(defense, loading.get_spec(dataset).image_shape)
    parts = purifier_parts(defense, dataset)
    require_parts(parts, output_dir)
    loaded = [load_part(name, output_dir, command) for name, command in parts]
    return as_purifier(*loaded, **descent)


def as_purifier(part, prior=None, **descent):
    """Returns a PuVAE as it is, and DefenseGAN's projector of a prior.

    Args:
        part: A PuVAE, a prior, or the encoder of one.
        prior: The encoder's prior.
        **descent: DefenseGAN's arguments.
    """
    from tfpurify.purifiers.defensegan import DefenseGAN
    from tfpurify.purifiers.puvae import PuVAE

    if isinstance(part, PuVAE):
        return part
    encoder, prior = (part, prior) if prior is not None else (None, part)
    purifier = DefenseGAN(prior.generator, encoder, **descent)
    purifier.build()
    return purifier
