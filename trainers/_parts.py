"""Trained models by name: from an output folder's runs, else from the zoo."""

from pathlib import Path

from absl import logging

from tfpurify import zoo
from tfpurify.data import get_spec


def load_part(name, output_dir, command):
    """Returns a trained model.

    Args:
        name: Name of the run or of the zoo's entry.
        output_dir: Folder whose `runs/NAME/model.keras` goes before the zoo; None for the zoo only.
        command: What trains it, for the error.

    Raises:
        ValueError: If it is in neither.
    """
    path = Path(output_dir or ".") / "runs" / name / "model.keras"
    if output_dir is not None and path.exists():
        logging.info("%s comes from %s", name, path)
        return zoo.load_model(path, compile=False)
    if name in zoo.available():
        logging.info("%s comes from the zoo", name)
        return zoo.load(name)
    raise ValueError(
        f"{name} must be trained first, or be in the zoo. Train it with: {command}. "
        f"Received: nothing at {path}, and a zoo with {zoo.available()}"
    )


def load_classifier(dataset, output_dir=None, architecture=None):
    """Returns a trained classifier; the study's for the data set unless another is named."""
    architecture = architecture or get_spec(dataset).default_classifier
    return load_part(
        f"{architecture}_{dataset}",
        output_dir,
        f"python -m trainers.classifier --dataset={dataset} --classifier={architecture}",
    )


def load_purifier(defense, dataset, output_dir=None, **descent):
    """Returns a trained purifier, or None for `none`.

    Args:
        defense: `none`, `puvae` or `defensegan`.
        dataset: Name of the data set.
        output_dir: As for `load_part`.
        **descent: DefenseGAN's arguments; by default the reference, L=200 steps from R=10 starts.
    """
    if defense == "none":
        return None
    command = f"python -m trainers.{defense} --dataset={dataset}"
    if defense == "puvae":
        return load_part(f"puvae_{dataset}", output_dir, command)
    from tfpurify.purifiers.defensegan import DefenseGAN

    prior = load_part(f"dcgan_{dataset}", output_dir, command)
    purifier = DefenseGAN(prior.generator, **descent)
    purifier.build()
    return purifier
