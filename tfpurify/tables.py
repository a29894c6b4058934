"""The tables of the study and of what goes beyond it, made from records."""

from tfpurify import page
from tfpurify.study import (
    NOTES,
    SMALL_EPSILON,
    STUDY,
    STUDY_CELLS,
    STUDY_CLASSIFIERS,
    STUDY_EPSILON,
    TRANSFER_ARCHITECTURES,
    datasets,
    display,
    display_attack,
    pick,
    rank,
    study_records,
)


def rate_text(rate, n):
    """Returns a rate over n images with its interval."""
    from tfpurify.evaluation import wilson_interval

    if rate is None:
        return "not measured"
    low, high = wilson_interval(round(rate * n), n)
    return _cell(rate, low, high, n)


def _cell(rate, low, high, n):
    return f"{100 * rate:.1f} [{100 * low:.1f}, {100 * high:.1f}] (n={n})"


def success_text(record):
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
        value = rate_text(clean["clean_accuracy"], clean["n"]) if clean else "not measured"
        study = _study_cell(dataset, ("none", "none"))
        rows.append((display(dataset), classifier, "none", value, study))
        for purifier in ("puvae", "defensegan"):
            behind = [
                record
                for record in study_records(records, dataset)
                if record["purifier"] == purifier and record["purified_clean_accuracy"] is not None
            ]
            best = max(behind, key=lambda record: record["n"], default=None)
            value = _cost(best)
            rows.append((display(dataset), classifier, display(purifier), value, "not in study"))
    return page.Table("Table 1. Clean and purified clean accuracy", header, tuple(rows))


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
    return page.Table(title, header, tuple(rows))


def _small_table(records):
    """Returns the table of the field's budget on CIFAR-10; the study has no such cells."""
    header = (
        *("Threat model", "Purifier", "Attack", "ASR"),
        *("1 - robust accuracy", "Purified clean accuracy"),
    )
    rows = []
    for cell in STUDY_CELLS[1:]:
        found = [pick(records, "cifar10", *cell, epsilon=SMALL_EPSILON)]
        found += _other_attacks(records, "cifar10", cell, SMALL_EPSILON)
        for record in found:
            _, *words, success, _, error, cost = _attack_row("cifar10", cell, record, "")
            rows.append((*words, success, error, cost))
    return page.Table("Table 4. CIFAR-10 at epsilon 8/255", header, tuple(rows))


def _prior_table(records, distances):
    """Returns DefenseGAN's priors beside each other: how near, what they cost, what they stop."""
    header = ("Data set", "Prior", "Projection error", "Purified clean accuracy", "Blind ASR")
    names = {
        "defensegan": "DCGAN (the study's)",
        "defensegan_wide": "DCGAN, twice the channels",
        "defensegan_wgan": "WGAN-GP",
    }
    errors = {
        (line["dataset"], line["purifier"]): f"{line['clean_mean']:.4f} (n={line['n']})"
        for line in distances
        if line["epsilon"] == STUDY_EPSILON
    }
    rows = []
    for dataset in datasets(records):
        for purifier, name in names.items():
            record = pick(records, dataset, "blind", purifier)
            if record is None:
                continue
            cost = rate_text(record["purified_clean_accuracy"], record["n"])
            error = errors.get((dataset, purifier), "not measured")
            rows.append((display(dataset), name, error, cost, success_text(record)))
    title = "Table 5. DefenseGAN's priors: mean squared error of clean images, cost and protection"
    return page.Table(title, header, tuple(rows))


def _transfer_tables(records):
    """Returns, for each data set, PuVAEs of source classifiers S in front of targets T.

    These PuVAEs are trained shorter than the study's, all alike: `trainers._plan`.
    """
    tables = []
    for dataset in datasets(records):
        usual = STUDY_CLASSIFIERS[dataset]
        names = (usual, *TRANSFER_ARCHITECTURES)
        sources = {"none": "no purifier", **{f"puvae_{name}": f"S = {name}" for name in names}}
        found = {
            (record["purifier"], record["classifier"]): record
            for record in sorted(records, key=rank)
            if (record["dataset"], record["split"]) == (dataset, "test")
            and record["epsilon"] == STUDY_EPSILON
            and record["attack"] == "advgan"
            and (record["threat_model"] == "blind" or record["purifier"] == "none")
        }
        if not any(purifier == f"puvae_{usual}" for purifier, _ in found):
            continue
        for title, cell in (
            ("ASR of a blind AdvGAN", success_text),
            ("Accuracy, no attack", _cost),
        ):
            rows = [
                (name, *(cell(found.get((source, target))) for target in names))
                for source, name in sources.items()
            ]
            header = ("Source", *(f"T = {target}" for target in names))
            caption = f"Table 6. Transfer of briefly trained PuVAEs on {display(dataset)}. {title}"
            tables.append(page.Table(caption, header, tuple(rows)))
    return tables


