"""The study's three tables, as Markdown and as plain text, rendered from records."""

from tfpurify.study import (
    NOTES,
    STUDY,
    STUDY_CELLS,
    STUDY_CLASSIFIERS,
    datasets,
    display,
    display_attack,
    pick,
    rank,
    study_records,
)


def _rate(rate, n):
    """Returns a rate over n images with its interval."""
    from tfpurify.evaluation import wilson_interval

    if rate is None:
        return "not measured"
    low, high = wilson_interval(round(rate * n), n)
    return _cell(rate, low, high, n)


def _cell(rate, low, high, n):
    return f"{100 * rate:.1f} [{100 * low:.1f}, {100 * high:.1f}] (n={n})"


def _success(record):
    if record is None:
        return "not measured"
    if record["attack_success_rate"] is None:
        return f"undefined (n={record['n']})"
    ends = (record["attack_success_rate_low"], record["attack_success_rate_high"])
    return _cell(record["attack_success_rate"], *ends, record["n"])


def _study_cell(dataset, cell):
    return f"study {100 * STUDY[dataset][cell]:.1f}" if cell in STUDY[dataset] else "not in study"


def _clean_table(records):
    header = ("Data set", "Classifier", "Purifier", "Accuracy without an attack", "Study")
    rows = []
    for dataset in datasets(records):
        classifier = STUDY_CLASSIFIERS[dataset]
        clean = max(study_records(records, dataset), key=lambda record: record["n"], default=None)
        value = _rate(clean["clean_accuracy"], clean["n"]) if clean else "not measured"
        study = _study_cell(dataset, ("none", "none"))
        rows.append((display(dataset), classifier, "none", value, study))
        for purifier in ("puvae", "defensegan"):
            behind = [
                record
                for record in study_records(records, dataset)
                if record["purifier"] == purifier and record["purified_clean_accuracy"] is not None
            ]
            best = max(behind, key=lambda record: record["n"], default=None)
            value = _rate(best["purified_clean_accuracy"], best["n"]) if best else "not measured"
            rows.append((display(dataset), classifier, display(purifier), value, "not in study"))
    return "Table 1. Clean and purified clean accuracy", header, rows


def _attack_table(title, records, cells, is_with_other_attacks):
    header = (
        "Data set",
        "Threat model",
        "Purifier",
        "Attack",
        "ASR",
        "Study",
        "1 - robust accuracy",
        "Purified clean accuracy",
    )
    rows = []
    for dataset in datasets(records):
        for cell in cells:
            record = pick(records, dataset, *cell)
            rows.append(_attack_row(dataset, cell, record, _study_cell(dataset, cell)))
            if is_with_other_attacks:
                rows += [
                    _attack_row(dataset, cell, other, "not in study")
                    for other in _other_attacks(records, dataset, cell)
                ]
    return title, header, rows


def _other_attacks(records, dataset, cell):
    """Returns the best record of each attack and gradient mode that is not AdvGAN."""
    best = {}
    for record in study_records(records, dataset):
        key = (record["attack"], record["gradient_mode"])
        is_here = (record["threat_model"], record["purifier"]) == cell
        if is_here and not record["attack"].startswith(("advgan", "none")):
            best[key] = max(best.get(key, record), record, key=rank)
    return list(best.values())


def _attack_row(dataset, cell, record, study):
    threat_model, purifier = cell
    error, cost, attack = "not measured", "not measured", display("advgan")
    if record is not None:
        attack = display_attack(record["attack"], record["gradient_mode"])
        if record["robust_accuracy"] is not None:
            error = _rate(1 - record["robust_accuracy"], record["n"])
        cost = _rate(record["purified_clean_accuracy"], record["n"])
    if purifier == "none":
        cost = "no purifier"
    words = (display(dataset), threat_model, display(purifier), attack)
    return (*words, _success(record), study, error, cost)


def _tables(records):
    blind = (
        ("blackbox", "none"),
        ("whitebox", "none"),
        ("blind", "puvae"),
        ("blind", "defensegan"),
    )
    whitebox = STUDY_CELLS[4:]
    return (
        _clean_table(records),
        _attack_table("Table 2. Attackers who do not know the purifier", records, blind, False),
        _attack_table("Table 3. Attackers who know everything", records, whitebox, True),
    )


def _flags(records):
    """Returns one line for each flag that a check raised."""
    return [
        f"{display(record['dataset'])}, {record['threat_model']}, {display(record['purifier'])}, "
        f"{display_attack(record['attack'], record['gradient_mode'])} (n={record['n']}): {flag}"
        for record in records
        for flag in record["checks"]
    ]


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
    return (("Notes", [*NOTES, _sources(records)]), ("Checks raised", flags))


def tables_markdown(records):
    """Returns the study's three tables, notes and the checks' flags as Markdown.

    Args:
        records: Records as `tfpurify.records.make_record` makes them.
    """
    blocks = []
    for title, header, rows in _tables(records):
        lines = [_markdown_line(header), _markdown_line(["---"] * len(header))]
        blocks += [f"**{title}**", "\n".join(lines + [_markdown_line(row) for row in rows])]
    for title, lines in _lists(records):
        blocks += [f"{title}:", "\n".join(f"- {line}" for line in lines)]
    return "\n\n".join(blocks)


def _markdown_line(cells):
    return f"| {' | '.join(cells)} |"


def tables_text(records):
    """Returns what `tables_markdown` returns as aligned plain text."""
    blocks = []
    for title, header, rows in _tables(records):
        widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
        lines = [title, _text_line(header, widths), _text_line(["-" * w for w in widths], widths)]
        blocks.append("\n".join(lines + [_text_line(row, widths) for row in rows]))
    for title, lines in _lists(records):
        blocks.append("\n".join([f"{title}:", *(f"- {line}" for line in lines)]))
    return "\n\n".join(blocks)


def _text_line(cells, widths):
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
