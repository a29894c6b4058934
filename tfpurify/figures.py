"""Figures from records and images: bars beside the study's numbers, rows of images."""

import dataclasses
import os
from pathlib import Path

from tfpurify.study import STUDY, STUDY_CELLS, datasets, display, pick

_OURS, _STUDY = "#2f6db5", "#c9c9c9"
_RIGHT, _WRONG = "#1b7f3b", "#b3261e"


@dataclasses.dataclass(frozen=True)
class ImageRow:
    """One row of a figure.

    Args:
        title: What the images are.
        images: `(n, height, width, channels)` in [0, 1].
        labels: True labels `(n,)`.
        predictions: Predicted labels `(n,)`.
        confidences: Probabilities of the predictions `(n,)`.
        class_names: One for each label.
    """

    title: str
    images: object
    labels: object
    predictions: object
    confidences: object
    class_names: tuple


def figure_rates(records, path):
    """Draws attack success rates with their intervals beside the study's numbers.

    Args:
        records: Records as `tfpurify.records.make_record` makes them.
        path: A PNG file.
    """
    found = datasets(records)
    if not found:
        raise ValueError("`records` must hold a record of the study's data sets. Received: none")
    figure, axes = _new_figure(len(found), 1, (9.0, 3.4 * len(found)))
    for axis, dataset in zip(axes[:, 0], found, strict=True):
        _draw_rates(axis, records, dataset)
    axes[0, 0].legend(frameon=False, loc="upper left", ncols=2)
    _save(figure, path)


def _draw_rates(axis, records, dataset):
    cells = STUDY_CELLS[1:]
    for place, cell in enumerate(cells):
        axis.bar(
            place + 0.2,
            100 * STUDY[dataset][cell],
            0.38,
            color=_STUDY,
            label=_once("the study", place),
        )
        record = pick(records, dataset, *cell)
        if record is None or record["attack_success_rate"] is None:
            axis.text(place - 0.2, 1.5, "not\nmeasured", ha="center", fontsize=7)
            continue
        rate = record["attack_success_rate"]
        low, high = record["attack_success_rate_low"], record["attack_success_rate_high"]
        whiskers = [[max(0.0, 100 * (rate - low))], [max(0.0, 100 * (high - rate))]]
        axis.bar(
            place - 0.2,
            100 * rate,
            0.38,
            color=_OURS,
            yerr=whiskers,
            capsize=3,
            label=_once("measured, 95 % interval", place),
        )
        axis.text(
            place - 0.2,
            min(100 * high, 100) + 1.5,
            f"{100 * rate:.1f}\nn={record['n']}",
            ha="center",
            fontsize=7,
        )
    names = [
        f"{threat_model}\n{'no defence' if purifier == 'none' else display(purifier)}"
        for threat_model, purifier in cells
    ]
    axis.set_xticks(range(len(cells)), names, fontsize=8)
    axis.set_ylim(0, 125)
    axis.set_yticks(range(0, 101, 20))
    axis.set_ylabel("attack success rate, %")
    axis.set_title(f"{display(dataset)}: AdvGAN, epsilon 0.2", fontsize=10)
    axis.spines[["top", "right"]].set_visible(False)


def _once(label, place):
    """Returns a label for the legend at the first place only."""
    return label if place == 0 else "_"


def figure_images(rows, path):
    """Draws rows of images, each with its predicted class and confidence, green where right.

    Args:
        rows: `ImageRow`s of the same number of images; the first row is titled with true labels.
        path: A PNG file.
    """
    if not rows:
        raise ValueError("`rows` must hold at least one row. Received: none")
    count = len(rows[0].images)
    figure, axes = _new_figure(len(rows), count, (1.15 * count + 1.9, 1.4 * len(rows) + 0.3))
    for index, (row, row_axes) in enumerate(zip(rows, axes, strict=True)):
        row_axes[0].set_ylabel(
            row.title.replace(": ", ":\n"), rotation=0, ha="right", va="center", fontsize=9
        )
        for place, axis in enumerate(row_axes):
            _draw_image(axis, row, place)
            if index == 0:
                true_name = row.class_names[int(row.labels[place])]
                axis.set_title(f"true: {true_name}", fontsize=8)
    _save(figure, path)


def _draw_image(axis, row, place):
    image = row.images[place]
    axis.imshow(image if image.shape[-1] == 3 else image[..., 0], cmap="gray", vmin=0, vmax=1)
    axis.set_xticks([])
    axis.set_yticks([])
    predicted = int(row.predictions[place])
    axis.set_xlabel(
        f"{row.class_names[predicted]} ({100 * row.confidences[place]:.0f} %)",
        fontsize=8,
        color=_RIGHT if predicted == int(row.labels[place]) else _WRONG,
    )


def _new_figure(rows, columns, size):
    """Returns a figure without a window, and its axes as a 2-D array."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False)


def _save(figure, path):
    path = Path(path)
    aside = path.with_name(f".{path.name}")
    try:
        figure.savefig(aside, dpi=110, format="png", metadata={"Software": None})
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
