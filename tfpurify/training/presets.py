"""Every trainer's hyper-parameters, by data set. Flags that are given override them."""

from tfpurify.data import own
from tfpurify.data.specs import get_spec
from tfpurify.vocabulary import DATASETS, SMALL_EPSILON, STUDY_CLASSIFIERS, STUDY_EPSILON

# Models of the transfer matrix alone: shorter than the study's, the same for every source.
TRANSFER_CLASSIFIER = {"epochs": 4}
TRANSFER_PUVAE = {"epochs": 2, "classification_warmup_steps": 500}

_STUDY_IMAGES = 50_000  # of a data set, to train on

COMMON = {
    "dataset": "mnist",
    "data_dir": None,
    "data_source": "auto",
    "image_size": None,
    "image_range": None,
    "classifier_outputs": None,
    "classifier_mean": None,
    "classifier_std": None,
    "classifier_channels": None,
    "classifier_output_name": None,
    "trust_classifier": False,
    "output_dir": ".",
    "train_steps": None,
    "steps_per_epoch": None,
    "validation_examples": None,
    "eval_examples": None,
    "seed": 0,
    "mixed_precision": False,
    "distribution": "none",
    "resume": True,
    "name": None,
}


def classifier(dataset, overrides):
    """Classifier on clean images: one cycle, small random shifts or crops and flips.

    VGG13 trains by SGD with momentum, the others by AdamW; both decays are Keras's decoupled ones.
    """
    is_vgg13 = (overrides.get("classifier") or STUDY_CLASSIFIERS[dataset]) == "vgg13"
    return {
        "classifier": STUDY_CLASSIFIERS[dataset],
        "epochs": {"mnist": 18, "fashion_mnist": 16, "cifar10": 26}[dataset],
        "batch_size": 128,
        "optimizer": "sgd" if is_vgg13 else "adamw",
        "learning_rate": 0.1 if is_vgg13 else 4e-3,
        "weight_decay": 5e-3 if is_vgg13 else 1e-4,
        "augment": {"mnist": "shift", "fashion_mnist": "flip", "cifar10": "crop_flip"}[dataset],
    }


def puvae(dataset, overrides):
    """PuVAE: Adam, cosine. The weights are those that keep the posterior alive; see PuVAE."""
    is_cifar10 = dataset == "cifar10"
    preset = {
        "classifier": STUDY_CLASSIFIERS[dataset],
        "epochs": {"mnist": 8, "fashion_mnist": 6, "cifar10": 18}[dataset],
        "augment": "flip" if is_cifar10 else None,
        "batch_size": 64 if is_cifar10 else 128,
        "learning_rate": 1e-3,
        "latent_dim": {"mnist": 50, "fashion_mnist": 100, "cifar10": 256}[dataset],
        "reconstruction_weight": 0.01,
        "kl_weight": 0.0005 if is_cifar10 else 0.01,
        "classification_weight": {"mnist": 0.1, "fashion_mnist": 0.3, "cifar10": 1.0}[dataset],
        "classification_warmup_steps": 2000,
        "noise_scale": 0.0,
        "input_noise": {"mnist": 0.0, "fashion_mnist": 0.2, "cifar10": 0.45}[dataset],
        "input_noise_period": 4 if is_cifar10 else None,
        "classification_labels": "true" if dataset == "mnist" else "random",
        "batch_normalization": is_cifar10,
        "adversarial": False,
    }
    if not overrides.get("adversarial"):
        return preset
    return preset | {
        "epsilon": SMALL_EPSILON if is_cifar10 else STUDY_EPSILON,
        "epsilon_warmup_steps": 300,
        "attack_steps": 10 if dataset == "fashion_mnist" else 7,
        "attacks_classifier": not is_cifar10,  # VGG13 would take nearly all of the time
        "reconstruction_weight": 0.01 if dataset == "mnist" else 0.001,
        "classification_weight": 1.0,
        "classification_warmup_steps": 0,
        "selection_weight": 1.0,
        "clean_weight": 0.0,
        "input_noise": 0.0,
        "classification_labels": "true",
        "augment": None if dataset == "mnist" else "flip",
        "batch_size": 128,
        "epochs": {"mnist": 15, "fashion_mnist": 49, "cifar10": 8}[dataset],
        "steps_per_epoch": 300,
        "validation_examples": 500,
        "mixed_precision": True,
    }


def defensegan(dataset, overrides):
    """DCGAN, the prior of DefenseGAN; and the descent that its export and evaluation use.

    Both losses have the same epochs, and take the same time: a critic's step is dearer than a
    discriminator's by its penalty, and cheaper by the four of five generator steps it goes without.
    """
    is_wgan = overrides.get("gan_loss") == "wgan-gp"
    return {
        "classifier": STUDY_CLASSIFIERS[dataset],
        "gan_loss": "dcgan",
        "epochs": 30 if dataset == "mnist" else 16,
        "batch_size": 64,
        "learning_rate": 1e-4 if is_wgan else 2e-4,
        "latent_dim": 100,
        "width": 1,
        "critic_steps": 5,
        "gradient_penalty_weight": 10.0,
        "num_steps": 200,
        "num_restarts": 10,
        "eval_examples": 200,
    }


