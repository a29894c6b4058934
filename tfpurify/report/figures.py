"""Figures from records and images: bars beside the study's numbers, rows of images."""

from tfpurify.files import aside
from tfpurify.report.study import STUDY, STUDY_SETTINGS, datasets, pick, study_records
from tfpurify.report.table_rows import accuracy_without_attack, flag_mark, is_bound
from tfpurify.vocabulary import display

OURS, _STUDY = "#2f6db5", "#c9c9c9"
_RIGHT, WRONG = "#1b7f3b", "#b3261e"
_THREATS = {"blackbox": "#8fb8de", "blind": "#e0a83c", "whitebox": "#b3261e"}


def figure_rates(records, path, origin=None):
    """Draws attack success rates with their intervals beside the study's numbers.

    Args:
        records: Records as `tfpurify.evaluation.records.make_record` makes them.
        path: A PNG file.
        origin: What `origin_of` shall tell of the file, or None.
    """
    found = datasets(records)
    if not found:
        raise ValueError("`records` must hold a record of the study's data sets. Received: none")
    figure, axes = new_figure(len(found), 1, (9.0, 3.4 * len(found)))
    for axis, dataset in zip(axes[:, 0], found, strict=True):
        _draw_rates(axis, records, dataset)
    if any(record["attack"] == "worst_case" for record in records):
        label = "worst case over attacks and gradient modes"
        axes[0, 0].scatter([], [], marker="D", color=WRONG, s=28, label=label)
    axes[0, 0].legend(frameon=False, loc="upper left", ncols=3, fontsize=8)
    save(figure, path, origin)


def origin_of(path):
    """Returns what a figure was drawn from, as it was told when drawn; None if it was not."""
    from PIL import Image

    with Image.open(path) as image:
        return image.info.get("Source")


def _draw_rates(axis, records, dataset):
    ours = ("whitebox", "puvae_adversarial")
    is_measured = any(pick(records, dataset, *ours, attack) for attack in ("advgan", "worst_case"))
    cells = (*STUDY_SETTINGS[1:], *[ours] * is_measured)
    for place, cell in enumerate(cells):
        if cell in STUDY[dataset]:
            axis.bar(
                place + 0.2,
                100 * STUDY[dataset][cell],
                0.38,
                color=_STUDY,
                label=_once("the study", place),
            )
        _draw_worst(axis, place, pick(records, dataset, *cell, attack="worst_case"))
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
            color=OURS,
            yerr=whiskers,
            capsize=3,
            label=_once("measured, 95 % interval", place),
        )
        axis.text(
            place - 0.2,
            min(100 * high, 100) + 1.5,
            f"{'≥ ' if is_bound(record) else ''}{100 * rate:.1f}{flag_mark(record)}\n"
            f"n={record['n']}",
            ha="center",
            fontsize=7,
        )
    names = [
        f"{threat_model}\n{'no defence' if purifier == 'none' else display(purifier)}".replace(
            " (", "\n("
        )
        for threat_model, purifier in cells
    ]
    axis.set_xticks(range(len(cells)), names, fontsize=8)
    axis.set_ylim(0, 125)
    axis.set_yticks(range(0, 101, 20))
    axis.set_ylabel("attack success rate, %")
    title = f"{display(dataset)}: AdvGAN, epsilon 0.2 (†: a check was raised)"
    axis.set_title(title, fontsize=10)
    axis.spines[["top", "right"]].set_visible(False)


def _draw_worst(axis, place, record):
    """Draws what the worst case over all attacks leaves, if it was measured."""
    if record is None or record["attack_success_rate"] is None:
        return
    rate = 100 * record["attack_success_rate"]
    axis.scatter(place - 0.5, rate, marker="D", color=WRONG, s=28, zorder=3)
    words = f"{'≥ ' if is_bound(record) else ''}{rate:.1f}{flag_mark(record)}"
    offset = {"xytext": (0, 6), "textcoords": "offset points", "ha": "center"}
    axis.annotate(words, (place - 0.5, rate), fontsize=7, **offset)


def _once(label, place):
    """Returns a label for the legend at the first place only."""
    return label if place == 0 else "_"


MARKERS = {
    "none": "o",
    "puvae": "s",
    "puvae_adversarial": "P",
    "defensegan": "^",
    "defensegan_fast": "v",
    "bit_depth": "X",
    "jpeg": "d",
}


