"""Trained models by name: from an output folder's runs, else from the zoo."""

import json
from pathlib import Path

from absl import logging

from tfpurify.data import loading, own
from tfpurify.models import zoo
from tfpurify.registry import DEFENCES
from tfpurify.training import own_classifier
from tfpurify.training.naming import Part
from tfpurify.vocabulary import BASELINES


def classifier_parts(dataset, architecture=None):
    """Returns the `Part` of a classifier; none for one of the user's own, which is a file.

    Args:
        dataset: Name of the data set.
        architecture: Name of the classifier; the usual one of the data set if None.
    """
    architecture = architecture or loading.get_spec(dataset).default_classifier
    if own_classifier.is_own(architecture):
        return []
    return [Part.of("classifier", {"dataset": dataset, "classifier": architecture})]


def purifier_parts(defense, dataset):
    """Returns the `Part`s that a purifier is made from.

    The fast projector is made from its encoder and from the prior that this was trained with.
    """
    trainer, options = DEFENCES[defense].training
    options = {"dataset": dataset, **options}
    part = Part.of(trainer, options)
    return [part, prior_part(options)] if trainer == "encoder" else [part]


def prior_part(options):
    """Returns an encoder's prior as a `Part`."""
    names = ("dataset", "gan_loss", "width")
    return Part.of("defensegan", {k: options[k] for k in names if k in options})


def attack_part(dataset, epsilon, classifier=None, defense="none"):
    """Returns the whitebox attack on a defence as a `Part`."""
    options = {"dataset": dataset, "epsilon": epsilon}
    if defense != "none":
        options |= {"defense": defense, "whitebox": True}
    if classifier is not None:
        options["classifier"] = classifier
    return Part.of("advgan", options)


def blackbox_part(dataset, epsilon, distillation):
    """Returns an attack through a surrogate as a `Part`."""
    options = {"dataset": dataset, "epsilon": epsilon, "blackbox": distillation}
    return Part.of("advgan", options)


def is_trained(name, output_dir):
    """Says whether a model is among an output folder's runs or in the zoo."""
    return name in zoo.available() or bool(output_dir and _path(name, output_dir).exists())


def _path(name, output_dir):
    return Path(output_dir) / "runs" / name / "model.keras"


def require_parts(parts, output_dir):
    """Checks that parts are trained, before anything is loaded or written.

    Args:
        parts: `Part`s.
        output_dir: As for `load_part`.

    Raises:
        ValueError: If any is in neither place; names the commands that train all that are missing.
    """
    missing = [part for part in parts if not is_trained(part.name, output_dir)]
    if missing:
        names, commands = ([getattr(part, key) for part in missing] for key in ("name", "command"))
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


def load_part(part, output_dir):
    """Returns a trained model.

    Args:
        part: A `Part`.
        output_dir: Folder whose `runs/NAME/model.keras` goes before the zoo; None for the zoo only.

    Raises:
        ValueError: If it is in neither.
    """
    require_parts([part], output_dir)
    name = part.name
    if output_dir is not None and _path(name, output_dir).exists():
        _require_same_origin(name, describe(name, output_dir))
        logging.info("%s comes from %s", name, _path(name, output_dir))
        if name in zoo.available():
            logging.warning("%s of %s goes before the zoo's", name, Path(output_dir) / "runs")
        return zoo.load_model(_path(name, output_dir), compile=False)
    logging.info("%s comes from the zoo", name)
    return zoo.load_preset(name)


def _require_same_origin(name, config):
    """Refuses what was trained on other images, or before another classifier, of the same name."""
    now = {}
    if own.is_own(config.get("dataset")):
        now |= own.described(config["dataset"])
    if own_classifier.is_own(config.get("classifier")):
        now |= own_classifier.described(config["classifier"])
    for key in ("dataset_sha256", "classifier_sha256"):
        if config.get(key) and key in now and config[key] != now[key]:
            what = key.removesuffix("_sha256")
            raise ValueError(
                f"`output_dir` must hold models of this {what}. Received: {name}, trained with "
                f"another one of the name {config[what]}: remove its folder, and train it again"
            )


def load_classifier(dataset, output_dir=None, architecture=None):
    """Returns a trained classifier; the usual one of the data set unless another is named."""
    parts = classifier_parts(dataset, architecture)
    if parts:
        return load_part(parts[0], output_dir)
    return own_classifier.load(
        architecture or loading.get_spec(dataset).default_classifier, dataset
    )


def load_purifier(defense, dataset, output_dir=None, **descent):
    """Returns a trained purifier, or None for `none`.

    Args:
        defense: One of `vocabulary.DEFENSES` or `vocabulary.BASELINES`.
        dataset: Name of the data set.
        output_dir: As for `load_part`.
        **descent: DefenseGAN's arguments; by default those of its projector, which is the
            reference (L=200 steps from R=10 starts) unless the defence has an encoder.
    """
    if defense == "none":
        return None
    if defense in BASELINES:
        from tfpurify.purifiers.art import ARTPurifier

        return ARTPurifier(defense, loading.get_spec(dataset).image_shape)
    parts = purifier_parts(defense, dataset)
    require_parts(parts, output_dir)
    loaded = [load_part(part, output_dir) for part in parts]
    return as_purifier(*loaded, **descent)


def load_deployed(defense, dataset, output_dir=None, architecture=None, **descent):
    """Returns what is deployed: a trained purifier with the classifier behind it, built.

    Args:
        defense: As for `load_purifier`; `none` gives the bare classifier.
        dataset: Name of the data set.
        output_dir: As for `load_part`.
        architecture: Of the classifier; the study's for the data set if None.
        **descent: As for `load_purifier`.
    """
    from tfpurify.purifiers.purified_classifier import PurifiedClassifier

    classifier = load_classifier(dataset, output_dir, architecture)
    purifier = load_purifier(defense, dataset, output_dir, **descent)
    if purifier is None:
        return classifier
    purified = PurifiedClassifier(purifier, classifier)
    purified.build()
    return purified


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
