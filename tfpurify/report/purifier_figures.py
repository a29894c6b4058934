"""Figures of what a purifier does to images, and of the time that it takes."""

from tfpurify.report.figures import MARKERS, OURS, WRONG, new_figure, save
from tfpurify.report.study import STUDY
from tfpurify.vocabulary import STUDY_EPSILON, display


def figure_distances(distances, path):
    """Draws histograms of how far a purifier moves clean and attacked images.

    Args:
        distances: Lines as `tfpurify.evaluation.distances.make_distances` makes them.
        path: A PNG file.
    """
    rows = sorted({line["dataset"] for line in distances}, key=list(STUDY).index)
    lines = {
        (line["dataset"], line["purifier"]): line
        for line in distances
        if line["epsilon"] == STUDY_EPSILON
    }
    purifiers = ("puvae", "defensegan")
    figure, axes = new_figure(len(rows), 2, (8.4, 2.6 * len(rows)))
    for dataset, row_axes in zip(rows, axes, strict=True):
        for purifier, axis in zip(purifiers, row_axes, strict=True):
            axis.set_title(f"{display(dataset)}, {display(purifier)}", fontsize=10)
            axis.spines[["top", "right"]].set_visible(False)
            if (dataset, purifier) in lines:
                _draw_distances(axis, lines[dataset, purifier])
            else:
                axis.text(0.5, 0.5, "not measured", ha="center", transform=axis.transAxes)
    axes[0, 0].legend(frameon=False, fontsize=8)
    save(figure, path)


def _draw_distances(axis, line):
    for kind, color in (("clean", OURS), ("adversarial", WRONG)):
        shares = [100 * count / line["n"] for count in line[f"{kind}_counts"]]
        label = {"clean": "clean", "adversarial": "AdvGAN, blind"}[kind]
        axis.stairs(shares, line["edges"], color=color, fill=True, alpha=0.45, label=label)
    axis.set_xlabel(f"mean squared error, n={line['n']}", fontsize=8)
    axis.set_ylabel("images, %", fontsize=8)


def figure_seconds(distances, path):
    """Draws the time that each purifier takes for an image, on a logarithmic scale.

    Args:
        distances: Lines as `tfpurify.evaluation.distances.make_distances` makes them.
        path: A PNG file.
    """
    seconds = {(line["dataset"], line["purifier"]): line["seconds_per_image"] for line in distances}
    names = [f"{display(dataset)}, {display(purifier)}" for dataset, purifier in seconds]
    figure, axes = new_figure(1, 1, (8.4, 0.9 + 0.34 * len(names)))
    axis, values = axes[0, 0], [1000 * value for value in seconds.values()]
    axis.barh(names, values, color=OURS)
    for place, value in enumerate(values):
        axis.text(value * 1.08, place, f"{value:.3g} ms", va="center", fontsize=8)
    axis.set_xscale("log")
    axis.margins(x=0.2)
    axis.invert_yaxis()
    axis.set_xlabel("milliseconds an image, on the machine that made the record")
    axis.spines[["top", "right"]].set_visible(False)
    save(figure, path)


def figure_speed(speed, path, limit_ms):
    """Draws the accuracy under attack against the time of one image, with a service's limit.

    Args:
        speed: Points as `tfpurify.evaluation.frontier.read_speed` reads them.
        path: A PNG file.
        limit_ms: Where the line is drawn.
    """
    found = list(dict.fromkeys(point["dataset"] for point in speed))
    figure, axes = new_figure(1, len(found), (4.6 * len(found), 3.6))
    for axis, dataset in zip(axes[0], found, strict=True):
        for purifier, marker in MARKERS.items():
            here = [p for p in speed if (p["dataset"], p["purifier"]) == (dataset, purifier)]
            if not here:
                continue
            axis.scatter(
                [point["single_image_ms"] for point in here],
                [100 * point["robust_accuracy"] for point in here],
                marker=marker,
                label="no purifier" if purifier == "none" else display(purifier),
            )
        axis.axvline(limit_ms, color="black", linestyle=":", linewidth=1)
        axis.text(limit_ms, 2, f" {limit_ms} ms", fontsize=8)
        axis.set_xscale("log")
        axis.set_ylim(-4, 104)
        axis.set_title(display(dataset), fontsize=10)
        axis.set_xlabel("milliseconds for one image, classifier included")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0, 0].set_ylabel("accuracy under a blind AdvGAN, %")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, loc="outside lower center", ncols=4, fontsize=8)
    save(figure, path)