def _cost(record):
    if record is None:
        return "not measured"
    kind = "clean_accuracy" if record["purifier"] == "none" else "purified_clean_accuracy"
    return rate_text(record[kind], record["n"])


def summary_lines(records):
    """Returns one line for each data set and purifier: its cost, and the strongest attack on it."""
    lines = []
    for dataset in datasets(records):
        for purifier in ("none", "puvae", "defensegan"):
            behind = [r for r in study_records(records, dataset) if r["purifier"] == purifier]
            attacked = [r for r in behind if r["attack_success_rate"] is not None]
            if not attacked:
                continue
            kind = "clean_accuracy" if purifier == "none" else "purified_clean_accuracy"
            most = max(attacked, key=lambda record: record["n"])
            worst = max(attacked, key=lambda record: record["attack_success_rate"])
            name = "no purifier" if purifier == "none" else display(purifier)
            attack = display_attack(worst["attack"], worst["gradient_mode"])
            bound = " (a lower bound: an approximate gradient)" if _is_bound(worst) else ""
            lines.append(
                f"{display(dataset)}, {name}: {rate_text(most[kind], most['n'])} right, no attack; "
                f"strongest attack {attack}, {worst['threat_model']}: "
                f"ASR {success_text(worst)}{bound}."
            )
    return lines


def _is_bound(record):
    """Says whether an attack's gradient only approximates its target's."""
    return record["gradient_mode"] == "bpda"


def _frontier_table(frontier):
    """Returns what settings cost and protect, on the validation images they were chosen on."""
    header = ("Data set", "Purifier", "Settings", "Purified clean accuracy", "Blind ASR")
    rows = []
    for line in frontier:
        settings = ", ".join(
            f"{name} {value}"
            for name, value in line["settings"].items()
            if len(_values(frontier, line, name)) > 1
        )
        cost = rate_text(line["purified_clean_accuracy"], line["n"])
        rows.append((display(line["dataset"]), line["run"], settings, cost, success_text(line)))
    title = "Table 7. Choosing the settings: cost and protection on validation images, epsilon 0.2"
    return page.Table(title, header, tuple(rows))


def _values(frontier, line, name):
    """Returns the values that a setting has among the lines of a data set and kind of purifier."""
    alike = [
        other["settings"]
        for other in frontier
        if other["dataset"] == line["dataset"]
        and other["settings"].keys() == line["settings"].keys()
    ]
    return {str(settings[name]) for settings in alike}


def more_tables(records, distances=(), frontier=()):
    """Returns the tables that go beyond the study, those that have a record.

    Args:
        records: Records as `tfpurify.records.make_record` makes them.
        distances: Lines as `tfpurify.distances.make_distances` makes them.
        frontier: Lines as `tfpurify.frontier.read_frontier` reads them.
    """
    tables = [_prior_table(records, distances), *_transfer_tables(records)]
    tables.append(_frontier_table(frontier))
    if any(record["epsilon"] == SMALL_EPSILON for record in records):
        tables.insert(0, _small_table(records))
    return tuple(table for table in tables if table.rows)


def _other_attacks(records, dataset, cell, epsilon=STUDY_EPSILON):
    """Returns the best record of each attack and gradient mode that is not AdvGAN."""
    best = {}
    for record in study_records(records, dataset, epsilon):
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
            error = rate_text(1 - record["robust_accuracy"], record["n"])
        cost = rate_text(record["purified_clean_accuracy"], record["n"])
    if purifier == "none":
        cost = "no purifier"
    words = (display(dataset), threat_model, display(purifier), attack)
    return (*words, success_text(record), study, error, cost)


def study_tables(records):
    """Returns the study's three tables."""
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
    return (("Notes", [*NOTES, _sources(records)]), ("Checks raised", flags))


def tables_markdown(records, **more):
    """Returns all tables, notes and the checks' flags as Markdown.

    Args:
        records: Records as `tfpurify.records.make_record` makes them.
        **more: `distances` and `frontier`, as for `more_tables`.
    """
    return page.markdown(table_blocks(records, **more))


def table_blocks(records, **more):
    """Returns what `tables_markdown` does as blocks of a page."""
    blocks = [*study_tables(records), *more_tables(records, **more)]
    for title, lines in _lists(records):
        blocks += [page.Paragraph(f"{title}:"), page.Listing(tuple(lines))]
    return blocks


def tables_text(records, **more):
    """Returns what `tables_markdown` does as aligned plain text."""
    blocks = []
    for table in (*study_tables(records), *more_tables(records, **more)):
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
