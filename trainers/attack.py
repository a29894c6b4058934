"""Attacks a trained defence: `python -m trainers.attack --attack=pgd --defense=puvae`.

Every attack runs through every gradient mode that is asked for, each on the images that none before
it has fooled the defence with; the record is that of the worst case for each image. What found
what, and the checks of it, stand in attacks.jsonl beside the record.
"""

import json
from pathlib import Path

from absl import flags, logging

from tfpurify import provenance, vocabulary
from trainers import _flags


def define_flags():
    """Defines the flags and returns their names; only `main` calls this."""
    before = set(flags.FLAGS)
    _flags.define_data()
    flags.DEFINE_enum("split", "test", ("test", "validation"), "Whose images are attacked.")
    flags.DEFINE_enum("classifier", None, vocabulary.CLASSIFIERS, "Classifier; the study's.")
    flags.DEFINE_enum(
        "defense",
        "none",
        (*vocabulary.DEFENSES, *vocabulary.BASELINES),
        "Purifier in front of it; jpeg and bit_depth are ART's.",
    )
    flags.DEFINE_enum(
        "threat_model",
        "whitebox",
        ("blackbox", "blind", "whitebox"),
        "Whether the attacker knows all, the classifier alone, or can only ask.",
    )
    flags.DEFINE_list("attack", ["pgd"], f"Attacks among {', '.join(vocabulary.ATTACKS)}.")
    flags.DEFINE_list(
        "gradient_mode", None, "How gradients cross the purifier; strongest: all that it has."
    )
    flags.DEFINE_list("advgans", [], "Trained AdvGANs beside the usual ones: runs or of the zoo.")
    flags.DEFINE_list(
        "epsilon", None, "Bounds on the perturbation, a record for each; the study's 0.2."
    )
    flags.DEFINE_integer(
        "num_steps",
        100,
        "Steps of gradient attacks; square asks ten times as often, cw_l2 takes a fifth in each of "
        "its ten searches, hopskipjump a tenth.",
        lower_bound=1,
    )
    flags.DEFINE_integer(
        "num_restarts", 1, "Random starts of pgd, apgd, square and pgd_l2.", lower_bound=1
    )
    flags.DEFINE_integer("num_draws", 4, "Draws that pgd_eot averages.", lower_bound=1)
    flags.DEFINE_integer(
        "soft_candidates", None, "Nearest candidates that `soft` mixes; all.", lower_bound=1
    )
    flags.DEFINE_bool(
        "diagnose",
        True,
        "Whether to check gradients, convergence (twice the steps) and randomness, and to write "
        "attacks.jsonl beside results_file.",
    )
    flags.DEFINE_integer("limit", 100, "Cap on the images.", lower_bound=1)
    flags.DEFINE_integer("batch_size", 100, "Images that are attacked at once.", lower_bound=1)
    flags.DEFINE_integer("seed", 0, "Seed of the random starts.", lower_bound=0)
    flags.DEFINE_string("output_dir", None, "Folder whose runs/ go before the zoo.")
    flags.DEFINE_string("results_file", None, "JSON lines file in which the records are written.")
    return set(flags.FLAGS) - before


def attack(options):
    """Attacks a defence and returns its records, one for each epsilon.

    Args:
        options: The flags by name.

    Raises:
        ValueError: If an attack or a mode is unknown, a part is not trained, or a gradient is dead.
    """
    from tfpurify.data import loading
    from tfpurify.evaluation import defences
    from tfpurify.evaluation.diagnostics import with_derived_checks
    from tfpurify.vocabulary import STUDY_EPSILON

    defences.require_names(options["attack"], options["threat_model"])
    epsilons = [_epsilon(word) for word in options["epsilon"] or ()]
    dataset = options["dataset"]
    defence = defences.load_defence(
        *(dataset, options["defense"], options["threat_model"]),
        *(options["output_dir"], options["classifier"]),
    )
    modes = _modes(options, defence)
    usual = STUDY_EPSILON
    if _is_mean_squared(options["attack"]):
        usual = defences.PUBLISHED_MEAN_SQUARED
    source = loading.resolve_source(dataset, options["data_dir"], options["data_source"])
    images = loading.load_dataset(dataset, options["split"], options["data_dir"], source)
    images = images.take(options["limit"]).batch(options["batch_size"])
    found, lines = [], []
    for epsilon in epsilons or [usual]:
        record, line = _measure(defence, modes, epsilon, images, source, options)
        found.append(record)
        lines += [line] if line is not None else []
        if options["results_file"]:
            _write(Path(options["results_file"]), found, line)
        else:
            found = with_derived_checks(found, lines)
        for flag in set(found[-1]["checks"]).difference(record["checks"]):
            logging.warning("Check raised: %s", flag)
        print(json.dumps(found[-1], indent=2))
    return found


def _epsilon(word):
    from tfpurify.models import losses

    try:
        epsilon = float(word)
    except ValueError:
        raise ValueError(f"`epsilon` must be numbers. Received: {word!r}") from None
    losses.require_epsilon(epsilon)
    return epsilon


