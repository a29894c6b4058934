"""The study's experiments as data, and the trained parts they need, in order."""

import dataclasses

from tfpurify.registry import DEFENCES
from tfpurify.training import presets
from tfpurify.training.naming import Part
from tfpurify.vocabulary import (
    SMALL_EPSILON,
    STUDY_CLASSIFIERS,
    STUDY_EPSILON,
    TRANSFER_ARCHITECTURES,
)


@dataclasses.dataclass(frozen=True)
class Experiment:
    """What is measured at once: one attacker on one defence; it becomes one record.

    Args:
        threat_model: As in a record.
        purifier: As in a record; the role of the part that it is made from.
        attack: As in a record; `advgan_static` and `advgan_dynamic` say how the surrogate was
            distilled.
        attacker: Role of the trained AdvGAN, a key of `parts`; None without an attack.
        architecture: Of the classifier; the study's if None.
        epsilon: Of an attack that is not trained.
    """

    threat_model: str
    purifier: str
    attack: str
    attacker: str | None = None
    architecture: str | None = None
    epsilon: float = STUDY_EPSILON

    @property
    def classifier(self):
        """Role of the classifier."""
        return f"classifier_{self.architecture}" if self.architecture else "classifier"

    @property
    def roles(self):
        """The trained parts that the experiment needs."""
        purifier = None if self.purifier == "none" else self.purifier
        prior = "defensegan" if purifier == "defensegan_fast" else None
        return [role for role in (self.classifier, purifier, prior, self.attacker) if role]


_TRANSFER_DATASETS = ("mnist", "fashion_mnist")

STUDY_EXPERIMENTS = (
    Experiment("none", "none", "none"),
    Experiment("blackbox", "none", "advgan_static", "blackbox_static"),
    Experiment("blackbox", "none", "advgan_dynamic", "blackbox_dynamic"),
    Experiment("blind", "puvae", "advgan", "whitebox_none"),
    Experiment("blind", "defensegan", "advgan", "whitebox_none"),
    Experiment("whitebox", "none", "advgan", "whitebox_none"),
    Experiment("whitebox", "puvae", "advgan", "whitebox_puvae"),
    Experiment("whitebox", "defensegan", "advgan", "whitebox_defensegan"),
)
_SMALL_EPSILON_EXPERIMENTS = tuple(
    dataclasses.replace(experiment, attacker=f"{experiment.attacker}_small")
    for experiment in STUDY_EXPERIMENTS
    if experiment.attacker not in (None, "blackbox_dynamic")
)

_STUDY_TRAININGS = {
    "classifier": ("classifier", {}),
    **{name: DEFENCES[name].training for name in ("puvae", "defensegan", "defensegan_fast")},
    "whitebox_none": ("advgan", {"whitebox": True}),
    "blackbox_static": ("advgan", {"blackbox": "static"}),
    "blackbox_dynamic": ("advgan", {"blackbox": "dynamic"}),
    "whitebox_puvae": ("advgan", {"defense": "puvae", "whitebox": True}),
    "whitebox_defensegan": ("advgan", {"defense": "defensegan", "whitebox": True}),
    "whitebox_defensegan_fast": ("advgan", {"defense": "defensegan_fast", "whitebox": True}),
}


def advgan_experiments(dataset, is_with_transfer=False):
    """Returns the experiments that are measured on a data set: the study's seven, then ours."""
    found = [
        *STUDY_EXPERIMENTS,
        Experiment("blind", "defensegan_fast", "advgan", "whitebox_none"),
        Experiment("whitebox", "defensegan_fast", "advgan", "whitebox_defensegan_fast"),
        Experiment("blind", "defensegan_wgan", "advgan", "whitebox_none"),
    ]
    if dataset in DEFENCES["puvae_adversarial"].datasets:
        found += [
            Experiment("blind", "puvae_adversarial", "advgan", "whitebox_none"),
            Experiment("whitebox", "puvae_adversarial", "advgan", "whitebox_puvae_adversarial"),
        ]
    if dataset == "cifar10":
        found += _SMALL_EPSILON_EXPERIMENTS
        found += [
            Experiment("blind", "defensegan_wide", "advgan", attacker)
            for attacker in ("whitebox_none", "whitebox_none_small")
        ]
    if is_with_transfer and dataset in _TRANSFER_DATASETS:
        found += _transfer_experiments(dataset)
    return found


