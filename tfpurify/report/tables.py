"""The tables of the study, and all tables together as Markdown or blocks of a page."""

from tfpurify.evaluation.checks import MEANINGS, flag_names
from tfpurify.evaluation.diagnostics import with_derived_checks
from tfpurify.report import page
from tfpurify.report.further_tables import NOTHING, further_tables
from tfpurify.report.study import NOTES, PURIFIERS, STUDY, STUDY_SETTINGS, datasets, study_records
from tfpurify.report.table_rows import (
    ATTACK_HEADER,
    MARKS,
    cell_rows,
    cost_text,
    is_bound,
    rate_text,
    success_text,
)
from tfpurify.vocabulary import STUDY_CLASSIFIERS, display, display_attack

_RESULTS = (
    "Written by `python -m tfpurify.report` from `results.jsonl` and what stands beside it; each "
    "record there has its command, seed and versions. The records were measured on the whole test "
    "sets, or on the first n images where that takes too long."
)


def _study_cell(dataset, cell):
    return f"study {100 * STUDY[dataset][cell]:.1f}" if cell in STUDY[dataset] else "not in study"


def _clean_table(records, shipped):
    header = ("Data set", "Classifier", "Purifier", "Accuracy without an attack", "Study")
    rows = []
    for dataset in datasets(records):
        for purifier in PURIFIERS:
            value, full = (_accuracy(found, dataset, purifier) for found in (records, shipped))
            is_of_study = purifier == "none" or ("blind", purifier) in STUDY_SETTINGS
            if value is None and full is None and not is_of_study:
                continue
            cell = ("none", "none") if purifier == "none" else None
            row = (display(dataset), STUDY_CLASSIFIERS[dataset], display(purifier))
            row += (value or "not measured", _study_cell(dataset, cell))
            rows.append((*row, full or "not measured") if shipped else row)
    header += ("Shipped",) if shipped else ()
    return page.Table("Table 1. Clean and purified clean accuracy", header, tuple(rows))


def _accuracy(records, dataset, purifier):
    """Returns the accuracy without an attack in words, or None if nobody measured it."""
    found = study_records(records, dataset)
    if purifier != "none":
        found = [
            record
            for record in found
            if record["purifier"] == purifier and record["purified_clean_accuracy"] is not None
        ]
    best = max(found, key=lambda record: record["n"], default=None)
    if best is None or purifier != "none":
        return best and cost_text(best)
    return rate_text(best["clean_accuracy"], best["n"])


def _attack_table(title, records, cells, shipped):
    """Returns the rows of each cell, with the other attacks on it."""
    rows = []
    for dataset in datasets(records):
        for cell in cells:
            if cell in STUDY[dataset] or _is_measured([*records, *shipped], dataset, cell):
                study = _study_cell(dataset, cell)
                rows += cell_rows(records, dataset, cell, study, shipped)
    header = (*ATTACK_HEADER, *(("Shipped", "Shipped worst case") if shipped else ()))
    return page.Table(title, header, tuple(rows))


def _is_measured(records, dataset, cell):
    return any(
        (record["threat_model"], record["purifier"]) == cell
        and record["attack_success_rate"] is not None
        for record in study_records(records, dataset)
    )


def summary_lines(records):
    """Returns one line for each data set and purifier: its cost, and the strongest attack on it."""
    lines = []
    for dataset in datasets(records):
        for purifier in PURIFIERS:
            behind = [r for r in study_records(records, dataset) if r["purifier"] == purifier]
            attacked = [r for r in behind if r["attack_success_rate"] is not None]
            if not attacked:
                continue
            most = max(attacked, key=lambda record: record["n"])
            worst = max(attacked, key=lambda record: record["attack_success_rate"])
            name = "no purifier" if purifier == "none" else display(purifier)
            attack = display_attack(worst["attack"], worst["gradient_mode"])
            bound = " (a lower bound: an approximate gradient)" if is_bound(worst) else ""
            if purifier != "none" and all(r["threat_model"] != "whitebox" for r in attacked):
                bound = " (nobody who knows the purifier attacked it)"
            lines.append(
                f"{display(dataset)}, {name}: {cost_text(most)} right, no attack; "
                f"strongest attack {attack}, {worst['threat_model']}: "
                f"ASR {success_text(worst)}{bound}."
            )
    return lines


def study_tables(records, shipped=()):
    """Returns the study's three tables.

    Args:
        records: The records to show.
        shipped: The zoo's records, which stand beside them in columns of their own, if there are.
    """
    blind = [("blackbox", "none")]
    for purifier in PURIFIERS[1:]:
        blind += [("blackbox", purifier), ("blind", purifier)]
    whitebox = [("whitebox", purifier) for purifier in PURIFIERS]
    return (
        _clean_table(records, shipped),
        _attack_table("Table 2. Attackers who do not know the purifier", records, blind, shipped),
        _attack_table("Table 3. Attackers who know everything", records, whitebox, shipped),
    )


def _sources(records):
    """Returns a line that says where the images of each data set came from."""
    sources = {
        f"{display(record['dataset'])} from "
        + ("the embedded sample" if record["data_source"] == "embedded" else "TFDS")
        for record in records
    }
    return f"Test images: {'; '.join(sorted(sources))}."


def _legend(records):
    """Returns what the marks of the checks mean that the records raise."""
    raised = {name for record in records for name in flag_names(record)}
    return [f"{MARKS[name]}: `{name}`. {MEANINGS[name]}" for name in MEANINGS if name in raised]


def _further_blocks(records, beside=NOTHING):
    """Returns the tables that go beyond the study, the notes, and the legend of the checks."""
    blocks = [*further_tables(records, beside), page.Paragraph("Notes:")]
    blocks.append(page.Listing((*NOTES, _sources(records))))
    legend = _legend(records)
    if legend:
        words = "Checks, each a letter in the row that raises it; † beside a number marks any:"
        blocks += [page.Paragraph(words), page.Listing(tuple(legend))]
    return blocks


def table_blocks(records, shipped=(), beside=NOTHING):
    """Returns all tables, the notes and the checks' legend as blocks of a page.

    Args:
        records: Records as `tfpurify.evaluation.records.make_record` makes them.
        shipped: As for `study_tables`.
        beside: A `Beside`.
    """
    records = with_derived_checks(records, beside.diagnostics)
    return [*study_tables(records, shipped), *_further_blocks(records, beside)]


def tables_markdown(records, beside=NOTHING):
    """Returns what `table_blocks` does as Markdown."""
    return page.markdown(table_blocks(records, beside=beside))


def results_markdown(records, beside=NOTHING):
    """Returns a whole page of all tables: a section for each data set, then what goes beyond.

    Args:
        records: Records as `tfpurify.evaluation.records.make_record` makes them.
        beside: A `Beside`.
    """
    records = with_derived_checks(records, beside.diagnostics)
    blocks = [page.Paragraph(_RESULTS)]
    for dataset in datasets(records):
        here = [record for record in records if record["dataset"] == dataset]
        blocks += [page.Heading(display(dataset)), *study_tables(here)]
    blocks += [page.Heading("Across the data sets"), *_further_blocks(records, beside)]
    return f"# Results\n\n{page.markdown(blocks)}\n"
