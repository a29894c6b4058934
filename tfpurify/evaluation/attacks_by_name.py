"""Attacks on a defence by name, each once for every way that its gradient can take."""

import dataclasses

import tensorflow as tf

from tfpurify.attacks.expectation import Expectation
from tfpurify.attacks.latent_search import LatentSearch
from tfpurify.attacks.noise import RandomNoise
from tfpurify.attacks.pgd import PGD
from tfpurify.attacks.structured import StructuredMove, structured_names
from tfpurify.attacks.transfer import TransferAttack
from tfpurify.attacks.worst_case import WorstCase
from tfpurify.purifiers.defensegan import DefenseGAN
from tfpurify.vocabulary import (
    ATTACKS,
    MEAN_SQUARED_ATTACKS,
    STUDY_EPSILON,
    TRANSFER_ATTACKS,
)

PUBLISHED_MEAN_SQUARED = 0.005  # Athalye et al. 2018, section 5.4.2
# Those that cross no purifier in a gradient mode.
NEEDS_NO_GRADIENT = ("noise", "structured", "advgan", "transfer", "latent", "square", "hopskipjump")
NEEDS_NO_GRADIENT += TRANSFER_ATTACKS
_QUERIES_ONLY = ("noise", "structured", "advgan", "square", "hopskipjump")
# Chosen on validation images; the steps are the papers'.
_TRANSFERS = {
    "mi": {},
    "long": {"num_steps": 40},
    "di": {"diversity": 0.7},
    "ti": {"kernel_size": 7},
    "si": {"num_scales": 5},
    "pi": {"patch_size": 3},
    "ssm": {"num_spectra": 5},
    "targeted": {},
}
# Of `num_steps`: a query costs less than a step, and C&W searches ten times over.
_SHARE_OF_STEPS = {"square": 10.0, "cw_l2": 0.2, "hopskipjump": 0.1}
# Of the restarts of PGD through `soft`: the default, then softer and harder choices in turn.
_TEMPERATURES = (0.005, 0.02, 0.00125)


@dataclasses.dataclass(frozen=True)
class Settings:
    """How hard attacks try.

    Args:
        epsilon: L-inf bound, or the mean squared one of `vocabulary.MEAN_SQUARED_ATTACKS`.
        num_steps: Steps of gradient attacks; `square` asks ten times as often, `cw_l2` takes a
            fifth in each of its ten searches, `hopskipjump` a tenth.
        num_restarts: Random starts.
        num_draws: Calls that `pgd_eot` averages.
        seed: Of the random starts.
        soft_candidates: How many candidates `soft` mixes; all if None.
    """

    epsilon: float = STUDY_EPSILON
    num_steps: int = 100
    num_restarts: int = 1
    num_draws: int = 4
    seed: int = 0
    soft_candidates: int | None = None


def require_names(names, threat_model):
    """Refuses attacks that are unknown, bound different norms, or know what they must not.

    Raises:
        ValueError: If there is one, or no attack.
    """
    unknown = sorted(set(names) - set(ATTACKS))
    if unknown or not names:
        raise ValueError(f"`attack` must be among {list(ATTACKS)}. Received: {unknown or names}")
    if len({name in MEAN_SQUARED_ATTACKS for name in names}) > 1:
        raise ValueError(
            f"`attack`: {list(MEAN_SQUARED_ATTACKS)} bound the mean squared difference, the others "
            f"the largest one; they have no common record. Received: {names}"
        )
    knowing = [name for name in names if name not in _QUERIES_ONLY]
    if threat_model == "blackbox" and knowing:
        raise ValueError(
            f"`attack` of a black box must be among {list(_QUERIES_ONLY)}. Received: {knowing}"
        )


def make_attacks(names, defence, settings, modes=None, advgans=()):
    """Returns attacks for `WorstCase`: name, `name:mode` or `name:variant` ->
    `attack(images, labels)`.

    Args:
        names: Of `vocabulary.ATTACKS`, in the order of their turn.
        defence: A `Defence`.
        settings: `Settings`.
        modes: Gradient modes; all of the defence if None.
        advgans: Trained `AdvGAN`s by name.

    Raises:
        ValueError: If a mode does not fit the purifier, or an attack needs what is not there.
    """
    require_names(names, defence.threat_model)
    found = {}
    for name in names:
        if name == "advgan":
            found |= {f"advgan:{key}": model for key, model in advgans.items()}
        elif name == "structured":
            shape = defence.classifier.image_shape
            found |= {
                f"structured:{move}": StructuredMove(move, settings.epsilon)
                for move in structured_names(shape)
            }
        elif name in TRANSFER_ATTACKS:
            found |= _transfers(name, defence, settings)
        elif name in NEEDS_NO_GRADIENT:
            found[name] = _make(name, defence, settings, None)
        else:
            for mode in modes or defence.modes:
                key = name if mode is None else f"{name}:{mode}"
                found[key] = _make(name, defence, settings, mode)
    if not found:
        raise ValueError(
            "`attack=advgan` needs a trained AdvGAN: `python -m trainers.advgan`. Received: none "
            f"of epsilon={settings.epsilon} for {defence.dataset}, {defence.name}"
        )
    return found