def pgd_experiments(dataset):
    """Returns the experiments in which PGD stands beside AdvGAN."""
    epsilons = [STUDY_EPSILON] + [SMALL_EPSILON] * (dataset == "cifar10")
    return [
        Experiment("whitebox", purifier, "pgd", epsilon=epsilon)
        for epsilon in epsilons
        for purifier in _purifiers(dataset)
    ]


def worst_case_experiments(dataset):
    """Returns the experiments in which the worst case over attacks stands beside AdvGAN."""
    found = [
        Experiment(threat_model, purifier, "worst_case")
        for threat_model in ("blind", "whitebox")
        for purifier in _purifiers(dataset)
        if (threat_model, purifier) != ("blind", "none")
    ]
    if dataset == "cifar10":
        found += [
            dataclasses.replace(
                experiment, attack="worst_case", attacker=None, epsilon=SMALL_EPSILON
            )
            for experiment in _SMALL_EPSILON_EXPERIMENTS
            if experiment.threat_model in ("blind", "whitebox")
        ]
    return found


def _purifiers(dataset):
    adversarial = ["puvae_adversarial"] * (dataset in DEFENCES["puvae_adversarial"].datasets)
    return ("none", "puvae", *adversarial, "defensegan", "defensegan_fast")


def _transfer_experiments(dataset):
    """Returns the experiments of the transfer matrix, but for the study's own attack.

    Each attacker knows the classifier that it faces, and not the purifier.
    """
    found = []
    sources = (STUDY_CLASSIFIERS[dataset], *TRANSFER_ARCHITECTURES)
    for target in (None, *TRANSFER_ARCHITECTURES):
        attacker = f"whitebox_none_{target}" if target else "whitebox_none"
        if target:
            found.append(Experiment("whitebox", "none", "advgan", attacker, target))
        found += [
            Experiment("blind", f"puvae_{source}", "advgan", attacker, target) for source in sources
        ]
    return found


def _trainings(dataset, is_with_transfer):
    found = {**_STUDY_TRAININGS, "defensegan_wgan": DEFENCES["defensegan_wgan"].training}
    if dataset in DEFENCES["puvae_adversarial"].datasets:
        options = {"defense": "puvae_adversarial", "whitebox": True}
        found["puvae_adversarial"] = DEFENCES["puvae_adversarial"].training
        found["whitebox_puvae_adversarial"] = ("advgan", options)
    if dataset == "cifar10":
        found["defensegan_wide"] = DEFENCES["defensegan_wide"].training
        for experiment in _SMALL_EPSILON_EXPERIMENTS:
            trainer, options = found[experiment.attacker.removesuffix("_small")]
            found[experiment.attacker] = (trainer, {**options, "epsilon": SMALL_EPSILON})
    if is_with_transfer and dataset in _TRANSFER_DATASETS:
        for name in TRANSFER_ARCHITECTURES:
            options = {"classifier": name, **presets.TRANSFER_CLASSIFIER}
            found[f"classifier_{name}"] = ("classifier", options)
            found[f"whitebox_none_{name}"] = ("advgan", {"classifier": name, "whitebox": True})
        for name in (STUDY_CLASSIFIERS[dataset], *TRANSFER_ARCHITECTURES):
            options = {"classifier": name, **presets.TRANSFER_PUVAE}
            options["name"] = f"puvae_{dataset}_from_{name}"
            found[f"puvae_{name}"] = ("puvae", options)
    return found


def parts(dataset, is_with_transfer=False):
    """Returns the parts that a data set's tables need, by role, in the order of their training.

    Args:
        dataset: Name of the data set.
        is_with_transfer: Whether to take the transfer matrix too, whose models are too large for
            the zoo.
    """
    found = {}
    for role, (trainer, special) in _trainings(dataset, is_with_transfer).items():
        found[role] = Part.of(trainer, {"dataset": dataset, **special})
    return found
