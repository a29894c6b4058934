"""The tables of the study, and all tables as text: aligned, Markdown or blocks of a page."""

from tfpurify.evaluation.checks import MEANINGS, flag_names
from tfpurify.evaluation.diagnostics import with_derived_checks
from tfpurify.report import page
from tfpurify.report.cells import (
    ATTACK_HEADER,
    cell_rows,
    cost_text,
    is_bound,
    rate_text,
    success_text,
)
from tfpurify.report.further_tables import further_tables
from tfpurify.report.study import NOTES, PURIFIERS, STUDY, STUDY_CELLS, datasets, study_records
from tfpurify.vocabulary import STUDY_CLASSIFIERS, STUDY_EPSILON, display, display_attack


def _study_cell(dataset, cell):
    return f"study {100 * STUDY[dataset][cell]:.1f}" if cell in STUDY[dataset] else "not in study"


def _clean_table(records):
    header = ("Data set", "Classifier", "Purifier", "Accuracy without an attack", "Study")
    rows = []
    for dataset in datasets(records):
        classifier = STUDY_CLASSIFIERS[dataset]
        clean = max(study_records(records, dataset), key=lambda record: record["n"], default=None)
        value = rate_text(clean["clean_accuracy"], clean["n"]) if clean else "not measured"
        study = _study_cell(dataset, ("none", "none"))
        rows.append((display(dataset), classifier, "none", value, study))
        for purifier in PURIFIERS[1:]:
            behind = [
                record
                for record in study_records(records, dataset)
                if record["purifier"] == purifier and record["purified_clean_accuracy"] is not None
            ]
            if not behind and ("blind", purifier) not in STUDY_CELLS:
                continue
            best = max(behind, key=lambda record: record["n"], default=None)
            value = cost_text(best)
            rows.append((display(dataset), classifier, display(purifier), value, "not in study"))
    return page.Table("Table 1. Clean and purified clean accuracy", header, tuple(rows))


def _attack_table(title, records, cells):
    """Returns the rows of each cell, with the other attacks on it."""
    rows = []
    for dataset in datasets(records):
        for cell in cells:
            if cell in STUDY[dataset] or _is_measured(records, dataset, cell):
                study = _study_cell(dataset, cell)
                rows += cell_rows(records, dataset, cell, study)
    return page.Table(title, ATTACK_HEADER, tuple(rows))


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


def study_tables(records):
    """Returns the study's three tables."""
    blind = [("blackbox", "none")]
    for purifier in PURIFIERS[1:]:
        blind += [("blackbox", purifier), ("blind", purifier)]
    whitebox = [("whitebox", purifier) for purifier in PURIFIERS]
    return (
        _clean_table(records),
        _attack_table("Table 2. Attackers who do not know the purifier", records, blind),
        _attack_table("Table 3. Attackers who know everything", records, whitebox),
    )


def _flags(records):
    """Returns one line for each flag that a record carries."""
    return [
        f"{display(record['dataset'])}, {record['threat_model']}, {display(record['purifier'])}, "
        f"{display_attack(record['attack'], record['gradient_mode'])}{_budget(record)} "
        f"(n={record['n']}): {flag}"
        for record in records
        for flag in record["checks"]
    ]


def _budget(record):
    """Returns the epsilon of a record in words, if it is not the study's."""
    return (
        "" if record["epsilon"] in (None, STUDY_EPSILON) else f", epsilon {record['epsilon']:.4g}"
    )


def _sources(records):
    """Returns a line that says where the images of each data set came from."""
    sources = {
        f"{display(record['dataset'])} from "
        + ("the embedded sample" if record["data_source"] == "embedded" else "TFDS")
        for record in records
    }
    return f"Test images: {'; '.join(sorted(sources))}."


def _lists(records):
    flags = _flags(records) or ["none"]
    raised = {name for record in records for name in flag_names(record)}
    meanings = [f"`{name}`: {words}" for name, words in MEANINGS.items() if name in raised]
    lists = [("Notes", [*NOTES, _sources(records)]), ("Checks raised", flags)]
    return (*lists, ("What the checks mean", meanings)) if meanings else tuple(lists)


def tables_markdown(records, **more):
    """Returns all tables, notes and the checks' flags as Markdown.

    Args:
        records: Records as `tfpurify.evaluation.records.make_record` makes them.
        **more: As for `further_tables`.
    """
    return page.markdown(table_blocks(records, **more))


def table_blocks(records, **more):
    """Returns what `tables_markdown` does as blocks of a page."""
    records = with_derived_checks(records, more.get("diagnostics", ()))
    blocks = [*study_tables(records), *further_tables(records, **more)]
    for title, lines in _lists(records):
        blocks += [page.Paragraph(f"{title}:"), page.Listing(tuple(lines))]
    return blocks


def tables_text(records, **more):
    """Returns what `tables_markdown` does as aligned plain text."""
    records = with_derived_checks(records, more.get("diagnostics", ()))
    blocks = []
    for table in (*study_tables(records), *further_tables(records, **more)):
        columns = zip(table.header, *table.rows, strict=True)
        widths = [max(map(len, column)) for column in columns]
        lines = [table.title, _text_line(table.header, widths)]
        lines += [_text_line(row, widths) for row in (["-" * w for w in widths], *table.rows)]
        blocks.append("\n".join(lines))
    for title, lines in _lists(records):
        blocks.append("\n".join([f"{title}:", *(f"- {line}" for line in lines)]))
    return "\n\n".join(blocks)


def _text_line(cells, widths):
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