def _modes(options, defence):
    """Returns the gradient modes that were asked for, or None for all that the defence has."""
    asked = options["gradient_mode"]
    if not asked:
        return None
    if not defence.is_crossed:
        raise ValueError(
            "`gradient_mode` needs a `defense` that the attacker knows. "
            f"Received: defense={options['defense']!r}, threat_model={options['threat_model']!r}"
        )
    unknown = sorted(set(asked) - {*vocabulary.GRADIENT_MODES, "strongest"})
    if unknown:
        choices = [*vocabulary.GRADIENT_MODES, "strongest"]
        raise ValueError(f"`gradient_mode` must be among {choices}. Received: {unknown}")
    return None if "strongest" in asked else tuple(asked)


def _is_mean_squared(names):
    return bool(set(names) & set(vocabulary.MEAN_SQUARED_ATTACKS))


def _measure(defence, modes, epsilon, batches, source, options):
    """Returns the record of one epsilon and its line of diagnostics, or None."""
    from tfpurify.attacks.worst_case import WorstCase
    from tfpurify.evaluation import attack_diagnosis, checks, defences, records
    from tfpurify.evaluation.rates import evaluate

    numbers = ("num_steps", "num_restarts", "num_draws", "seed", "soft_candidates")
    settings = defences.Settings(epsilon, **{name: options[name] for name in numbers})
    advgans, missing, own = {}, [], None
    if "advgan" in options["attack"]:
        more = (options["output_dir"], options["advgans"], options["classifier"])
        advgans, missing = defences.load_advgans(defence, epsilon, *more)
        if options["defense"] not in vocabulary.BASELINES:
            own = defences.usual_advgans(defence, epsilon, options["classifier"])[0].name
    attacks = defences.make_attacks(options["attack"], defence, settings, modes, advgans)
    search = WorstCase(attacks, defence.served)
    kept = _Kept(search)
    rates = evaluate(
        batches,
        defence.classifier,
        purifier=defence.purifier,
        attack=kept,
        epsilon=epsilon,
        norm="mean_squared" if _is_mean_squared(options["attack"]) else "linf",
    )
    used = _used_modes(defence, modes, advgans, options)
    record = records.make_record(
        rates,
        dataset=options["dataset"],
        data_source=source,
        split=options["split"],
        classifier=options["classifier"] or vocabulary.STUDY_CLASSIFIERS[options["dataset"]],
        purifier=options["defense"],
        threat_model=defence.threat_model,
        attack=_word(options["attack"], advgans, own),
        gradient_mode="strongest" if len(used) > 1 else used[0] if used else None,
        seed=options["seed"],
        command=provenance.portable_command(provenance.command_line()),
    )
    logging.info("The first to fool it, by attack: %s", search.successes)
    line, raised = None, []
    if options["diagnose"]:
        line, raised = attack_diagnosis.diagnose(defence, modes, settings, record, search, kept)
    is_worst = len(used) > 1 or (used and record["attack"].startswith("worst_case"))
    left_out = checks.check_modes(used, defence.modes) if is_worst else None
    for flag in (checks.check_advgans(missing), left_out, *raised):
        if flag is not None:
            logging.warning("Check raised: %s", flag)
            record["checks"].append(flag)
    return record, line


class _Kept:
    """An attack that keeps what it was given and what it made of it."""

    def __init__(self, attack):
        self.attack = attack
        self.batches = []

    def __call__(self, images, labels):
        adversarial_images = self.attack(images, labels)
        self.batches.append((images, adversarial_images, labels))
        return adversarial_images


def _used_modes(defence, modes, advgans, options):
    """Returns the gradient modes that took part, () if no gradient crossed a purifier."""
    from tfpurify.evaluation import defences
    from tfpurify.training import trained_parts

    if not defence.is_crossed:
        return ()
    if set(options["attack"]) - set(defences.NEEDS_NO_GRADIENT):
        return modes or defence.modes
    if len(advgans) != 1:
        return ()
    (name,) = advgans
    described = trained_parts.describe(name, options["output_dir"])
    mode = described.get("gradient_mode") if described.get("defense", "") != "none" else None
    return (mode,) if mode else ()


def _word(names, advgans, own):
    """Returns a record's word for the attacks: the one, or the worst case of several.

    `advgan` is the one that was trained for this attacker, alone.
    """
    if names == ["advgan"] and list(advgans) != [own]:
        return "worst_case"
    if len(names) == 1:
        return names[0]
    return "worst_case_l2" if _is_mean_squared(names) else "worst_case"


def _write(path, found, line):
    """Writes the run's records with the flags that they and those on file raise beside them."""
    from tfpurify.evaluation import diagnostics, records
    from tfpurify.evaluation.updating import update_records

    lines_path = path.with_name(diagnostics.ATTACKS_FILE)
    if line is not None:
        diagnostics.update_diagnostics(lines_path, [line])
    lines = diagnostics.read_diagnostics(lines_path)
    older = records.read_records(path) if path.exists() else []
    older = [record for record in older if record not in found]
    found[:] = diagnostics.with_derived_checks([*older, *found], lines)[len(older) :]
    update_records(path, found)


def main():
    """Runs the command line."""
    _flags.run_app(define_flags(), attack)


if __name__ == "__main__":
    main()
