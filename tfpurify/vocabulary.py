"""The words of the study as plain constants, importable without TensorFlow.

Flags, records and models all take their choices from here, so that a command line can list them
before any heavy import. What is said of each defence stands in `registry`.
"""

from tfpurify.registry import DEFENCES

DATASETS = ("mnist", "fashion_mnist", "cifar10")
STUDY_CLASSIFIERS = {"mnist": "cnn", "fashion_mnist": "cnn", "cifar10": "vgg13"}
STUDY_EPSILON = 0.2
TRANSFER_ARCHITECTURES = ("a", "b")  # beside the study's classifier
SMALL_EPSILON = 8 / 255  # the field's budget on CIFAR-10
DATA_SOURCES = ("auto", "tfds", "embedded")
RECORDED_SOURCES = ("tfds", "embedded", "own")
DISTRIBUTIONS = ("none", "mirrored", "multi_worker")
OUTPUTS = ("logits", "probabilities", "auto")  # of a classifier
CHANNEL_ORDERS = ("rgb", "bgr")
CLASSIFIERS = ("cnn", "vgg13", "a", "b", "c", "d")
DEFENSES = tuple(name for name, entry in DEFENCES.items() if not entry.is_baseline)
BASELINES = tuple(name for name, entry in DEFENCES.items() if entry.is_baseline)
THREAT_MODELS = ("none", "blackbox", "blind", "whitebox")
DISTILLATIONS = ("none", "static", "dynamic")
PROJECTORS = ("fast", "reference")
GRADIENT_MODES = ("exact", "truncated", "bpda", "encoder", "soft", "selection")
# Those whose forward value is not the purifier's: to climb, never to evaluate.
SURROGATE_MODES = ("soft", "selection")
DEFENSE_MODES = {name: entry.modes for name, entry in DEFENCES.items()}
ART_ATTACKS = ("fgsm", "apgd_ce", "apgd_dlr", "cw_l2", "square", "hopskipjump", "pgd_l2")
# Those that bound the mean squared difference, not the largest one.
MEAN_SQUARED_ATTACKS = ("latent", "pgd_l2")
MEAN_SQUARED = (*MEAN_SQUARED_ATTACKS, "worst_case_l2")  # a record's words
# Attacks of steps, whose number may be too small.
ITERATIVE_ATTACKS = ("pgd", "pgd_targeted", "pgd_eot", "apgd_ce", "apgd_dlr", "cw_l2", "transfer")
ITERATIVE_ATTACKS += MEAN_SQUARED_ATTACKS
# `attacks.transfer`'s, made on the bare classifier; `_targeted`: at each other class in turn.
TRANSFER_ATTACKS = (
    "transfer_mi",
    "transfer_mi_long",
    "transfer_di",
    "transfer_ti",
    "transfer_si",
    "transfer_pi",
    "transfer_ssm",
    "transfer_di_ti",
    "transfer_di_ti_targeted",
    "transfer_di_ti_si",
    "transfer_pi_di_ti",
)
ATTACKS = ("noise", "structured", "advgan", "pgd", "pgd_targeted", "pgd_eot", "transfer", "latent")
ATTACKS += (*TRANSFER_ATTACKS, *ART_ATTACKS)
# What an attacker tries who is not told what to: by what he knows.
DEFAULT_ATTACKS = {
    "blackbox": ("noise", "structured"),
    "blind": (
        "structured",
        "advgan",
        "transfer_di_ti_si",
        "transfer_pi_di_ti",
        "transfer_di_ti_targeted",
        "pgd",
    ),
    "whitebox": ("pgd",),
}
CLASSIFICATION_LABELS = ("true", "random")
AUGMENTATIONS = ("shift", "flip", "crop_flip")
PRIOR_LOSSES = ("dcgan", "wgan-gp")
ADVERSARIAL_LOSSES = ("margin", "cross_entropy")
GAN_LOSSES = ("least_squares", "log")

# What is measured on what; every line of results begins with them.
SETTING_KEYS = (
    "dataset",
    "data_source",
    "split",
    "n",
    "classifier",
    "purifier",
    "threat_model",
    "attack",
    "epsilon",
)
RATE_KEYS = (
    "clean_accuracy",
    "purified_clean_accuracy",
    "robust_accuracy",
    "attack_success_rate",
    "attack_success_rate_low",
    "attack_success_rate_high",
)
RECORD_KEYS = (
    *SETTING_KEYS,
    "gradient_mode",
    "seed",
    *RATE_KEYS,
    "checks",
    "wall_seconds",
    "command",
    "versions",
)


def _letters(name):
    """Returns a transfer attack's parts as its papers write them."""
    parts = name.split("_")[1:]
    return "-".join(part.upper() if len(part) < 4 else part for part in parts)


_DISPLAY = {
    "mnist": "MNIST",
    "fashion_mnist": "Fashion-MNIST",
    "cifar10": "CIFAR-10",
    **{name: entry.display for name, entry in DEFENCES.items()},
    "advgan": "AdvGAN",
    "pgd": "PGD",
    "pgd_targeted": "PGD (targeted)",
    "pgd_eot": "PGD (EOT)",
    "pgd_l2": "PGD (L2)",
    "apgd_ce": "APGD-CE",
    "apgd_dlr": "APGD-DLR",
    "cw_l2": "C&W L2",
    "fgsm": "FGSM",
    "square": "Square",
    "hopskipjump": "HopSkipJump",
    "latent": "latent search",
    "transfer": "PGD on the fast projector",
    "structured": "structured moves",
    **{name: f"transfer ({_letters(name)})" for name in TRANSFER_ATTACKS},
    "noise": "random noise",
    "worst_case": "worst case",
    "worst_case_l2": "worst case (L2)",
}


def display(name):
    """Returns a record's word as it is printed."""
    return _DISPLAY.get(name, name)


def display_attack(attack, gradient_mode=None):
    """Returns an attack as it is printed, with how it was distilled and its gradient mode."""
    name, variant = attack, ""
    if attack not in _DISPLAY:
        name, _, variant = attack.partition("_")
    details = ", ".join(detail for detail in (variant, gradient_mode) if detail)
    return f"{display(name)} ({details})" if details else display(name)
