"""The trained AdvGANs that an attacker has, found by what he knows."""

import dataclasses

import numpy as np

from tfpurify.training import trained_parts
from tfpurify.training.naming import Part
from tfpurify.vocabulary import BASELINES


@dataclasses.dataclass(frozen=True)
class TrainedAdvGANs:
    """The AdvGANs of one attacker.

    Args:
        models: Those that are trained, by name.
        modes: The gradient mode in which each was trained through a purifier, by name; names of
            those that were trained through none are left out.
        missing: Names of those that he would have, and that nobody trained.
        own: Name of the one that is trained for this attacker alone; None if nobody can train it.
    """

    models: dict = dataclasses.field(default_factory=dict)
    modes: dict = dataclasses.field(default_factory=dict)
    missing: tuple = ()
    own: str | None = None


def usual_advgans(defence, epsilon, architecture=None):
    """Returns which AdvGANs an attacker would train, whether or not they are trained.

    A black box has two: a surrogate is distilled from it once for all, or again and again. An
    attacker who knows the classifier has one on it. If he knows a purifier too, one through both
    comes first; but not through ART's baselines, which no trainer differentiates.

    Args:
        defence: A `Defence`.
        epsilon: Their bound.
        architecture: Of the classifier; the study's if None.

    Returns:
        `Part`s.
    """
    if defence.threat_model == "blackbox":
        return [
            trained_parts.blackbox_part(defence.dataset, epsilon, distillation)
            for distillation in ("static", "dynamic")
        ]
    is_trainable = defence.is_crossed and defence.name not in BASELINES
    return [
        trained_parts.attack_part(defence.dataset, epsilon, architecture, name)
        for name in [defence.name] * is_trainable + ["none"]
    ]


def load_advgans(defence, epsilon, output_dir=None, others=(), architecture=None):
    """Loads the AdvGANs that an attacker has: the usual ones that are trained, and others.

    Args:
        defence: A `Defence`.
        epsilon: Their bound.
        output_dir: As for `trained_parts.load_part`.
        others: Names of further ones, of runs or of the zoo.
        architecture: Of the classifier; the study's if None.

    Returns:
        `TrainedAdvGANs`.

    Raises:
        ValueError: If one of `others` is not trained, or one has another bound.
    """
    usual = usual_advgans(defence, epsilon, architecture)
    missing = [part.name for part in usual if not trained_parts.is_trained(part.name, output_dir)]
    parts = [part for part in usual if part.name not in missing]
    parts += [Part(name, "advgan") for name in others]
    models = {part.name: trained_parts.load_part(part, output_dir) for part in parts}
    for name, model in models.items():
        if not np.isclose(model.epsilon, epsilon):
            raise ValueError(
                f"`advgans` must have epsilon={epsilon}. Received: {name}, epsilon={model.epsilon}"
            )
    modes = {}
    for name in models:
        described = trained_parts.describe(name, output_dir)
        if described.get("defense", "") != "none" and described.get("gradient_mode"):
            modes[name] = described["gradient_mode"]
    own = None if defence.name in BASELINES else usual[0].name
    return TrainedAdvGANs(models, modes, tuple(missing), own)
