"""What a purifier buys your classifier: `python -m trainers.protect --dataset=photos ...`.

    python -m trainers.protect --dataset=photos --classifier=model.keras

Checks the classifier on the images; measures what an attacker does to it; trains a purifier;
attacks through it, as one who does not know it and as one who does; says what it costs and what it
saves, and whether it is worth it; writes the bundle to serve. All of it within `--minutes`. The
same command line goes on where it stopped.

Exit status: 0, a purifier is worth it; 3, none is worse than no purifier, but none holds out
against an attacker who knows it; 4, a purifier is worse than none; 1, the job could not be done.
"""

from absl import flags

from tfpurify import vocabulary
from trainers import _flags

NOT_WORTH_IT, WORSE_THAN_NONE = 3, 4


def define_flags():
    """Defines the flags and returns their names; only `main` calls this."""
    before = set(flags.FLAGS)
    _flags.define_data(dataset=None)
    _flags.define_classifier()
    flags.DEFINE_list(
        "purifier",
        None,
        f"Purifiers to train and compare, of {', '.join(vocabulary.DEFENSES[1:])}; for grey images "
        "puvae_adversarial, for coloured ones, which it is seldom made for in the time, puvae.",
    )
    flags.DEFINE_list(
        "epsilon", None, "Bounds of the attacks in [0, 1]; 8/255 for colour, 0.1 for grey images."
    )
    flags.DEFINE_float("minutes", 30.0, "What the whole job may take.", lower_bound=1.0)
    flags.DEFINE_integer("limit", 1000, "Cap on the test images.", lower_bound=10)
    flags.DEFINE_integer("num_steps", 40, "Steps of the gradient attacks.", lower_bound=1)
    flags.DEFINE_integer("seed", 0, "Seed of the trainings and the attacks.", lower_bound=0)
    flags.DEFINE_string("output_dir", ".", "Where runs/ and saved_models/ are written.")
    flags.mark_flag_as_required("dataset")
    return set(flags.FLAGS) - before


def protect(options):
    """Does the whole job and returns the exit status.

    Args:
        options: The flags by name.

    Raises:
        ValueError: If the classifier does no better than chance, has too few outputs, or an option
            is out of range.
        ChildProcessError: If a training fails.
    """
    from tfpurify.serving.protected_classifier import protect_classifier

    verdicts = protect_classifier(options, lambda text: print(text, flush=True))
    if any(verdict.is_worse_than_none for verdict in verdicts):
        return WORSE_THAN_NONE
    return 0 if any(verdict.is_worth_it for verdict in verdicts) else NOT_WORTH_IT


def main():
    """Runs the command line."""
    _flags.run_app(define_flags(), protect)


if __name__ == "__main__":
    main()
