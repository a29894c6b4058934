"""Attacks a trained defence: `python -m trainers.attack --attack=pgd --defense=puvae`.

Every attack runs through every gradient mode that is asked for, each on the images that none before
it has fooled the defence with; the record is that of the worst case for each image.
"""

import json

from absl import flags, logging

from tfpurify import vocabulary
from trainers import _flags

_ATTACKS = ("advgan", "pgd", *vocabulary.ART_ATTACKS)
_NEEDS_NO_GRADIENT = ("advgan", "square", "hopskipjump")


def define_flags():
    """Defines the flags and returns their names; only `main` calls this."""
    before = set(flags.FLAGS)
    flags.DEFINE_enum("dataset", "mnist", vocabulary.DATASETS, "Data set.")
    flags.DEFINE_enum("data_source", "auto", vocabulary.DATA_SOURCES, "Where images come from.")
    flags.DEFINE_string("data_dir", None, "TFDS directory; TFDS_DATA_DIR if not given.")
    flags.DEFINE_enum("split", "test", ("test", "validation"), "Whose images are attacked.")
    flags.DEFINE_enum("classifier", None, vocabulary.CLASSIFIERS, "Classifier; the study's.")
    flags.DEFINE_enum("defense", "none", vocabulary.DEFENSES, "Purifier in front of it.")
    flags.DEFINE_enum(
        "threat_model",
        "whitebox",
        ("blind", "whitebox"),
        "Whether the attacker knows the purifier or the classifier alone.",
    )
    flags.DEFINE_list("attack", ["pgd"], f"Attacks among {', '.join(_ATTACKS)}.")
    flags.DEFINE_list("gradient_mode", None, "How gradients cross the purifier; all that it has.")
    flags.DEFINE_float("epsilon", None, "L-inf bound on the perturbation; the study's 0.2.")
    flags.DEFINE_integer("num_steps", 100, "Steps of an attack; queries of square.", lower_bound=1)
    flags.DEFINE_integer("num_restarts", 1, "Random starts of each attack.", lower_bound=1)
    flags.DEFINE_integer("limit", 100, "Cap on the images.", lower_bound=1)
    flags.DEFINE_integer("batch_size", 100, "Images that are attacked at once.", lower_bound=1)
    flags.DEFINE_integer("seed", 0, "Seed of the random starts.", lower_bound=0)
    flags.DEFINE_string("output_dir", None, "Folder whose runs/ go before the zoo.")
    flags.DEFINE_string("results_file", None, "JSON lines file in which the record is written.")
    return set(flags.FLAGS) - before


def attack(options):
    """Attacks a defence and returns its record.

    Args:
        options: The flags by name.

    Raises:
        ValueError: If an attack or a mode is unknown, a part is not trained, or a gradient is dead.
    """
    import tensorflow as tf

    from tfpurify import data, evaluation, records, report
    from tfpurify.attacks.worst_case import WorstCase
    from tfpurify.purified_classifier import PurifiedClassifier
    from tfpurify.study import STUDY_EPSILON
    from trainers import _parts, _plan

    _require_attacks(options["attack"])
    dataset, defense = options["dataset"], options["defense"]
    epsilon = STUDY_EPSILON if options["epsilon"] is None else options["epsilon"]
    classifier = _parts.load_classifier(dataset, options["output_dir"], options["classifier"])
    purifier = _parts.load_purifier(defense, dataset, options["output_dir"])
    is_through_purifier = purifier is not None and options["threat_model"] == "whitebox"
    known = (None,)
    if is_through_purifier:
        kind = defense if defense in _plan.GRADIENT_MODES else defense.partition("_")[0]
        known = _plan.GRADIENT_MODES[kind]
    if options["gradient_mode"] and not is_through_purifier:
        raise ValueError(
            "`gradient_mode` needs a `defense` that the attacker knows. "
            f"Received: defense={defense!r}, threat_model={options['threat_model']!r}"
        )
    modes = tuple(options["gradient_mode"] or known)
    deployed = classifier if purifier is None else PurifiedClassifier(purifier, classifier)
    signature = [tf.TensorSpec((None, *classifier.image_shape), tf.float32)]
    served = tf.function(lambda images: deployed(images, training=False), signature)

    attacks = {}
    for name in options["attack"]:
        for mode in modes[:1] if name in _NEEDS_NO_GRADIENT else modes:
            target = classifier
            if is_through_purifier:
                target = PurifiedClassifier(purifier, classifier, mode or "exact")
            key = name if name in _NEEDS_NO_GRADIENT or mode is None else f"{name}:{mode}"
            attacks[key] = _make(name, target, epsilon, options)
    search = WorstCase(attacks, served if is_through_purifier or purifier is None else classifier)
    source = data.resolve_source(dataset, options["data_dir"], options["data_source"])
    images = data.load_dataset(dataset, options["split"], options["data_dir"], source)
    rates = evaluation.evaluate(
        images.take(options["limit"]).batch(options["batch_size"]),
        classifier,
        purifier=purifier,
        attack=search,
        epsilon=epsilon,
    )
    is_whitebox = is_through_purifier or purifier is None
    used = [mode for mode in modes if mode is not None]
    record = records.make_record(
        rates,
        dataset=dataset,
        data_source=source,
        split=options["split"],
        classifier=options["classifier"] or vocabulary.STUDY_CLASSIFIERS[dataset],
        purifier=defense,
        threat_model="whitebox" if is_whitebox else "blind",
        attack="+".join(options["attack"]),
        gradient_mode="strongest" if len(used) > 1 else used[0] if used else None,
        seed=options["seed"],
        command=_plan.portable_command(records.command_line()),
    )
    if options["results_file"]:
        report.update_records(options["results_file"], [record], [])
    logging.info("The first to fool it, by attack: %s", search.successes)
    print(json.dumps(record, indent=2))
    return record


def _make(name, target, epsilon, options):
    from tfpurify.attacks.pgd import PGD
    from tfpurify.attacks.worst_case import WorstCase
    from trainers import _parts

    if name == "advgan":
        known = options["defense"] if options["threat_model"] == "whitebox" else "none"
        part = _parts.attack_part(options["dataset"], epsilon, options["classifier"], known)
        return _parts.load_part(part[0], options["output_dir"], part[1]).generate
    steps, restarts, seed = (options[key] for key in ("num_steps", "num_restarts", "seed"))
    if name == "pgd":
        starts = {
            start: PGD(target, epsilon, steps, seed=seed + start) for start in range(restarts)
        }
        return WorstCase(starts, getattr(target, "exact_logits", target))
    from tfpurify.art import ARTAttack

    return ARTAttack(name, target, target.image_shape, epsilon, steps, restarts, seed)


def _require_attacks(names):
    unknown = sorted(set(names) - set(_ATTACKS))
    if unknown or not names:
        raise ValueError(f"`attack` must be among {list(_ATTACKS)}. Received: {unknown or names}")


def main():
    """Runs the command line."""
    _flags.run_app(define_flags(), attack)


if __name__ == "__main__":
    main()
