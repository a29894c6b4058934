"""What stands in the cells and rows of the tables, made from records."""

from tfpurify.evaluation.checks import MEANINGS, flag_names
from tfpurify.evaluation.intervals import wilson_interval
from tfpurify.report.study import STUDY_SETTINGS, pick, rank, study_records
from tfpurify.vocabulary import STUDY_EPSILON, display, display_attack

ATTACK_HEADER = (
    "Data set",
    "Threat model",
    "Purifier",
    "Attack",
    "ASR",
    "Study",
    "Worst case",
    "1 - robust accuracy",
    "Purified clean accuracy",
    "Checks",
)


def rate_text(rate, n):
    """Returns a rate over n images with its interval."""
    if rate is None:
        return "not measured"
    low, high = wilson_interval(round(rate * n), n)
    return _cell(rate, low, high, n)


def _cell(rate, low, high, n):
    return f"{100 * rate:.1f} [{100 * low:.1f}, {100 * high:.1f}] (n={n})"


# The letter by which a table names a check.
MARKS = dict(zip(MEANINGS, "abcdefghijklmnopqrstuvwxyz", strict=False))


def flag_mark(record):
    """Returns what stands beside a number whose record carries a flag."""
    return " †" if record.get("checks") else ""


def check_marks(*records):
    """Returns the letters of the checks that records raise, each once; a record may be None."""
    names = [name for record in records if record is not None for name in flag_names(record)]
    return " ".join(sorted({MARKS[name] for name in names}))


def success_text(record):
    """Returns a record's ASR with its interval, and whether it is flagged; may be None."""
    if record is None:
        return "not measured"
    if record["attack_success_rate"] is None:
        return f"undefined (n={record['n']})"
    ends = (record["attack_success_rate_low"], record["attack_success_rate_high"])
    return _cell(record["attack_success_rate"], *ends, record["n"]) + flag_mark(record)


def accuracy_without_attack(record):
    """Returns the accuracy on clean images, behind the record's purifier if it has one."""
    return record["clean_accuracy" if record["purifier"] == "none" else "purified_clean_accuracy"]


def cost_text(record):
    """Returns a record's `accuracy_without_attack` with its interval; the record may be None."""
    if record is None:
        return "not measured"
    mark = " †" if "purifier_cost" in flag_names(record) else ""
    return rate_text(accuracy_without_attack(record), record["n"]) + mark


def other_attacks(records, dataset, cell, epsilon=STUDY_EPSILON):
    """Returns the best record of each attack and gradient mode.

    But for the one that `pick` takes and the worst case, which stand in the cell's own row.
    """
    best, picked = {}, pick(records, dataset, *cell, epsilon=epsilon)
    for record in study_records(records, dataset, epsilon):
        key = (record["attack"], record["gradient_mode"])
        is_here = (record["threat_model"], record["purifier"]) == cell
        if is_here and record["attack"] not in ("none", "worst_case"):
            best[key] = max(best.get(key, record), record, key=rank)
    return [record for record in best.values() if record is not picked]


def attack_row(dataset, cell, record, study, worst=None):
    """Returns one row of `ATTACK_HEADER`.

    Args:
        dataset: Name of the data set.
        cell: Threat model and purifier.
        record: What was measured, or None.
        study: The study's figure in words.
        worst: The record of the cell's worst case; None in a row of another attack on the cell.
    """
    threat_model, purifier = cell
    error, cost, attack = "not measured", "not measured", display("advgan")
    if record is not None:
        attack = display_attack(record["attack"], record["gradient_mode"])
        if record["robust_accuracy"] is not None:
            error = rate_text(1 - record["robust_accuracy"], record["n"]) + flag_mark(record)
    known = record or worst
    if known is not None:
        cost = rate_text(known["purified_clean_accuracy"], known["n"])
    if purifier == "none":
        cost = "no purifier"
    return (
        display(dataset),
        threat_model,
        display(purifier),
        attack,
        success_text(record),
        study,
        "" if worst is None else success_text(worst),
        error,
        cost,
        check_marks(record, worst),
    )


def cell_rows(records, dataset, cell, study, shipped=()):
    """Returns a cell's own row, with its worst case, and one for each other attack on it.

    Args:
        records: The records to choose from.
        shipped: The zoo's records, whose figures stand in the cell's own row in two columns more;
            none of both if it is empty.
        dataset: Name of the data set.
        cell: Threat model and purifier.
        study: The study's figure in words.
    """
    picked = pick(records, dataset, *cell)
    worst = pick(records, dataset, *cell, attack="worst_case")
    rows = []
    if picked or worst or cell in STUDY_SETTINGS:
        rows.append(attack_row(dataset, cell, picked, study, worst))
    if shipped:
        full = [success_text(pick(shipped, dataset, *cell))]
        full.append(success_text(pick(shipped, dataset, *cell, attack="worst_case")))
        rows = rows or [attack_row(dataset, cell, None, study)]
        rows = [(*row, *full) for row in rows]
    rest = ("", "") if shipped else ()
    return rows + [
        (*attack_row(dataset, cell, other, "not in study"), *rest)
        for other in other_attacks(records, dataset, cell)
    ]


def is_bound(record):
    """Says whether a success rate is a lower bound: its gradient only approximates the target's."""
    is_approximate = record["gradient_mode"] in ("bpda", "encoder", "truncated")
    # The reference's exact gradient is in no worst case, see `tfpurify.evaluation.experiments`.
    is_reference = record["purifier"] == "defensegan" and record["gradient_mode"] != "exact"
    return is_approximate or (is_reference and record["threat_model"] == "whitebox")
