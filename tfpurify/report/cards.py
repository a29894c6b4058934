"""A card for each model of the zoo: what it is, how it was made, what it does and does not do."""

from tfpurify.models import zoo
from tfpurify.report.table_rows import rate_text, success_text
from tfpurify.vocabulary import display, display_attack

LIMITS = {
    "classifier": "Undefended: any attack of the white-box rows gets through. 10 classes, images "
    "of one size, in [0, 1].",
    "puvae": "Not a certified defence: its choice of the nearest candidate hides the gradient, and "
    "an attack through a soft choice breaks it. What it costs on clean images stands above.",
    "AdversarialPuVAE": "Not a certified defence: it was trained on PGD at one L-inf epsilon, and "
    "measured at that. Larger budgets and other norms are not what it was made for.",
    "dcgan": "A prior for DefenseGAN. Images that it cannot make are lost, natural ones above all. "
    "The attacks shipped here cross its descent by an approximate gradient (bpda): its whitebox "
    "rows are lower bounds.",
    "encoder": "The start of DefenseGAN's fast projector, for one prior. An attacker who knows it "
    "can differentiate the whole projector; the whitebox rows behind it are such attacks.",
    "advgan": "Trained against one target at one epsilon; its success elsewhere is transfer. Where "
    "PGD does better through the same purifier, this attack is only a lower bound.",
}
_ROWS = (
    ("Class", "class_name"),
    ("Seed", "seed"),
    ("Parameters", "parameters"),
    ("Processor seconds of all epochs", "cpu_seconds"),
    ("Seconds of its last session", "wall_seconds"),
    ("Its last session began after epoch", "resumed_after_epoch"),
    ("File", "file"),
    ("Bytes", "bytes"),
    ("SHA-256", "sha256"),
)


def cards(folder, records):
    """Returns the cards of a zoo, Markdown by name.

    Args:
        folder: The zoo's folder; None for the repository's.
        records: The records of `results.jsonl`.
    """
    return {name: _card(name, entry, records) for name, entry in zoo.list_presets(folder).items()}


def _card(name, entry, records):
    source = "the embedded sample" if entry.get("data_source") == "embedded" else "TFDS"
    lines = [f"# {name}", "", f"Data: {display(entry['dataset'])}, from {source}.", ""]
    lines += ["| | |", "| --- | --- |"]
    lines += [f"| {title} | {entry[key]} |" for title, key in _ROWS if entry.get(key) is not None]
    storage = ", ".join(f"{count} {name}" for name, count in sorted(entry["storage"].items()))
    versions = ", ".join(f"{name} {value}" for name, value in entry["versions"].items())
    lines += [f"| Storage | {storage} |", f"| Versions | {versions} |", ""]
    lines += ["Made by:", "", f"    {entry['command']}", ""]
    lines += [f"{entry['note']}\n"] if entry.get("note") else []
    lines += ["On validation images:", ""]
    lines += [f"- {key}: {value:.4f}" for key, value in sorted((entry["validation"] or {}).items())]
    lines += ["", "On test images (rates in %, [95 % Wilson interval]):", ""]
    lines += [_figure(record) for record in _own_records(entry, records)] or ["- not measured"]
    limits = LIMITS.get(entry.get("class_name")) or LIMITS.get(entry["kind"], "not described.")
    return "\n".join([*lines, "", f"Limits: {limits}", ""])


def _own_records(entry, records):
    """Returns the records in which a model took part: those that agree with its `measured_as`."""
    fields = {"dataset": entry["dataset"], **(entry.get("measured_as") or {})}
    return [record for record in records if all(record[key] == fields[key] for key in fields)]


def _figure(record):
    words = [record["threat_model"], display(record["purifier"]), record["classifier"]]
    if record["attack"] != "none":
        attack = display_attack(record["attack"], record["gradient_mode"])
        words += [attack, f"epsilon {record['epsilon']:.4g}"]
    accuracy = record["purified_clean_accuracy"]
    accuracy = record["clean_accuracy"] if accuracy is None else accuracy
    figures = f"accuracy without an attack {rate_text(accuracy, record['n'])}"
    if record["attack"] != "none":
        figures += f", ASR {success_text(record)}"
    return f"- {', '.join(words)}: {figures}"