def figure_trade_off(records, path):
    """Draws what each purifier costs against what it protects, one panel for each data set.

    An attack that was measured on few images stands at the purifier's cost on the most.

    Args:
        records: Records as `tfpurify.evaluation.records.make_record` makes them.
        path: A PNG file.
    """
    found = datasets(records)
    figure, axes = new_figure(1, len(found), (4.2 * len(found), 3.9))
    for axis, dataset in zip(axes[0], found, strict=True):
        here = [r for r in study_records(records, dataset) if r["robust_accuracy"] is not None]
        for purifier, marker in MARKERS.items():
            attacked = [record for record in here if record["purifier"] == purifier]
            _draw_attacks(axis, attacked, marker)
        axis.set_title(display(dataset), fontsize=10)
        axis.set_xlabel("accuracy without an attack, %")
        axis.set_ylim(-4, 104)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0, 0].set_ylabel("robust accuracy, %")
    for purifier, marker in MARKERS.items():
        name = "no purifier" if purifier == "none" else display(purifier)
        axes[0, 0].scatter([], [], marker=marker, color="white", edgecolor="black", label=name)
    for threat, color in _THREATS.items():
        axes[0, 0].scatter([], [], marker="o", color=color, label=threat)
    if any(not _is_advgan(record) for record in records):
        color, label = _THREATS["whitebox"], "other attacks than AdvGAN: hollow"
        axes[0, 0].scatter([], [], marker="o", color="none", edgecolor=color, label=label)
    figure.legend(frameon=False, loc="outside lower center", ncols=2 * len(found), fontsize=8)
    save(figure, path)


def _draw_attacks(axis, attacked, marker):
    """Draws the attacks on one purifier, at its cost."""
    most = max(attacked, key=lambda record: record["n"], default=None)
    for record in attacked:
        color = _THREATS[record["threat_model"]]
        is_hollow = not _is_advgan(record)
        axis.scatter(
            100 * accuracy_without_attack(most),
            100 * record["robust_accuracy"],
            marker=marker,
            color="none" if is_hollow else color,
            edgecolor=color if is_hollow else "black",
            linewidth=1.2 if is_hollow else 0.5,
            s=70 if is_hollow else 44,
        )
        place = (100 * accuracy_without_attack(most), 100 * record["robust_accuracy"])
        axis.annotate(flag_mark(record), place, fontsize=6)


def _is_advgan(record):
    return record["attack"].startswith(("advgan", "none"))


def figure_images(rows, path):
    """Draws rows of images, each with its predicted class and confidence, green where right.

    Args:
        rows: `ImageRow`s of the same number of images; the first row is titled with true labels.
        path: A PNG file.
    """
    if not rows:
        raise ValueError("`rows` must hold at least one row. Received: none")
    count = len(rows[0].images)
    figure, axes = new_figure(len(rows), count, (1.15 * count + 1.9, 1.4 * len(rows) + 0.3))
    for index, (row, row_axes) in enumerate(zip(rows, axes, strict=True)):
        row_axes[0].set_ylabel(
            row.title.replace(": ", ":\n"), rotation=0, ha="right", va="center", fontsize=9
        )
        for place, axis in enumerate(row_axes):
            _draw_image(axis, row, place)
            if index == 0:
                true_name = row.class_names[int(row.labels[place])]
                axis.set_title(f"true: {true_name}", fontsize=8)
    save(figure, path)


def _draw_image(axis, row, place):
    image = row.images[place]
    axis.imshow(image if image.shape[-1] == 3 else image[..., 0], cmap="gray", vmin=0, vmax=1)
    axis.set_xticks([])
    axis.set_yticks([])
    predicted = int(row.predictions[place])
    axis.set_xlabel(
        f"{row.class_names[predicted]} ({100 * row.confidences[place]:.0f} %)",
        fontsize=8,
        color=_RIGHT if predicted == int(row.labels[place]) else WRONG,
    )


def new_figure(rows, columns, size):
    """Returns a figure without a window, and its axes as a 2-D array."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False)


def save(figure, path, origin=None):
    """Writes a figure as PNG, whole or not at all, with what `origin_of` shall tell of it."""
    metadata = {"Software": None, "Source": origin}
    with aside(path) as hidden:
        figure.savefig(hidden, dpi=110, format="png", metadata=metadata)
