"""The trainers' flags, and the way from a command line to one call of `run_fn`."""

import os
import sys

from absl import app, flags, logging

from tfpurify import vocabulary
from tfpurify.files import claim_beside
from tfpurify.training import fn_args

# So that `--help` shows these flags as the trainer's own.
flags.disclaim_key_flags()


def define(trainer):
    """Defines a trainer's flags and returns their names.

    Only a `main` calls this, so that all trainers can be imported together. A flag that is not
    given takes its value from the preset (`trainers/_presets.py`).
    """
    before = set(flags.FLAGS)
    _define_common()
    for name, define_more in (
        ("puvae", _define_puvae),
        ("defensegan", _define_defensegan),
        ("encoder", _define_encoder),
        ("advgan", _define_advgan),
    ):
        if name == trainer:
            define_more()
    return set(flags.FLAGS) - before


def define_data(dataset="mnist", source="auto"):
    """Defines the flags that say which images.

    Args:
        dataset: Default of `--dataset`.
        source: Default of `--data_source`.
    """
    flags.DEFINE_enum("dataset", dataset, vocabulary.DATASETS, "Data set.")
    flags.DEFINE_enum(
        "data_source",
        source,
        vocabulary.DATA_SOURCES,
        "Where images come from: TFDS, the embedded sample, or whichever is there (auto).",
    )
    flags.DEFINE_string("data_dir", None, "TFDS directory; TFDS_DATA_DIR if not given.")


def _define_common():
    define_data(source=None)
    flags.DEFINE_string("output_dir", None, "Where runs/ and saved_models/ are written.")
    flags.DEFINE_string("name", None, "Name of the run, if not the usual one.")
    flags.DEFINE_enum("classifier", None, vocabulary.CLASSIFIERS, "Classifier.")
    flags.DEFINE_integer("epochs", None, "Number of epochs.", lower_bound=1)
    flags.DEFINE_integer("train_steps", None, "Cap on the number of steps.", lower_bound=1)
    flags.DEFINE_integer(
        "steps_per_epoch",
        None,
        "Steps that count as an epoch; a whole pass if not given.",
        lower_bound=1,
    )
    flags.DEFINE_integer("batch_size", None, "Images in a step.", lower_bound=1)
    flags.DEFINE_float("learning_rate", None, "Peak step size of the optimizer.", lower_bound=0.0)
    flags.DEFINE_integer(
        "validation_examples", None, "Cap on the validation images.", lower_bound=1
    )
    flags.DEFINE_integer(
        "eval_examples", None, "Cap on the test images of the final record.", lower_bound=1
    )
    flags.DEFINE_integer("seed", None, "Seed of weights, order and noise.", lower_bound=0)
    flags.DEFINE_bool("mixed_precision", None, "Whether to compute in bfloat16.")
    flags.DEFINE_enum(
        "distribution",
        None,
        vocabulary.DISTRIBUTIONS,
        "Where it trains: one device, all of this machine, or those of all workers in TF_CONFIG.",
    )
    flags.DEFINE_bool("resume", None, "Whether to go on from the last checkpoint.")


def _define_puvae():
    flags.DEFINE_integer("latent_dim", None, "Size of z.", lower_bound=1)
    for name, term in (
        ("reconstruction_weight", "reconstruction"),
        ("kl_weight", "Kullback-Leibler"),
        ("classification_weight", "classification"),
    ):
        flags.DEFINE_float(name, None, f"Weight of the {term} loss.", lower_bound=0.0)
    flags.DEFINE_integer(
        "classification_warmup_steps", None, "Steps over which its weight rises.", lower_bound=0
    )
    flags.DEFINE_float("noise_scale", None, "Latent noise in purification.", lower_bound=0.0)
    _define_input_noise()
    flags.DEFINE_enum(
        "classification_labels",
        None,
        vocabulary.CLASSIFICATION_LABELS,
        "Under which label the reconstruction is made that the classifier has to recognise.",
    )
    flags.DEFINE_bool("batch_normalization", None, "Whether the encoder is batch normalised.")
    flags.DEFINE_bool("adversarial", None, "Whether to train on images under attack.")
    _define_epsilon()
    flags.DEFINE_integer(
        "epsilon_warmup_steps", None, "Steps over which that bound rises.", lower_bound=0
    )
    flags.DEFINE_integer("attack_steps", None, "Steps of that attack.", lower_bound=1)
    flags.DEFINE_bool(
        "attacks_classifier", None, "Whether every fourth attack goes through the classifier."
    )
    for name, words in (("selection_weight", "loss on the choice"), ("clean_weight", "clean loss")):
        flags.DEFINE_float(name, None, f"Weight of the {words}.", lower_bound=0.0)


def _define_epsilon():
    flags.DEFINE_float("epsilon", None, "L-inf bound on the perturbation, in (0, 1].")


