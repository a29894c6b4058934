"""The study's numbers, and the record that stands beside each of them."""

from tfpurify.registry import DEFENCES
from tfpurify.vocabulary import STUDY_CLASSIFIERS, STUDY_EPSILON

# What stands in the tables, in their order.
PURIFIERS = tuple(name for name, entry in DEFENCES.items() if entry.is_in_study_tables)
# (threat model, purifier) of the study's figures: first the clean accuracy, then success rates.
STUDY_SETTINGS = (
    ("none", "none"),
    ("blackbox", "none"),
    ("blind", "puvae"),
    ("blind", "defensegan"),
    ("whitebox", "none"),
    ("whitebox", "puvae"),
    ("whitebox", "defensegan"),
)
STUDY = {
    dataset: dict(zip(STUDY_SETTINGS, rates, strict=True))
    for dataset, rates in {
        "mnist": (0.995, 0.566, 0.172, 0.340, 0.938, 0.741, 0.906),
        "fashion_mnist": (0.924, 0.652, 0.225, 0.548, 0.991, 0.922, 0.953),
        "cifar10": (0.886, 0.233, 0.160, 0.207, 0.967, 0.911, 0.875),
    }.items()
}
# What of the study had to be repaired, and why; DESIGN's list in short.
REPAIRS = (
    "Reconstruction loss: -[x log x' + (1 - x) log(1 - x')], summed over pixels; KL: 1/2 "
    "sum(mu^2 + sigma^2 - log sigma^2 - 1); classification: categorical cross entropy. The "
    "equations in print have slips of sign and argument.",
    "The first black-box column is full black box, the two beside it know the classifier: they "
    "are `blind` here, and their undefended counterpart is `whitebox` without a purifier.",
    "The success rate is not defined, and the purified clean accuracy is missing. Both rates, the "
    "cost and an interval stand here.",
    "PuVAE's decoder in Figure 5 ends at 32 channels: an output layer and a sigmoid are added. The "
    "study prints no loss weights; the public port's (0.01, 0.1, 10) let the classifier's gradient "
    "drown the reconstruction, ours are smaller.",
    "PuVAE on Fashion-MNIST and CIFAR-10 is not trained as in the study: on images with uniform "
    "noise (bounds up to 0.2 and 0.45; on CIFAR-10 half of it repeats every 4 pixels, which was "
    "chosen because AdvGAN's perturbations do), and the source classifier has to recognise the "
    "class under a random label. On CIFAR-10 its encoder is batch normalised. Its blind rates are "
    "therefore not those of the study's PuVAE.",
    "How a gradient crosses DefenseGAN's descent is not said: every white-box figure names its "
    "gradient mode. A purifier is scored by the strongest.",
    "AdvGAN's instance normalisation over a 1 x 1 map erases its input: the bottleneck is larger. "
    "The margin is taken on logits and clean errors are no successes.",
    "Epsilon 0.2 on CIFAR-10 is 6.4 times the field's 8/255: both are measured. The literature "
    "says that DefenseGAN does not work on CIFAR-10: read its purified clean accuracy first.",
    "Classifiers carry batch normalisation, and VGG13 one dense layer, as is usual for 32 x 32.",
)
NOTES = (
    "Rates in %, [95 % Wilson interval], n test images; epsilon 0.2 (L-inf, on [0, 1]), "
    "untargeted. The study does not say its n.",
    "ASR: of the images that the target classifies correctly without an attack, the share it gets "
    "wrong under attack; its interval counts those images. The study does not define its rate, so "
    "the plain error, 1 - robust accuracy over all n, stands beside ours.",
    "The study calls all of its Table 2 black-box. Here `blackbox` knows neither classifier nor "
    "purifier and queries a surrogate into being; `blind` (its columns behind a purifier) knows "
    "the classifier but not the purifier. The undefended counterpart of `blind` is therefore "
    "`whitebox` with no purifier, in Table 3.",
    "Worst case: an image counts as fooled if any of the attacks in the record's command fools "
    "it, in any gradient mode; saved_models/zoo/attacks.jsonl says which did. Of an attacker who "
    "does not know the purifier it is the best of his attacks with hindsight.",
    "The study leaves out the purified clean accuracy, what a purifier costs; it is given here.",
    "Beside the study's figure stands, of several records of one cell (distillation, gradient "
    "mode, seed), the one with most images, and among equals the strongest attack. Other attacks, "
    "distillations and gradient modes have rows of their own, 'not in study'.",
    "DefenseGAN's whitebox rows are lower bounds. AdvGAN crosses its descent by bpda, and its "
    "training was short (on Fashion-MNIST it was still improving). PGD crosses it by bpda, judging "
    "its steps on a shortened descent, or through the last 40 of its 200 steps (truncated); the "
    "gradient through all 200 can overflow.",
    "Behind DefenseGAN on CIFAR-10 few images are right without an attack; what it loses of those "
    "is partly chance, as others become right under attack. 1 - robust accuracy shows the whole.",
    "Tables 7, 8, 10 and 11 are the zoo's own, in the report of your own run too: they take hours.",
    "At 8/255 the AdvGANs are far from the strongest attack: where PGD stands beside them, read "
    "that.",
)


def pick(records, dataset, threat_model, purifier, attack="advgan", epsilon=STUDY_EPSILON):
    """Returns the record of one cell: most images first, then the highest success rate; or None.

    Of worst cases it is the one whose interval starts highest, as they differ in their attacks.
    Only the study's classifier and the test split stand in its cells.

    Args:
        records: The records to choose from.
        dataset: As in a record.
        threat_model: As in a record.
        purifier: As in a record.
        attack: As in a record; `advgan` also stands for `advgan_static` and `advgan_dynamic`.
        epsilon: As in a record.
    """
    found = [
        record
        for record in study_records(records, dataset, epsilon)
        if (record["threat_model"], record["purifier"]) == (threat_model, purifier)
        and record["attack"].removesuffix("_static").removesuffix("_dynamic") == attack
    ]
    is_worst = attack == "worst_case"
    return max(found, key=_rank_of_worst if is_worst else rank, default=None)


def study_records(records, dataset, epsilon=STUDY_EPSILON):
    """Returns the records of the study's classifier, the test split and one epsilon (None: all)."""
    return [
        record
        for record in records
        if record["dataset"] == dataset
        and record["split"] == "test"
        and record["classifier"] == STUDY_CLASSIFIERS[dataset]
        and (epsilon is None or record["epsilon"] in (None, epsilon))
    ]


def rank(record):
    """Returns the order by which one record goes before another in the same cell."""
    return record["n"], record["attack_success_rate"] or 0.0


def _rank_of_worst(record):
    return record["attack_success_rate_low"] or 0.0, record["n"]


def datasets(records):
    """Returns the data sets of the records, in the study's order."""
    found = {record["dataset"] for record in records}
    return [dataset for dataset in STUDY if dataset in found]
