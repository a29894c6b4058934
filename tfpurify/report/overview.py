"""One screen: each defence's figures, measured here and as they are shipped."""

from tfpurify.report import page
from tfpurify.report.study import PURIFIERS, datasets, pick, study_records
from tfpurify.report.table_rows import rate_text, success_text
from tfpurify.vocabulary import STUDY_EPSILON, display

_COLUMNS = (
    ("clean", "none", None),
    ("blind AdvGAN", "blind", "advgan"),
    ("blind worst case", "blind", "worst_case"),
    ("whitebox AdvGAN", "whitebox", "advgan"),
    ("whitebox worst", "whitebox", "worst_case"),
)
HEADER = ("Data set", "Purifier", *(title for title, *_ in _COLUMNS), "images here")
LEGEND = (
    "Per cent: accuracy on clean images, then how often an attack succeeds (epsilon 0.2). Beside "
    "each, in brackets, what is shipped, on more images: saved_models/zoo/RESULTS.md."
)
_WIDTHS = (13, 28, *(16,) * len(_COLUMNS), 0)


def overview_row(dataset, purifier, records, shipped):
    """Returns a defence's row of `HEADER`: what was measured here, and in brackets the shipped.

    Args:
        dataset: Name of the data set.
        purifier: As in a record.
        records: What was measured here.
        shipped: The zoo's records.
    """
    cells, counts = [], []
    for _, threat_model, attack in _COLUMNS:
        here, there = (
            _figure(found, dataset, purifier, threat_model, attack) for found in (records, shipped)
        )
        cells.append(_text(here, there))
        counts += [here[1]] if here else []
    images = " to ".join(str(n) for n in sorted({min(counts), max(counts)})) if counts else "-"
    return (display(dataset), _name(purifier), *cells, images)


def line(row):
    """Returns a row, or the header, as a line of text."""
    return "  ".join(cell.ljust(width) for cell, width in zip(row, _WIDTHS, strict=True)).rstrip()


def _name(purifier):
    return "no purifier" if purifier == "none" else display(purifier)


def _figure(records, dataset, purifier, threat_model, attack):
    """Returns a rate and its n, or None where it was not measured."""
    if attack is not None:
        choose = _strongest if attack == "worst_case" else pick
        record, key = choose(records, dataset, threat_model, purifier), "attack_success_rate"
    elif purifier == "none":
        record, key = pick(records, dataset, "none", "none", "none"), "clean_accuracy"
    else:
        record, key = pick(records, dataset, "blind", purifier), "purified_clean_accuracy"
    return None if record is None or record[key] is None else (record[key], record["n"])


def _text(here, there):
    mine = "-" if here is None else f"{100 * here[0]:.1f}"
    return mine if there is None else f"{mine} ({100 * there[0]:.1f})"


def overview_table(records, distances, shipped=()):
    """Returns each defence's cost, worst cases and time as a table, and bars for its rates.

    Args:
        records: The records to show.
        distances: Lines as `tfpurify.evaluation.distances.make_distances` makes them.
        shipped: The zoo's records, whose figures stand behind those, or in place of missing ones,
            marked as shipped.
    """
    header = ("Data set", "Purifier", "Accuracy, no attack", "Blind worst case")
    header += ("Whitebox worst case", "ms an image")
    seconds = {(line["dataset"], line["purifier"]): line["seconds_per_image"] for line in distances}
    rows = []
    for dataset in datasets(records):
        for purifier in PURIFIERS:
            cells = [
                _table_cell(records, shipped, dataset, purifier, threat_model)
                for threat_model in ("none", "blind", "whitebox")
            ]
            if cells[0] == "-":
                continue
            took = seconds.get((dataset, purifier))
            time = "-" if took is None else f"{1000 * took:.3g}"
            rows.append((display(dataset), _name(purifier), *cells, time))
    title = "What each purifier costs, and how often the strongest attack succeeds (%)"
    return page.Table(title, header, tuple(rows), bars=(2, 3, 4))


def _table_cell(records, shipped, dataset, purifier, threat_model):
    """Returns the figure that was measured here, and behind it the shipped one."""
    here, there = (
        _rate_with_n(found, dataset, purifier, threat_model) for found in (records, shipped)
    )
    if here is None or there is None:
        return here or (f"{there} shipped" if there else "-")
    return f"{here}, shipped {there.split()[0]}"


def _rate_with_n(records, dataset, purifier, threat_model):
    if threat_model == "none":
        figure = _figure(records, dataset, purifier, "none", None)
        return figure and rate_text(*figure)
    worst = _strongest(records, dataset, threat_model, purifier)
    return worst and success_text(worst)


def _strongest(records, dataset, threat_model, purifier):
    """Returns the record of the worst case, or of a single attack that did better on as many."""
    worst = pick(records, dataset, threat_model, purifier, "worst_case")
    if worst is None:
        return None
    alike = [
        record
        for record in study_records(records, dataset, STUDY_EPSILON)
        if (record["threat_model"], record["purifier"]) == (threat_model, purifier)
        and record["n"] >= worst["n"]
        and record["attack_success_rate"] is not None
    ]
    return max(alike, key=lambda record: record["attack_success_rate"], default=None)
