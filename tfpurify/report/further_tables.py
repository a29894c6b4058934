"""The tables of what goes beyond the study: a smaller budget, priors, transfer, settings."""

import dataclasses

from tfpurify.evaluation.checks import check_interval_width
from tfpurify.registry import DEFENCES
from tfpurify.report import page
from tfpurify.report.attack_tables import attack_tables
from tfpurify.report.study import STUDY_SETTINGS, datasets, pick, rank, study_records
from tfpurify.report.table_rows import (
    ATTACK_HEADER,
    attack_row,
    cost_text,
    other_attacks,
    rate_text,
    success_text,
)
from tfpurify.vocabulary import (
    SMALL_EPSILON,
    STUDY_CLASSIFIERS,
    STUDY_EPSILON,
    TRANSFER_ARCHITECTURES,
    display,
    display_attack,
)

SERVICE_MS = 100  # what the study gives a service for one image


@dataclasses.dataclass(frozen=True)
class Beside:
    """What was measured beside the records, each by default nothing.

    Args:
        distances: Lines as `tfpurify.evaluation.distances.make_distances` makes them.
        frontier: Lines as `tfpurify.evaluation.frontier.read_frontier` reads them.
        speed: Points as `tfpurify.evaluation.frontier.read_speed` reads them.
        diagnostics: Lines as `tfpurify.evaluation.diagnostics.read_diagnostics` reads them.
        detection: Lines as `tfpurify.evaluation.detection.read_detection` reads them.
    """

    distances: tuple = ()
    frontier: tuple = ()
    speed: tuple = ()
    diagnostics: tuple = ()
    detection: tuple = ()


NOTHING = Beside()


def further_tables(records, beside=NOTHING):
    """Returns the tables that go beyond the study, those that have a record.

    Args:
        records: Records as `tfpurify.evaluation.records.make_record` makes them.
        beside: A `Beside`.
    """
    tables = [_prior_table(records, beside.distances), *_transfer_tables(records)]
    tables += [_frontier_table(beside.frontier), _speed_table(beside.speed)]
    tables += attack_tables(records, beside.diagnostics, beside.detection)
    if any(record["epsilon"] == SMALL_EPSILON for record in records):
        tables.insert(0, _small_table(records))
    return tuple(table for table in tables if table.rows)


def _small_table(records):
    """Returns the table of the field's budget on CIFAR-10; the study has no such cells."""
    header = tuple(name for name in ATTACK_HEADER[1:] if name != "Study")
    rows = []
    measured = [
        (record["threat_model"], record["purifier"])
        for record in study_records(records, "cifar10", SMALL_EPSILON)
        if record["epsilon"] == SMALL_EPSILON
    ]
    for cell in dict.fromkeys([*STUDY_SETTINGS[1:], *sorted(measured)]):
        found = [pick(records, "cifar10", *cell, epsilon=SMALL_EPSILON)]
        found += other_attacks(records, "cifar10", cell, SMALL_EPSILON)
        worst = pick(records, "cifar10", *cell, "worst_case", SMALL_EPSILON)
        for record in found:
            row = attack_row("cifar10", cell, record, "", worst)
            rows.append(tuple(row[1:5] + row[6:]))
            worst = None
    return page.Table("Table 4. CIFAR-10 at epsilon 8/255", header, tuple(rows))


def _prior_table(records, distances):
    """Returns DefenseGAN's priors beside each other: how near, what they cost, what they stop."""
    header = (
        "Data set",
        "Prior",
        "Projection error",
        "Purified clean accuracy",
        "Blind ASR",
        "Strongest whitebox attack",
    )
    names = {name: entry.prior for name, entry in DEFENCES.items() if entry.prior}
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
            strongest = _strongest_whitebox(records, dataset, purifier)
            rows.append((display(dataset), name, error, cost, success_text(record), strongest))
    title = "Table 5. DefenseGAN's priors: mean squared error of clean images, cost and protection"
    return page.Table(title, header, tuple(rows))


def _strongest_whitebox(records, dataset, purifier):
    """Returns the highest success rate of an attacker who knows a purifier, and the attack."""
    found = [
        record
        for record in study_records(records, dataset)
        if (record["threat_model"], record["purifier"]) == ("whitebox", purifier)
        and record["attack_success_rate"] is not None
    ]
    if not found:
        return "not measured"
    worst = max(found, key=lambda record: record["attack_success_rate"])
    attack = display_attack(worst["attack"], worst["gradient_mode"])
    return f"{success_text(worst)}, {attack}"


