"""Attacks a trained defence: `python -m trainers.attack --attack=pgd --defense=puvae`.

Every attack runs through every gradient mode that is asked for, each on the images that none before
it has fooled the defence with; the record is that of the worst case for each image. What found
what, and the checks of it, stand in attacks.jsonl beside the record.
"""

import json

from absl import flags

from tfpurify import vocabulary
from trainers import _flags


def define_flags():
    """Defines the flags and returns their names; only `main` calls this."""
    before = set(flags.FLAGS)
    _flags.define_data()
    flags.DEFINE_enum("split", "test", ("test", "validation"), "Whose images are attacked.")
    _flags.define_classifier()
    flags.DEFINE_enum(
        "defense",
        "none",
        (*vocabulary.DEFENSES, *vocabulary.BASELINES),
        "Purifier in front of it; jpeg and bit_depth are ART's.",
    )
    flags.DEFINE_string(
        "purifier_run", None, "Run, of output_dir or the zoo, whose PuVAE or prior stands for it."
    )
    flags.DEFINE_list("noise_scales", [], "Latent noises of a PuVAE, records for each; its own.")
    flags.DEFINE_list(
        "descents", [], "LxR of a DefenseGAN, steps x starts, records for each; as it is served."
    )
    flags.DEFINE_enum(
        "threat_model",
        "whitebox",
        ("blackbox", "blind", "whitebox"),
        "Whether the attacker knows all, the classifier alone, or can only ask.",
    )
    flags.DEFINE_list(
        "attack",
        [],
        f"Attacks among {', '.join(vocabulary.ATTACKS)}; what the threat model tries by default.",
    )
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
    flags.DEFINE_string("sheet", None, "PNG file: a few images, attacked and purified, to look at.")
    return set(flags.FLAGS) - before


def attack(options):
    """Attacks a defence and returns its records, one for each epsilon.

    Args:
        options: The flags by name.

    Raises:
        ValueError: If an attack or a mode is unknown, a part is not trained, or a gradient is dead.
    """
    from tfpurify.evaluation.attack_run import attack_trained_defence
    from tfpurify.report.figures import figure_images

    sheet = options.get("sheet")
    return attack_trained_defence(
        options,
        lambda record: print(json.dumps(record, indent=2), flush=True),
        (lambda rows: figure_images(rows, sheet)) if sheet else None,
    )


def main():
    """Runs the command line."""
    _flags.run_app(define_flags(), attack)


if __name__ == "__main__":
    main()