def _make(name, defence, settings, mode):
    epsilon, steps, restarts = settings.epsilon, settings.num_steps, settings.num_restarts
    if name == "noise":
        return RandomNoise(epsilon, settings.seed)
    if name == "latent":
        return _latent_search(defence, settings)
    if name == "transfer":
        if defence.fast is None or not defence.is_crossed:
            raise ValueError(
                "`attack=transfer` needs the reference of a DefenseGAN that has an encoder, and an "
                f"attacker who knows it. Received: {defence.name}, {defence.threat_model}"
            )
        # A dataclass's copy, whose `served` is the fast projector's.
        stand_in = dataclasses.replace(defence, purifier=defence.fast, fast=None)
        return _make("pgd", stand_in, settings, "exact")
    options = {}
    if mode == "soft":
        options["soft_candidates"] = settings.soft_candidates
    if name in ("pgd", "pgd_targeted"):
        return _pgd(name, defence, settings, mode, options)
    if name == "pgd_eot":
        fresh = defence.fresh
        if fresh is None or not defence.is_crossed:
            raise ValueError(
                "`attack=pgd_eot` needs a purifier that draws, and an attacker who knows it. "
                f"Received: {defence.name}, {defence.threat_model}"
            )
        drawn = dataclasses.replace(defence, purifier=fresh).target(mode, **options)
        target = Expectation(drawn, settings.num_draws)
        return PGD(target, epsilon, steps, seed=settings.seed)
    from tfpurify.attacks.art import ARTAttack

    target = defence.target(mode, **options)
    if name in ("square", "hopskipjump"):
        target = defence.served if defence.threat_model != "blind" else defence.classifier
    shape = defence.classifier.image_shape
    steps = max(1, round(steps * _SHARE_OF_STEPS.get(name, 1.0)))
    return ARTAttack(name, target, shape, epsilon, steps, restarts, settings.seed)


def _transfers(name, defence, settings):
    """Returns a transfer attack by its name; one for each other class where it is targeted."""
    parts, options = name.split("_")[1:], {"seed": settings.seed}
    for part in parts:
        options |= _TRANSFERS[part]
    if "targeted" not in parts:
        return {name: TransferAttack(defence.classifier, settings.epsilon, **options)}
    return {
        f"{name}:{rank}": TransferAttack(
            defence.classifier, settings.epsilon, target_rank=rank, **options
        )
        for rank in range(1, defence.classifier.num_classes)
    }


def _pgd(name, defence, settings, mode, options):
    """Returns PGD from each random start, or under each other class in turn."""
    epsilon, steps, found = settings.epsilon, settings.num_steps, []
    if name == "pgd_targeted":
        target = defence.target(mode, **options)
        ranks = range(1, defence.classifier.num_classes)
        found = [PGD(target, epsilon, steps, seed=settings.seed, target_rank=r) for r in ranks]
    else:
        for start in range(settings.num_restarts):
            if mode == "soft":
                options["temperature"] = _TEMPERATURES[start % len(_TEMPERATURES)]
            target = defence.target(mode, **options)
            found.append(PGD(target, epsilon, steps, seed=settings.seed + start))
    return WorstCase(dict(enumerate(found)), defence.served) if len(found) > 1 else found[0]


def _latent_search(defence, settings):
    purifier = defence.fast or defence.purifier
    if not isinstance(purifier, DefenseGAN) or not defence.is_crossed:
        raise ValueError(
            "`attack=latent` needs a DefenseGAN, and an attacker who knows it. "
            f"Received: {defence.name}, {defence.threat_model}"
        )

    def project(images):
        z, errors = purifier.project(images)
        return tf.gather(z, tf.argmin(errors, axis=1), axis=1, batch_dims=1)

    generate = purifier.generator.folded()
    steps = settings.num_steps
    return LatentSearch(defence.classifier, generate, project, settings.epsilon, steps)
