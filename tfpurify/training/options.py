"""The trainers' options: what each is called, what it may be and what it is for.

Flags are made from this table, values that come from no flag are checked against it, and models
take their arguments from it. What an option is by default stands in `presets`.
"""

import dataclasses
import math
import os

from tfpurify import vocabulary

_ACCEPTED = {float: (int, float), str: (str, os.PathLike)}


@dataclasses.dataclass(frozen=True)
class Option:
    """One option of a trainer.

    Args:
        name: Of its flag, of its preset and, if a model takes it, of the model's argument.
        kind: Its type: `int`, `float`, `bool` or `str`.
        help: What its flag says; without it there is no flag.
        minimum: The lowest number that it may be, or None.
        choices: What a string may be, or nothing.
    """

    name: str
    kind: type
    help: str | None = None
    minimum: float | None = None
    choices: tuple = ()

    def check(self, value):
        """Refuses a value that its flag would have refused.

        Raises:
            TypeError: If the value is of another type.
            ValueError: If it is out of range, not finite or no choice.
        """
        is_right = isinstance(value, _ACCEPTED.get(self.kind, self.kind))
        # Python takes True for 1.
        if not is_right or (self.kind in (int, float) and isinstance(value, bool)):
            need, error = f"of type {self.kind.__name__}", TypeError
        elif isinstance(value, float) and not math.isfinite(value):
            need, error = "finite", ValueError
        elif self.minimum is not None and value < self.minimum:
            need, error = f">= {self.minimum:g}", ValueError
        elif self.choices and value not in self.choices:
            need, error = f"one of {list(self.choices)}", ValueError
        else:
            return
        raise error(f"`{self.name}` must be {need}. Received: {self.name}={value!r}")


def _choice(name, choices, text=None):
    return Option(name, str, text, choices=choices)


def _text(name, text):
    return Option(name, str, text)


def _switch(name, text):
    return Option(name, bool, text)


def _count(name, text, minimum=1):
    return Option(name, int, text, minimum)


def _number(name, text=None, minimum=0.0):
    return Option(name, float, text, minimum)


DATA = (
    _text(
        "dataset",
        f"{', '.join(vocabulary.DATASETS)}; a folder of images, one subfolder a class; an .npz "
        "file; or TFDS's name of a data set.",
    ),
    _choice(
        "data_source",
        vocabulary.DATA_SOURCES,
        "Where images come from: TFDS, the embedded sample, or whichever is there (auto).",
    ),
    _text("data_dir", "TFDS directory; TFDS_DATA_DIR if not given."),
    _text("image_size", "HEIGHTxWIDTH to which images are resized, as 64x48."),
)
CLASSIFIER = (
    _text(
        "classifier",
        f"{', '.join(vocabulary.CLASSIFIERS)}; or your own: a .keras or .h5 file or a SavedModel.",
    ),
    _text("image_range", "Of the images that your classifier takes, as 0,255; 0,1."),
    _choice(
        "classifier_outputs", vocabulary.OUTPUTS, "What your classifier returns; it is looked at."
    ),
    _text("classifier_mean", "Subtracted from its images in that range: a number, or three."),
    _text("classifier_std", "Divided by after that."),
    _choice("classifier_channels", vocabulary.CHANNEL_ORDERS, "In which order it takes colours."),
    _text("classifier_output_name", "Which of its outputs, where it has several."),
    _switch("trust_classifier", "Whether your classifier's file may run code."),
)
_SEED = _count("seed", "Seed of weights, order and noise.", minimum=0)
_COMMON = (
    *DATA,
    _SEED,
    _text("output_dir", "Where runs/ and saved_models/ are written."),
    _text("name", "Name of the run, if not the usual one."),
    *CLASSIFIER,
    _count("epochs", "Number of epochs."),
    _count("train_steps", "Cap on the number of steps."),
    _count("steps_per_epoch", "Steps that count as an epoch; a whole pass if not given."),
    _count("batch_size", "Images in a step."),
    _number("learning_rate", "Peak step size of the optimizer."),
    _count("validation_examples", "Cap on the validation images."),
    _count("eval_examples", "Cap on the test images of the final record."),
    _switch("mixed_precision", "Whether to compute in bfloat16."),
    _choice(
        "distribution",
        vocabulary.DISTRIBUTIONS,
        "Where it trains: one device, all of this machine, or those of all workers in TF_CONFIG.",
    ),
    _switch("resume", "Whether to go on from the last checkpoint."),
)
_AUGMENT = _choice("augment", vocabulary.AUGMENTATIONS)
_EPSILON = _number("epsilon", "L-inf bound on the perturbation, in (0, 1].", minimum=None)
_INPUT_NOISE = (
    _number("input_noise", "Bound of the uniform noise on training images."),
    _count("input_noise_period", "Pixels after which half of that noise repeats."),
)
_LATENT_DIM = _count("latent_dim", "Size of z.")
_PRIOR = (
    _choice("gan_loss", vocabulary.PRIOR_LOSSES, "Loss of the prior."),
    _count("width", "Multiplies the prior's channels."),
)
_DESCENT = (
    _count("num_steps", "L, steps of DefenseGAN's descent."),
    _count("num_restarts", "R, starts of DefenseGAN's descent."),
)

