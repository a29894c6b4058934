"""tfpurify: defensive purification and AdvGAN in Keras 3 / TensorFlow.

The public names load on first use, so that importing one constant does not import TensorFlow.
"""

import importlib

__version__ = "0.1.0"

_PUBLIC = {
    "AdaptedClassifier": "tfpurify.models.adapted_classifier",
    "AdvGAN": "tfpurify.attacks.advgan",
    "AdversarialPuVAE": "tfpurify.purifiers.adversarial_puvae",
    "Classifier": "tfpurify.models.classifiers",
    "DATASETS": "tfpurify.data.specs",
    "DCGAN": "tfpurify.purifiers.dcgan",
    "DatasetSpec": "tfpurify.data.specs",
    "DefenseGAN": "tfpurify.purifiers.defensegan",
    "Distiller": "tfpurify.attacks.distillation",
    "DynamicAdvGAN": "tfpurify.attacks.distillation",
    "Expectation": "tfpurify.attacks.expectation",
    "LatentEncoder": "tfpurify.purifiers.latent_encoder",
    "LatentSearch": "tfpurify.attacks.latent_search",
    "PGD": "tfpurify.attacks.pgd",
    "PuVAE": "tfpurify.purifiers.puvae",
    "PurifiedClassifier": "tfpurify.purifiers.purified_classifier",
    "Purifier": "tfpurify.purifiers.base",
    "RandomNoise": "tfpurify.attacks.noise",
    "StructuredMove": "tfpurify.attacks.structured",
    "TransferAttack": "tfpurify.attacks.transfer",
    "WorstCase": "tfpurify.attacks.worst_case",
    "as_classifier": "tfpurify.models.adapted_classifier",
    "build_classifier": "tfpurify.models.classifiers",
    "evaluate": "tfpurify.evaluation.rates",
    "export_classifier": "tfpurify.serving.saved_model",
    "export_purified_classifier": "tfpurify.serving.saved_model",
    "get_spec": "tfpurify.data.specs",
    "list_presets": "tfpurify.models.zoo",
    "load_dataset": "tfpurify.data.loading",
    "load_model": "tfpurify.models.zoo",
    "load_preset": "tfpurify.models.zoo",
    "make_record": "tfpurify.evaluation.records",
    "read_records": "tfpurify.evaluation.records",
    "select_nearest": "tfpurify.purifiers.base",
    "wilson_interval": "tfpurify.evaluation.intervals",
    "write_records": "tfpurify.evaluation.records",
    "write_report": "tfpurify.report.writing",
}

__all__ = ["__version__"]
__all__ += list(_PUBLIC)


def __getattr__(name):
    if name not in _PUBLIC:
        raise AttributeError(f"module 'tfpurify' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__():
    return sorted(__all__)