def _transfer_tables(records):
    """Returns, for each data set, PuVAEs of source classifiers S in front of targets T.

    These PuVAEs are trained shorter than the study's, all alike: `tfpurify.evaluation.experiments`.
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
            ("Accuracy, no attack", cost_text),
        ):
            rows = [
                (name, *(cell(found.get((source, target))) for target in names))
                for source, name in sources.items()
            ]
            header = ("Source", *(f"T = {target}" for target in names))
            caption = f"Table 6. Transfer of briefly trained PuVAEs on {display(dataset)}. {title}"
            tables.append(page.Table(caption, header, tuple(rows)))
    return tables


def _frontier_table(frontier):
    """Returns what settings cost and protect, on the validation images they were chosen on."""
    header = (
        "Data set",
        "Purifier",
        "Settings",
        "Purified clean accuracy",
        "Blind ASR",
        "Whitebox ASR (PGD)",
    )
    rows = []
    for line in frontier:
        settings = ", ".join(
            f"{name} {value}"
            for name, value in line["settings"].items()
            if len(_values(frontier, line, name)) > 1
        )
        cost = rate_text(line["purified_clean_accuracy"], line["n"])
        whitebox = "not measured"
        if "whitebox_n" in line:
            keys = ("n", "attack_success_rate", "attack_success_rate_low")
            keys += ("attack_success_rate_high",)
            whitebox = _frontier_success({key: line[f"whitebox_{key}"] for key in keys})
        blind = _frontier_success(line)
        rows.append((display(line["dataset"]), line["run"], settings, cost, blind, whitebox))
    title = (
        "Table 7. Choosing the settings: cost and protection on validation images, epsilon 0.2, as "
        "`python -m trainers.attack --split=validation --noise_scales` measures them today"
    )
    return page.Table(title, header, tuple(rows))


def _frontier_success(rates):
    flag = check_interval_width(rates)
    return success_text({**rates, "checks": [flag] if flag else []})


def _values(frontier, line, name):
    """Returns the values that a setting has among the lines of a data set and kind of purifier."""
    alike = [
        other["settings"]
        for other in frontier
        if other["dataset"] == line["dataset"]
        and other["settings"].keys() == line["settings"].keys()
    ]
    return {str(settings[name]) for settings in alike}


def settings_text(point):
    """Returns a point's purifier and how hard it works, in words."""
    name = "no purifier" if point["purifier"] == "none" else display(point["purifier"])
    settings = point["settings"]
    if not settings:
        return name
    return f"{name}, L={settings['num_steps']}, R={settings['num_restarts']}"


def _speed_table(speed):
    """Returns what a purifier protects for the time it takes."""
    header = (
        "Data set",
        "Purifier",
        "Purified clean accuracy",
        "Accuracy under attack",
        *("ms an image in batches of 64", "ms for one image alone"),
    )
    rows = [
        (
            display(point["dataset"]),
            settings_text(point),
            rate_text(point["accuracy"], point["n"]),
            rate_text(point["robust_accuracy"], point["n"]),
            f"{point['ms_per_image']:.3g}",
            f"{point['single_image_ms']:.3g}",
        )
        for point in speed
    ]
    title = "Table 8. Accuracy under a blind AdvGAN (epsilon 0.2) against time, classifier included"
    return page.Table(title, header, tuple(rows))


def speed_lines(speed):
    """Returns for each data set what fits into the study's 100 ms for one image."""
    lines = []
    for dataset in dict.fromkeys(point["dataset"] for point in speed):
        here = [point for point in speed if point["dataset"] == dataset]
        within = [point for point in here if point["single_image_ms"] <= SERVICE_MS]
        best = max(within, key=lambda point: point["robust_accuracy"])
        most = max(here, key=lambda point: point["single_image_ms"])
        lines.append(
            f"{display(dataset)}: of {len(here)} settings {len(within)} answer one image within "
            f"the study's {SERVICE_MS} ms; the best of those under a blind AdvGAN is "
            f"{settings_text(best)} with {100 * best['robust_accuracy']:.1f} % in "
            f"{best['single_image_ms']:.3g} ms. "
            f"{settings_text(most)} has {100 * most['robust_accuracy']:.1f} % and takes "
            f"{most['single_image_ms']:.4g} ms (n={best['n']})."
        )
    return lines