# The options that the constructor of a trainer's model takes.
_ARGUMENTS = {
    "classifier": (),
    "puvae": (
        _SEED,
        _LATENT_DIM,
        *_INPUT_NOISE,
        _number("reconstruction_weight", "Weight of the reconstruction loss."),
        _number("kl_weight", "Weight of the Kullback-Leibler loss."),
        _number("classification_weight", "Weight of the classification loss."),
        _count("classification_warmup_steps", "Steps over which its weight rises.", minimum=0),
        _number("noise_scale", "Latent noise in purification."),
        _choice(
            "classification_labels",
            vocabulary.CLASSIFICATION_LABELS,
            "Under which label the reconstruction is made that the classifier has to recognise.",
        ),
        _switch("batch_normalization", "Whether the encoder is batch normalised."),
        _EPSILON,
        _count("epsilon_warmup_steps", "Steps over which that bound rises.", minimum=0),
        _count("attack_steps", "Steps of that attack."),
        _switch("attacks_classifier", "Whether every fourth attack goes through the classifier."),
        _number("selection_weight", "Weight of the loss on the choice."),
        _number("clean_weight", "Weight of the clean loss."),
    ),
    "defensegan": (
        _SEED,
        _LATENT_DIM,
        *_PRIOR,
        _count("critic_steps", "Critic steps a step (wgan-gp)."),
        _number("gradient_penalty_weight", "Weight of the gradient penalty."),
    ),
    "encoder": (_SEED, *_INPUT_NOISE),
    "advgan": (
        _EPSILON,
        _choice("adversarial_loss", vocabulary.ADVERSARIAL_LOSSES, "Loss that fools the target."),
        _choice("gan_loss", vocabulary.GAN_LOSSES, "Loss of the discriminator."),
        _number("alpha", "Weight of the GAN loss."),
        _number("beta", "Weight of the hinge loss."),
        _number("hinge_bound", "c, L2 norm that costs nothing."),
        _number("kappa", "Confidence of the margin loss."),
        _count("bottleneck_channels", "Channels at the generator's bottleneck."),
    ),
}
_OTHERS = {
    "classifier": (_choice("optimizer", ("adamw", "sgd")), _number("weight_decay"), _AUGMENT),
    "puvae": (_switch("adversarial", "Whether to train on images under attack."), _AUGMENT),
    "defensegan": _DESCENT,
    "encoder": (*_PRIOR, _AUGMENT),
    "advgan": (
        _choice("defense", vocabulary.DEFENSES, "Purifier in front of the classifier."),
        _switch("whitebox", "Whether the attacker knows the purifier too."),
        _choice(
            "blackbox",
            vocabulary.DISTILLATIONS,
            "How an attacker who knows nothing distils a surrogate.",
        ),
        _choice("surrogate", vocabulary.CLASSIFIERS, "The surrogate's network."),
        _count("distillation_epochs", "Passes of the static distillation."),
        _choice("augment", vocabulary.AUGMENTATIONS, "Random changes of its images."),
        _switch("targeted", "Whether to move towards target_class."),
        _count("target_class", "Class to move towards.", minimum=0),
        _switch("warm_start", "Whether to start from the trained attack on the bare classifier."),
        _choice("gradient_mode", vocabulary.GRADIENT_MODES, "How gradients cross the purifier."),
        _count("soft_candidates", "Nearest candidates that `soft` mixes; all."),
        *_DESCENT,
    ),
}
OPTIONS = {
    trainer: {o.name: o for o in (*_COMMON, *_ARGUMENTS[trainer], *_OTHERS[trainer])}
    for trainer in _ARGUMENTS
}


def model_arguments(trainer, config):
    """Returns what of a run's configuration the constructor of its model takes, by name."""
    names = [option.name for option in _ARGUMENTS[trainer]]
    return {name: config[name] for name in names if name in config}
