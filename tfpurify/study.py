"""The study's numbers, and the record that stands beside each of them."""

STUDY_EPSILON = 0.2
STUDY_CLASSIFIERS = {"mnist": "cnn", "fashion_mnist": "cnn", "cifar10": "vgg13"}
# (threat model, purifier) of the study's cells; the first is the clean accuracy, the others ASR.
STUDY_CELLS = (
    ("none", "none"),
    ("blackbox", "none"),
    ("blind", "puvae"),
    ("blind", "defensegan"),
    ("whitebox", "none"),
    ("whitebox", "puvae"),
    ("whitebox", "defensegan"),
)
STUDY = {
    dataset: dict(zip(STUDY_CELLS, rates, strict=True))
    for dataset, rates in {
        "mnist": (0.995, 0.566, 0.172, 0.340, 0.938, 0.741, 0.906),
        "fashion_mnist": (0.924, 0.652, 0.225, 0.548, 0.991, 0.922, 0.953),
        "cifar10": (0.886, 0.233, 0.160, 0.207, 0.967, 0.911, 0.875),
    }.items()
}
NOTES = (
    "Rates in %, [95 % Wilson interval], n test images; epsilon 0.2 (L-inf, on [0, 1]), "
    "untargeted. The study does not say its n.",
    "ASR: of the images that the target classifies correctly without an attack, the share it gets "
    "wrong under attack; its interval counts those images. The study does not define its rate, so "
    "the plain error, 1 - robust accuracy over all n, stands beside ours.",
    "The study calls all of its Table 2 black-box. Here `blackbox` knows neither classifier nor "
    "purifier and queries a surrogate into being; `blind` (its columns behind a purifier) knows "
    "the classifier but not the purifier. The undefended counterpart of `blind` is therefore "
    "`whitebox` with no purifier, shown in both tables.",
    "The study leaves out the purified clean accuracy, what a purifier costs; it is given here.",
    "Of several records of one cell (distillation, gradient mode, seed) the one with most images "
    "stands here, and among equals the strongest attack. PGD, where run, has its own rows.",
)

_DISPLAY = {
    "mnist": "MNIST",
    "fashion_mnist": "Fashion-MNIST",
    "cifar10": "CIFAR-10",
    "puvae": "PuVAE",
    "defensegan": "DefenseGAN",
    "advgan": "AdvGAN",
    "pgd": "PGD",
}


def display(name):
    """Returns a record's word as it is printed."""
    return _DISPLAY.get(name, name)


def display_attack(attack, gradient_mode=None):
    """Returns an attack as it is printed, with how it was distilled and its gradient mode."""
    name, _, variant = attack.partition("_")
    if name not in _DISPLAY:
        name, variant = attack, ""
    details = ", ".join(detail for detail in (variant, gradient_mode) if detail)
    return f"{display(name)} ({details})" if details else display(name)


def pick(records, dataset, threat_model, purifier, attack="advgan"):
    """Returns the record of one cell: most images first, then the highest success rate; or None.

    Only the study's classifier, epsilon and the test split stand in its cells.

    Args:
        records: The records to choose from.
        dataset: As in a record.
        threat_model: As in a record.
        purifier: As in a record.
        attack: As in a record; `advgan` also stands for `advgan_static` and `advgan_dynamic`.
    """
    found = [
        record
        for record in study_records(records, dataset)
        if (record["threat_model"], record["purifier"]) == (threat_model, purifier)
        and (record["attack"] == attack or record["attack"].startswith(f"{attack}_"))
    ]
    return max(found, key=rank, default=None)


def study_records(records, dataset):
    """Returns the records of the study's classifier, epsilon and test split on a data set."""
    return [
        record
        for record in records
        if record["dataset"] == dataset
        and record["split"] == "test"
        and record["classifier"] == STUDY_CLASSIFIERS[dataset]
        and record["epsilon"] in (None, STUDY_EPSILON)
    ]


def rank(record):
    """Returns the order by which one record goes before another in the same cell."""
    return record["n"], record["attack_success_rate"] or 0.0


def datasets(records):
    """Returns the data sets of the records, in the study's order."""
    found = {record["dataset"] for record in records}
    return [dataset for dataset in STUDY if dataset in found]
