"""The tables of how attacks went: other norms, what found what, a purifier as a detector."""

from tfpurify.evaluation.detection import FALSE_ALARMS
from tfpurify.report import page
from tfpurify.report.table_rows import check_marks, rate_text, success_text
from tfpurify.vocabulary import MEAN_SQUARED, STUDY_CLASSIFIERS, display, display_attack


def attack_tables(records, diagnostics=(), detection=()):
    """Returns the tables of how attacks went.

    Args:
        records: Records as `tfpurify.evaluation.records.make_record` makes them.
        diagnostics: Lines as `tfpurify.evaluation.diagnostics.read_diagnostics` reads them.
        detection: Lines as `tfpurify.evaluation.detection.read_detection` reads them.
    """
    return [
        _mean_squared_table(records),
        _diagnostics_table(diagnostics),
        _detection_table(detection),
    ]


def _is_of_the_study(line):
    """Says whether a line is of the test split and of its data set's own classifier."""
    usual = STUDY_CLASSIFIERS.get(line["dataset"])
    return line["split"] == "test" and line["classifier"] == usual


def _mean_squared_table(records):
    """Returns the attacks whose bound is on the mean squared difference, as that on DefenseGAN."""
    header = ("Data set", "Purifier", "Attack", "ASR", "1 - robust accuracy", "Checks")
    rows = [
        (
            display(record["dataset"]),
            display(record["purifier"]),
            f"{display_attack(record['attack'], record['gradient_mode'])}, {record['epsilon']:g}",
            success_text(record),
            rate_text(1 - record["robust_accuracy"], record["n"]),
            check_marks(record),
        )
        for record in records
        if _is_of_the_study(record)
        and record["attack"] in MEAN_SQUARED
        and record["threat_model"] == "whitebox"
    ]
    title = (
        "Table 9. From within the generator's range: whitebox, bounded in the mean squared "
        "difference (Athalye et al. 2018: 0.005)"
    )
    return page.Table(title, header, tuple(rows))


def _diagnostics_table(diagnostics):
    """Returns what found the worst cases, and whether its gradients lived and had converged."""
    header = (
        "Data set",
        "Threat model",
        "Purifier",
        "Attack",
        "Epsilon",
        "First to fool, of the images left",
        "By twice the steps",
        "Gradient norm: median (dead)",
        "Randomness: fixed / fresh / vote",
    )
    rows = []
    for line in diagnostics:
        if not line["attack"].startswith("worst_case") or not _is_of_the_study(line):
            continue
        tried = [
            (name, line["first_to_fool"][name], count) for name, count in line["tried"].items()
        ]
        found = ", ".join(f"{name} {fooled}/{count}" for name, fooled, count in tried if fooled)
        found = found or f"none of {len(tried)}"
        norms = ", ".join(
            f"{mode} {norm['quantiles'][2]:.2g} ({norm['dead']})"
            for mode, norm in line["gradient_norms"].items()
            if norm["quantiles"]
        )
        more, rates = line["fooled_by_more_steps"], line["randomness"] or {}
        rows.append(
            (
                display(line["dataset"]),
                line["threat_model"],
                display(line["purifier"]),
                display_attack(line["attack"], line["gradient_mode"]),
                f"{line['epsilon']:.3g}",
                found,
                "" if more is None else f"{more} of {line['n']}",
                norms,
                " / ".join("-" if rate is None else f"{100 * rate:.1f}" for rate in rates.values())
                or "none",
            )
        )
    title = (
        "Table 10. How the worst cases were found: each attack gets what none before "
        "it fooled; images wrong without an attack are not among them"
    )
    return page.Table(title, header, tuple(rows))


def _detection_table(detection):
    """Returns what a purifier tells from how far it moves an image."""
    header = (
        "Data set",
        "Purifier",
        "Threat model",
        "Attack",
        "Epsilon",
        "Knows the detector",
        "AUC",
        "ASR",
        *(f"ASR undetected at {100 * rate:g} % false alarms" for rate in FALSE_ALARMS),
    )
    rows = [
        (
            display(line["dataset"]),
            display(line["purifier"]),
            line["threat_model"],
            display_attack(line["attack"], line["gradient_mode"]),
            f"{line['epsilon']:.3g}",
            "yes" if line["knows_detector"] else "no",
            f"{line['auc']:.3f}",
            f"{100 * line['success_rate']:.1f} (n={line['n']})",
            *(
                f"{100 * rate:.1f} (alarms {100 * alarms:.1f} %)"
                for rate, alarms in zip(
                    line["undetected_success_rates"], line["false_alarms"], strict=True
                )
            ),
        )
        for line in detection
        if _is_of_the_study(line)
    ]
    title = (
        "Table 11. Detection by reconstruction error: thresholds from clean validation images; "
        "the alarms are those on clean test images"
    )
    return page.Table(title, header, tuple(rows))
