"""A classifier of one's own, by the path of its file, under a name that runs and records carry."""

import dataclasses
import functools
import os
import re
from pathlib import Path

from absl import logging

from tfpurify.data import own
from tfpurify.files import digest
from tfpurify.vocabulary import CLASSIFIERS

_CHECKED_IMAGES = 500  # validation images that a wrong scale is found out with
_WORDS = ("image_range", "outputs", "mean", "std", "channels", "output_name")
_known = {}


@dataclasses.dataclass(frozen=True)
class OwnClassifier:
    """What a command line says of a classifier.

    Args:
        path: Of the `.keras` or `.h5` file or the SavedModel folder.
        arguments: Of `as_classifier`, as pairs.
        trust: Whether the file may run code.
        flags: What a command line says of it, pairs of flag and value.
        data_dir: Where the images are that its scale is checked with; `load_dataset`'s.
        data_source: The same.
    """

    path: str
    arguments: tuple
    trust: bool
    flags: tuple
    data_dir: str | None
    data_source: str


def register(options):
    """Makes the classifier that options name known to this process, if it is a file.

    Where the data set is one of the user's own, it becomes that data set's usual classifier.

    Args:
        options: By flag name: `dataset`, registered; `classifier`, `image_range`, and those that
            begin with `classifier_`; `trust_classifier`; `data_dir` and `data_source`.

    Returns:
        The classifier's name: one of `vocabulary.CLASSIFIERS`, the file's stem, or None.

    Raises:
        ValueError: If it is neither a name nor a file, or a range is no pair of numbers.
    """
    word = options.get("classifier")
    given = {name: options.get(_flag(name)) for name in _WORDS}
    given = {name: value for name, value in given.items() if value not in (None, "")}
    trust = bool(options.get("trust_classifier"))
    if word is None or word in CLASSIFIERS or word in _known:
        if (given or trust) and word not in _known:
            raise ValueError(
                f"`{_flag(next(iter(given), 'trust'))}` needs a classifier of your own: "
                f"--classifier=PATH. Received: classifier={word!r}"
            )
        return word
    path = Path(os.fspath(word)).expanduser()
    if not path.exists():
        raise ValueError(
            f"`classifier` must be one of {list(CLASSIFIERS)}, or a .keras or .h5 file or a "
            f"SavedModel folder that exists. Received: {word}"
        )
    name = re.sub(r"[^A-Za-z0-9_]+", "_", path.resolve().stem).strip("_").lower() or "classifier"
    name = f"own_{name}" if name in CLASSIFIERS else name
    flags = [("classifier", str(path))]
    flags += [(_flag(argument), value) for argument, value in given.items()]
    flags += [("trust_classifier", True)] * trust
    found = OwnClassifier(
        str(path),
        tuple((argument, _value(argument, value)) for argument, value in given.items()),
        trust,
        tuple(flags),
        options.get("data_dir"),
        options.get("data_source") or "auto",
    )
    known = _known.setdefault(name, found)
    if known != found:
        raise ValueError(
            f"`classifier` must have a name of its own. Received: {word} beside {known.path}, both "
            f"called {name}"
        )
    if own.is_own(options["dataset"]):
        own.set_default_classifier(options["dataset"], name, found.flags)
    return name


def _flag(argument):
    return {"image_range": "image_range", "trust": "trust_classifier"}.get(
        argument, f"classifier_{argument}"
    )


def _value(argument, value):
    """Returns an argument of `as_classifier` from a flag's words."""
    if argument not in ("image_range", "mean", "std"):
        return value
    try:
        return tuple(float(number) for number in value.strip("()[]").split(","))
    except ValueError:
        raise ValueError(
            f"`{_flag(argument)}` must be numbers with commas between, as 0,255. Received: {value}"
        ) from None


def is_own(name):
    """Says whether a name is of a registered classifier of one's own."""
    return name in _known


def flags_of(name):
    """Returns what a command line says of a classifier: pairs of flag and value."""
    return _known[name].flags if name in _known else (("classifier", name),)


def described(name):
    """Returns a run's settings that say which file a classifier of one's own is."""
    flags = dict(_known[name].flags)
    path = flags.pop("classifier")
    return {"classifier_file": path, "classifier_sha256": digest(path), **flags}


@functools.cache
def load(name, dataset):
    """Returns a registered classifier as Keras model of logits, its scale checked.

    Args:
        name: As `register` returned it.
        dataset: Name of the data set whose validation images it is checked with.

    Raises:
        ValueError: As of `as_classifier`; or if it has too few outputs for the data set's classes.
    """
    from tfpurify.data import loading
    from tfpurify.models.adapted_classifier import as_classifier

    spec, entry = loading.get_spec(dataset), _known[name]
    source = loading.resolve_source(dataset, entry.data_dir, entry.data_source)
    split = loading.load_dataset(dataset, "validation", entry.data_dir, source)
    images, labels = next(iter(split.take(_CHECKED_IMAGES).batch(_CHECKED_IMAGES)))
    classifier = as_classifier(
        entry.path,
        **{"outputs": "auto", **dict(entry.arguments)},
        image_shape=spec.image_shape,
        images=images.numpy(),
        labels=labels.numpy(),
        trust=entry.trust,
    )
    if classifier.num_classes < spec.num_classes:
        raise ValueError(
            f"`classifier` must have an output for each of {dataset}'s {spec.num_classes} classes. "
            f"Received: {entry.path} with {classifier.num_classes}"
        )
    if classifier.num_classes > spec.num_classes:
        logging.warning(
            "%s has %d outputs for %d classes: its first ones must be those of %s",
            entry.path,
            classifier.num_classes,
            spec.num_classes,
            spec.class_names[:5],
        )
    return classifier
