"""A defence: a classifier, the purifier in front of it, and what its attacker knows of both."""

import dataclasses
import functools

from tfpurify.models.copies import copy_of
from tfpurify.models.tracing import trace_classifier
from tfpurify.purifiers.dcgan import DCGAN
from tfpurify.purifiers.defensegan import DefenseGAN
from tfpurify.purifiers.purified_classifier import PurifiedClassifier
from tfpurify.purifiers.puvae import PuVAE
from tfpurify.registry import DEFENCES
from tfpurify.training import trained_parts
from tfpurify.training.naming import Part
from tfpurify.vocabulary import DEFENSE_MODES


@dataclasses.dataclass
class Defence:
    """What is attacked, and what the attacker knows of it.

    Args:
        dataset: Name of the data set.
        name: Of `vocabulary.DEFENSES`, or a baseline's.
        threat_model: As in a record.
        classifier: The bare classifier.
        purifier: In front of it, or None.
        fast: DefenseGAN's fast projector, where `purifier` is the reference and there is one.
    """

    dataset: str
    name: str
    threat_model: str
    classifier: object
    purifier: object = None
    fast: object = None

    @property
    def is_crossed(self):
        """Whether the attacker's gradient crosses the purifier."""
        return self.purifier is not None and self.threat_model == "whitebox"

    @property
    def modes(self):
        """The gradient modes that an attacker has, the strongest known first."""
        if not self.is_crossed:
            return (None,)
        return DEFENSE_MODES[self.name]

    def target(self, mode=None, **options):
        """Returns what an attacker differentiates."""
        if not self.is_crossed:
            return self.classifier
        return PurifiedClassifier(self.purifier, self.classifier, mode or "exact", **options)

    @functools.cached_property
    def served(self):
        """What is deployed, as one graph: images -> logits."""
        return trace_classifier(self.classifier, self.purifier)

    @functools.cached_property
    def fresh(self):
        """The purifier with new randomness at every call, or None if it has none to draw."""
        if isinstance(self.purifier, DefenseGAN):
            parts = {"generator": self.purifier.generator, "encoder": self.purifier.encoder}
            fresh = DefenseGAN(**{**self.purifier.get_config(), **parts, "seed": None})
            fresh.build()
            return fresh
        if getattr(self.purifier, "noise_scale", 0) > 0:
            return copy_of(self.purifier, seed=None)
        return None


def load_fast(dataset, output_dir=None):
    """Returns the fast projector of a data set's DefenseGAN, or None if its encoder is missing."""
    names = [part.name for part in trained_parts.purifier_parts("defensegan_fast", dataset)]
    if not all(trained_parts.is_trained(name, output_dir) for name in names):
        return None
    return trained_parts.load_purifier("defensegan_fast", dataset, output_dir)


def load_defence(
    dataset,
    name,
    threat_model,
    output_dir=None,
    architecture=None,
    *,
    run=None,
    noise_scale=None,
    **descent,
):
    """Returns a trained defence as it is served, or with other settings.

    Args:
        dataset: Name of the data set.
        name: Of `vocabulary.DEFENSES`.
        threat_model: As in a record.
        output_dir: As for `trained_parts.load_part`.
        architecture: Of the classifier; the study's if None.
        run: Name of the run that the purifier, or its prior, comes from; the study's if None.
        noise_scale: A PuVAE's latent noise; its own if None.
        **descent: DefenseGAN's `num_steps` and `num_restarts`.

    Raises:
        ValueError: If a part is not trained, or the run is not on the data set, or not of such a
            purifier.
    """
    classifier = trained_parts.load_classifier(dataset, output_dir, architecture)
    if run is None:
        purifier = trained_parts.load_purifier(name, dataset, output_dir, **descent)
    else:
        purifier = _load_run(dataset, name, run, output_dir, descent)
    if noise_scale is not None:
        purifier.noise_scale = noise_scale
    fast = load_fast(dataset, output_dir) if name == "defensegan" and run is None else None
    return Defence(dataset, name, threat_model, classifier, purifier, fast)


def _load_run(dataset, name, run, output_dir, descent):
    """Returns the purifier that one run makes by itself."""
    trainer, _ = DEFENCES[name].training or (None, None)
    if trainer not in ("puvae", "defensegan"):
        raise ValueError(f"`purifier_run` must be of a PuVAE or a prior. Received: defense={name}")
    part = Part(run, trainer)
    trained_parts.require_parts([part], output_dir)
    described = trained_parts.describe(run, output_dir)
    if described.get("dataset", dataset) != dataset:
        raise ValueError(
            f"`purifier_run` must be a run on {dataset}. Received: {run} on {described['dataset']}"
        )
    model = trained_parts.load_part(part, output_dir)
    if isinstance(model, PuVAE) != (trainer == "puvae") or not isinstance(model, (PuVAE, DCGAN)):
        raise ValueError(
            f"`purifier_run` must be a run of {name}. Received: {run}, a {type(model).__name__}"
        )
    return trained_parts.as_purifier(model, **descent)
