"""tfpurify: defensive purification and AdvGAN in Keras 3 / TensorFlow.

The public names load on first use, so that importing one constant does not import TensorFlow.
"""

import importlib

__version__ = "0.1.0"

_PUBLIC = {
    "AdvGAN": "tfpurify.attacks.advgan",
    "AdversarialPuVAE": "tfpurify.purifiers.adversarial_puvae",
    "DATASETS": "tfpurify.data",
    "DCGAN": "tfpurify.purifiers.dcgan",
    "DatasetSpec": "tfpurify.data",
    "DefenseGAN": "tfpurify.purifiers.defensegan",
    "Distiller": "tfpurify.attacks.distillation",
    "DynamicAdvGAN": "tfpurify.attacks.distillation",
    "LatentEncoder": "tfpurify.purifiers.latent_encoder",
    "PGD": "tfpurify.attacks.pgd",
    "PuVAE": "tfpurify.purifiers.puvae",
    "PurifiedClassifier": "tfpurify.purified_classifier",
    "Purifier": "tfpurify.purifiers.base",
    "Classifier": "tfpurify.classifiers",
    "WorstCase": "tfpurify.attacks.worst_case",
    "build_classifier": "tfpurify.classifiers",
    "evaluate": "tfpurify.evaluation",
    "list_presets": "tfpurify.zoo",
    "load_dataset": "tfpurify.data",
    "load_model": "tfpurify.zoo",
    "pgd": "tfpurify.attacks.pgd",
    "select_nearest": "tfpurify.purifiers.base",
    "wilson_interval": "tfpurify.evaluation",
}

__all__ = list(_PUBLIC)


def __getattr__(name):
    if name not in _PUBLIC:
        raise AttributeError(f"module 'tfpurify' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__():
    return sorted(__all__)