def encoder(dataset, _):
    """LatentEncoder, the start of DefenseGAN's fast projector, for one trained prior."""
    return {
        "classifier": STUDY_CLASSIFIERS[dataset],
        "gan_loss": "dcgan",
        "width": 1,
        "epochs": 12,
        "augment": None if dataset == "mnist" else "flip",
        "batch_size": 64,
        "learning_rate": 1e-3,
        "input_noise": 0.2,
        "input_noise_period": 8,
        "eval_examples": 2000,
    }


def advgan(dataset, overrides):
    """AdvGAN against the bare classifier, a surrogate, or a purifier + classifier.

    The fast projector is short enough to be differentiated as it is.

    Training through DefenseGAN shortens the descent (`num_steps`, `num_restarts`), crosses it by
    `bpda` and starts from the attack on the bare classifier; the evaluation at the end always uses
    the full 200 steps from 10 starts. One start alone leaves most clean images unrecognised.
    """
    defense = (overrides.get("defense") or "none").partition("_")[0]
    is_fast = overrides.get("defense") == "defensegan_fast"
    is_blackbox = overrides.get("blackbox", "none") != "none"
    preset = {
        "classifier": STUDY_CLASSIFIERS[dataset],
        "defense": "none",
        "whitebox": False,
        "blackbox": "none",
        "surrogate": "a" if dataset != "cifar10" else "cnn",
        "distillation_epochs": 1,
        "targeted": False,
        "target_class": 0,
        "epsilon": STUDY_EPSILON,
        "epochs": 2 if is_blackbox else 3 if dataset == "fashion_mnist" else 4,
        "augment": None,
        "batch_size": 128,
        "learning_rate": 1e-3,
        "adversarial_loss": "margin",
        "gan_loss": "least_squares",
        "alpha": 0.1,
        "beta": 1.0,
        "hinge_bound": 6.0 if dataset != "cifar10" else 12.0,
        "kappa": 2.0,
        "bottleneck_channels": 32 if dataset != "cifar10" else 96,
        "gradient_mode": "soft" if defense == "puvae" else "exact" if is_fast else "bpda",
        "soft_candidates": None if dataset != "cifar10" else 3,
        "warm_start": False,
        "num_steps": None if is_fast else 20,
        "num_restarts": None if is_fast else 10,
    }
    if dataset == "cifar10" and not is_blackbox:
        preset |= {"epochs": 24, "steps_per_epoch": 175}
    if defense == "defensegan":
        preset |= {"eval_examples": 200, "validation_examples": 200}
    if overrides.get("whitebox") and defense == "puvae":
        # A step through a purifier costs several of the bare classifier's: smaller batches and
        # fewer passes, so that there are as many steps in the time.
        preset |= {"epochs": 6, "steps_per_epoch": 200, "batch_size": 64}
        preset |= {"validation_examples": 500}
    if overrides.get("whitebox") and defense == "defensegan":
        preset |= {"epochs": 3, "steps_per_epoch": 60, "batch_size": 64, "warm_start": True}
        preset |= {"learning_rate": 5e-4}
    return preset


PRESETS = {preset.__name__: preset for preset in (classifier, puvae, defensegan, encoder, advgan)}


def preset_of(trainer, dataset, overrides):
    """Returns a trainer's whole preset for a data set.

    Images of one's own take that of Fashion-MNIST if they are grey and that of CIFAR-10 if they
    are coloured, without the random flips: nobody knows whether a class survives them.

    Args:
        trainer: One of `PRESETS`.
        dataset: Name of the data set.
        overrides: The options that are given, by flag name.
    """
    spec = get_spec(dataset)
    if dataset in DATASETS:
        return {**COMMON, "dataset": dataset, **PRESETS[trainer](dataset, overrides)}
    like = "fashion_mnist" if spec.image_shape[-1] == 1 else "cifar10"
    classifier = spec.default_classifier
    preset = PRESETS[trainer](like, {"classifier": classifier, **overrides})
    preset |= {"dataset": dataset, "classifier": classifier, **own.described(dataset)}
    return {**COMMON, **preset, **({"augment": None} if "augment" in preset else {})}


def usual_steps(config):
    """Returns how many steps a configuration takes on as many images as the study's.

    Args:
        config: A run's whole configuration, its `epochs` and `steps_per_epoch` the preset's.
    """
    steps_per_epoch = config["steps_per_epoch"] or _STUDY_IMAGES // config["batch_size"]
    return config["epochs"] * steps_per_epoch