def _define_soft_candidates():
    flags.DEFINE_integer(
        "soft_candidates", None, "Nearest candidates that `soft` mixes; all.", lower_bound=1
    )


def _define_input_noise():
    flags.DEFINE_float(
        "input_noise", None, "Bound of the uniform noise on training images.", lower_bound=0.0
    )
    flags.DEFINE_integer(
        "input_noise_period", None, "Pixels after which half of that noise repeats.", lower_bound=1
    )


def _define_prior():
    flags.DEFINE_enum("gan_loss", None, vocabulary.PRIOR_LOSSES, "Loss of the prior.")
    flags.DEFINE_integer("width", None, "Multiplies the prior's channels.", lower_bound=1)


def _define_encoder():
    _define_prior()
    _define_input_noise()


def _define_defensegan():
    _define_prior()
    flags.DEFINE_integer("latent_dim", None, "Size of z.", lower_bound=1)
    flags.DEFINE_integer("critic_steps", None, "Critic steps a step (wgan-gp).", lower_bound=1)
    flags.DEFINE_float(
        "gradient_penalty_weight", None, "Weight of the gradient penalty.", lower_bound=0.0
    )
    _define_descent()


def _define_descent():
    flags.DEFINE_integer("num_steps", None, "L, steps of DefenseGAN's descent.", lower_bound=1)
    flags.DEFINE_integer("num_restarts", None, "R, starts of DefenseGAN's descent.", lower_bound=1)


def _define_advgan():
    flags.DEFINE_enum("defense", None, vocabulary.DEFENSES, "Purifier in front of the classifier.")
    flags.DEFINE_bool("whitebox", None, "Whether the attacker knows the purifier too.")
    flags.DEFINE_enum(
        "blackbox",
        None,
        vocabulary.DISTILLATIONS,
        "How an attacker who knows nothing distils a surrogate.",
    )
    flags.DEFINE_enum("surrogate", None, vocabulary.CLASSIFIERS, "The surrogate's network.")
    flags.DEFINE_integer(
        "distillation_epochs", None, "Passes of the static distillation.", lower_bound=1
    )
    flags.DEFINE_enum("augment", None, vocabulary.AUGMENTATIONS, "Random changes of its images.")
    flags.DEFINE_bool("targeted", None, "Whether to move towards target_class.")
    flags.DEFINE_integer("target_class", None, "Class to move towards.", lower_bound=0)
    _define_epsilon()
    flags.DEFINE_enum(
        "adversarial_loss", None, vocabulary.ADVERSARIAL_LOSSES, "Loss that fools the target."
    )
    flags.DEFINE_enum("gan_loss", None, vocabulary.GAN_LOSSES, "Loss of the discriminator.")
    flags.DEFINE_float("alpha", None, "Weight of the GAN loss.", lower_bound=0.0)
    flags.DEFINE_float("beta", None, "Weight of the hinge loss.", lower_bound=0.0)
    flags.DEFINE_float("hinge_bound", None, "c, L2 norm that costs nothing.", lower_bound=0.0)
    flags.DEFINE_float("kappa", None, "Confidence of the margin loss.", lower_bound=0.0)
    flags.DEFINE_integer(
        "bottleneck_channels", None, "Channels at the generator's bottleneck.", lower_bound=1
    )
    flags.DEFINE_bool(
        "warm_start", None, "Whether to start from the trained attack on the bare classifier."
    )
    flags.DEFINE_enum(
        "gradient_mode", None, vocabulary.GRADIENT_MODES, "How gradients cross the purifier."
    )
    _define_soft_candidates()
    _define_descent()


def run(trainer, run_fn):
    """Parses the command line, calls `run_fn` once and exits; an error is one line, exit status 1.

    Args:
        trainer: The trainer's name.
        run_fn: Its `run_fn(fn_args)`.
    """
    run_app(define(trainer), lambda options: run_fn(fn_args.FnArgs(custom_config=options)))


def run_app(names, call):
    """Runs `call(options)`, the values of the flags in `names`, as a program."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

    def main(argv):
        if len(argv) > 1:
            _fail(f"Arguments must be flags. Received: {' '.join(argv[1:])}")
        logging.set_verbosity(logging.INFO)
        options = {name: flags.FLAGS[name].value for name in names}
        try:
            if options.get("results_file"):
                claim_beside(options["results_file"])  # lines are replaced in it as they are found
            call(options)
        except _expected_errors() as error:
            logging.debug("The run failed.", exc_info=True)
            _fail(str(error))

    app.run(main, flags_parser=_parse)


def _parse(argv):
    if any(argument.lstrip("-").startswith("help") for argument in argv[1:]):
        return app.parse_flags_with_usage(argv)
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:
        return _fail(str(error))


def _expected_errors():
    import tensorflow as tf

    return (ValueError, TypeError, OSError, ImportError, FloatingPointError, tf.errors.OpError)


def _fail(message):
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(1)
