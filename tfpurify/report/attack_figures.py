"""Figures of attacks: success against the budget, detection."""

from tfpurify.report.figures import new_figure, save
from tfpurify.report.study import datasets, study_records
from tfpurify.report.table_rows import flag_mark
from tfpurify.vocabulary import MEAN_SQUARED, display, display_attack

_FEWEST = 3  # budgets that make a line
_LINES = {"none": "-", "puvae": "--", "puvae_adversarial": "-.", "defensegan_fast": ":"}


def _curves(records, dataset):
    """Returns epsilons and rates of each purifier, attack and mode with enough budgets."""
    found = {}
    for record in study_records(records, dataset, epsilon=None):
        if record["threat_model"] != "whitebox":
            continue
        rate = record["attack_success_rate"]
        if rate is not None and record["attack"] not in MEAN_SQUARED:
            key = (record["purifier"], record["attack"], record["gradient_mode"])
            rates = found.setdefault(key, {})
            point = (rate, flag_mark(record))
            rates[record["epsilon"]] = max(point, rates.get(record["epsilon"], point))
    return {key: sorted(rates.items()) for key, rates in found.items() if len(rates) >= _FEWEST}


def has_budgets(records):
    """Says whether any attack was measured at enough budgets for a line."""
    return any(_curves(records, dataset) for dataset in datasets(records))


def figure_budgets(records, path):
    """Draws attack success rates against epsilon, one panel for each data set.

    Args:
        records: Records as `tfpurify.evaluation.records.make_record` makes them.
        path: A PNG file.
    """
    found = [dataset for dataset in datasets(records) if _curves(records, dataset)]
    figure, axes = new_figure(1, len(found), (5.0 * len(found), 4.6))
    attacks = sorted({key[1] for dataset in found for key in _curves(records, dataset)})
    for axis, dataset in zip(axes[0], found, strict=True):
        for (purifier, attack, mode), points in sorted(_curves(records, dataset).items(), key=str):
            name = "no purifier" if purifier == "none" else display(purifier)
            axis.plot(
                [epsilon for epsilon, _ in points],
                [100 * rate for _, (rate, _) in points],
                _LINES.get(purifier, "-"),
                marker=".",
                color=f"C{attacks.index(attack)}",
                label=f"{name}: {display_attack(attack, mode)}",
            )
            for epsilon, (rate, mark) in points:
                axis.annotate(mark, (epsilon, 100 * rate), fontsize=7)
        axis.set_xscale("log")
        axis.set_ylim(-4, 104)
        axis.set_title(display(dataset), fontsize=10)
        axis.set_xlabel("epsilon (L-inf, on [0, 1])")
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(frameon=False, fontsize=7, loc="upper left")
    axes[0, 0].set_ylabel("attack success rate, %")
    save(figure, path)


def figure_detection(detection, path):
    """Draws the receiver operating characteristics, one panel for each data set and purifier.

    Args:
        detection: Lines as `tfpurify.evaluation.detection.read_detection` reads them.
        path: A PNG file.
    """
    keys = ("dataset", "purifier", "epsilon")
    panels = list(dict.fromkeys(tuple(line[key] for key in keys) for line in detection))
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure, axes = new_figure(rows, columns, (4.4 * columns, 4.0 * rows))
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for axis, panel in zip(axes.flat, panels, strict=False):
        for line in detection:
            if tuple(line[key] for key in keys) != panel:
                continue
            attack = display_attack(line["attack"], line["gradient_mode"])
            knows = ", knows the detector" if line["knows_detector"] else ""
            axis.plot(
                line["false_positive_rates"],
                line["true_positive_rates"],
                label=f"{line['threat_model']} {attack}{knows}: AUC {line['auc']:.3f}",
            )
        axis.plot([0, 1], [0, 1], color="black", linewidth=0.6, linestyle=":")
        title = f"{display(panel[0])}, {display(panel[1])}, epsilon {panel[2]:.3g}"
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("clean images taken for attacked")
        axis.set_ylabel("attacked images found")
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(frameon=False, fontsize=7, loc="lower right")
    save(figure, path)
