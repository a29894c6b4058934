"""The words of the study as plain constants, importable without TensorFlow.

Flags, records and models all take their choices from here, so that a command line can list them
before any heavy import.
"""

DATASETS = ("mnist", "fashion_mnist", "cifar10")
STUDY_CLASSIFIERS = {"mnist": "cnn", "fashion_mnist": "cnn", "cifar10": "vgg13"}
DATA_SOURCES = ("auto", "tfds", "embedded")
DISTRIBUTIONS = ("none", "mirrored", "multi_worker")
CLASSIFIERS = ("cnn", "vgg13", "a", "b", "c", "d")
DEFENSES = (
    "none",
    "puvae",
    "puvae_adversarial",
    "defensegan",
    "defensegan_fast",
    "defensegan_wide",
    "defensegan_wgan",
)
BASELINES = ("jpeg", "bit_depth")  # ART's, to stand beside them
THREAT_MODELS = ("none", "blackbox", "blind", "whitebox")
DISTILLATIONS = ("none", "static", "dynamic")
PROJECTORS = ("fast", "reference")
GRADIENT_MODES = ("exact", "truncated", "bpda", "encoder", "soft", "selection")
# Those whose forward value is not the purifier's: to climb, never to evaluate.
SURROGATE_MODES = ("soft", "selection")
# The modes that a defence is attacked through, the strongest that was found first. DefenseGAN's
# reference is left out of `exact` (200 steps overflow) and `soft` (ten descents on the tape).
DEFENSE_MODES = {
    "none": (None,),
    "puvae": ("soft", "selection", "exact", "bpda"),
    "puvae_adversarial": ("selection", "soft", "exact", "bpda"),
    **dict.fromkeys(("defensegan", "defensegan_wide", "defensegan_wgan"), ("truncated", "bpda")),
    "defensegan_fast": ("exact", "truncated", "soft", "encoder", "bpda"),
    "jpeg": ("bpda",),
    "bit_depth": ("bpda",),
}
ART_ATTACKS = ("fgsm", "apgd_ce", "apgd_dlr", "cw_l2", "square", "hopskipjump", "pgd_l2")
# Those that bound the mean squared difference, not the largest one.
MEAN_SQUARED_ATTACKS = ("latent", "pgd_l2")
MEAN_SQUARED = (*MEAN_SQUARED_ATTACKS, "worst_case_l2")  # a record's words
# Attacks of steps, whose number may be too small.
ITERATIVE_ATTACKS = (
    *("pgd", "pgd_targeted", "pgd_eot", "apgd_ce", "apgd_dlr", "transfer"),
    *MEAN_SQUARED_ATTACKS,
)
ATTACKS = ("noise", "advgan", "pgd", "pgd_targeted", "pgd_eot", "transfer", "latent", *ART_ATTACKS)
CLASSIFICATION_LABELS = ("true", "random")
AUGMENTATIONS = ("shift", "flip", "crop_flip")
PRIOR_LOSSES = ("dcgan", "wgan-gp")
ADVERSARIAL_LOSSES = ("margin", "cross_entropy")
GAN_LOSSES = ("least_squares", "log")

# What is measured on what; every line of results begins with them.
CELL_KEYS = (
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
RECORD_KEYS = (
    *CELL_KEYS,
    "gradient_mode",
    "seed",
    "clean_accuracy",
    "purified_clean_accuracy",
    "robust_accuracy",
    "attack_success_rate",
    "attack_success_rate_low",
    "attack_success_rate_high",
    "checks",
    "wall_seconds",
    "command",
    "versions",
)
