"""How an attack on a defence went: gradients, convergence, randomness."""

import dataclasses
import functools

import numpy as np
import tensorflow as tf

from tfpurify.attacks.worst_case import WorstCase
from tfpurify.evaluation import diagnostics
from tfpurify.evaluation.attacks_by_name import NEEDS_NO_GRADIENT, make_attacks
from tfpurify.models.losses import UNSATURATED, margin_loss
from tfpurify.models.tracing import trace_classifier
from tfpurify.vocabulary import ITERATIVE_ATTACKS, MEAN_SQUARED_ATTACKS

_WHOLE_STEPS, _WHOLE_IMAGES = 40, 20  # of the attack with a budget of 1


def diagnose(defence, modes, settings, record, search, batches):
    """Returns the line of diagnostics of an attack, and the flags that it raises.

    Args:
        defence: The `Defence`.
        modes: Its gradient modes; all if None.
        settings: What was attacked with.
        record: What came out.
        search: The `WorstCase`.
        batches: Of clean images, adversarial images and labels.
    """
    clean, adversarial, labels = (
        np.concatenate([np.asarray(batch[part]) for batch in batches]) for part in range(3)
    )
    is_gradient = any(key.partition(":")[0] not in NEEDS_NO_GRADIENT for key in search.attacks)
    norms = None
    if is_gradient:
        norms = _gradient_norms(defence, modes or defence.modes, clean, labels, settings)
    more, whole, strongest = None, None, _strongest(search)
    if strongest is not None:
        more = _fooled_by_more(defence, settings, strongest, batches)
        if strongest[0] not in MEAN_SQUARED_ATTACKS:
            whole = _full_budget(defence, settings, _modes_of(search, strongest[0]), batches)
    draws = defence.is_crossed and defence.fresh is not None
    randomness = _randomness_rates(defence, clean, adversarial, labels) if draws else None
    return diagnostics.make_diagnostics(
        record,
        norms=norms,
        fooled_by_more_steps=more,
        full_budget=whole,
        randomness=randomness,
        num_steps=settings.num_steps,
        num_restarts=settings.num_restarts,
        tried=search.tried,
        first_to_fool=search.successes,
    )


def _gradient_norms(defence, modes, images, labels, settings):
    """Returns each mode's L2 norms of the margin's gradient at clean images, `(n,)` by mode."""
    found = {}
    for mode in modes:
        options = {"soft_candidates": settings.soft_candidates} if mode == "soft" else {}
        target = defence.target(mode, **options)
        norms = []
        for start in range(0, len(images), 64):
            batch = tf.convert_to_tensor(images[start : start + 64])
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(batch)
                here = labels[start : start + 64]
                margin = margin_loss(target(batch), here, kappa=UNSATURATED)
            gradient = tape.gradient(margin, batch)
            gradient = tf.zeros_like(batch) if gradient is None else gradient
            norms.append(tf.sqrt(tf.reduce_sum(tf.square(gradient), axis=(1, 2, 3))).numpy())
        found[mode or "direct"] = np.concatenate(norms)
    return found


def _strongest(search):
    """Returns the iterative attack that fooled most, as name and modes; None without one."""
    keys = [key for key in search.attacks if key.partition(":")[0] in ITERATIVE_ATTACKS]
    best = max(keys, key=search.successes.get, default=None)
    if best is None:
        return None
    name, _, mode = best.partition(":")
    return name, [mode] if mode else []


def _modes_of(search, name):
    """Returns an attack's name and the gradient modes that it took."""
    keys = [key.partition(":") for key in search.attacks]
    return name, [mode for other, _, mode in keys if other == name and mode]


def _again(defence, settings, attack, **changes):
    """Returns the worst case of one attack through its modes, from one other start."""
    changed = dataclasses.replace(settings, num_restarts=1, seed=settings.seed + 1000, **changes)
    name, modes = attack
    return WorstCase(make_attacks((name,), defence, changed, modes or None), defence.served)


def _fooled_by_more(defence, settings, attack, batches):
    """Returns how many images that withstood it all an attack of twice the steps fools."""
    again = _again(defence, settings, attack, num_steps=2 * settings.num_steps)
    for images, adversarial_images, labels in batches:
        right = _predict(defence.served, images) == labels
        held = right & (_predict(defence.served, adversarial_images) == labels)
        if held.any():
            again(np.asarray(images)[held], np.asarray(labels)[held])
    return sum(again.successes.values())


def _full_budget(defence, settings, attack, batches):
    """Returns the success rate of a short attack at epsilon 1 on a few images, and their number."""
    steps = min(settings.num_steps, _WHOLE_STEPS)
    again = _again(defence, settings, attack, num_steps=steps, epsilon=1.0)
    images, _, labels = batches[0]
    again(np.asarray(images)[:_WHOLE_IMAGES], np.asarray(labels)[:_WHOLE_IMAGES])
    tried = sum(again.tried.values())
    return (sum(again.successes.values()) / tried, tried) if tried else None


def _randomness_rates(defence, clean, adversarial, labels, num_votes=9):
    """Returns how many images stay fooled under the purifier's own, new and voted randomness.

    Args:
        defence: A `Defence` whose purifier draws.
        clean: Images `(n, H, W, C)`.
        adversarial: What was found for them.
        labels: `(n,)`.
        num_votes: Draws of the majority vote.

    Returns:
        The attack success rates `fixed`, `fresh` and `majority`, each over the images that are
        right without the attack under the same randomness.
    """
    drawing = trace_classifier(defence.classifier, defence.fresh)

    def vote(images):
        draws = [_predict(drawing, images) for _ in range(num_votes)]
        return np.stack([np.bincount(votes).argmax() for votes in np.stack(draws, axis=1)])

    deciders = {
        "fixed": functools.partial(_predict, defence.served),
        "fresh": functools.partial(_predict, drawing),
        "majority": vote,
    }
    rates = {}
    for name, decide in deciders.items():
        right = decide(clean) == labels
        fooled = right & (decide(adversarial) != labels)
        rates[name] = float(fooled.sum() / right.sum()) if right.any() else None
    return rates


def _predict(classify, images):
    return np.asarray(classify(tf.convert_to_tensor(images))).argmax(axis=1)
