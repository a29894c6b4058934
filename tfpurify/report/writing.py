"""Writes tables and figures beside the study's numbers, from records.

`python -m tfpurify.report` writes the README's table, the zoo's RESULTS.md, its figure and cards;
with `--output_dir` the whole report of them.
"""

import os
import sys
from pathlib import Path

from tfpurify.evaluation.diagnostics import with_derived_checks
from tfpurify.evaluation.distances import write_distances
from tfpurify.files import write_aside
from tfpurify.report import page
from tfpurify.report.attack_figures import figure_budgets, figure_detection, has_budgets
from tfpurify.report.figures import figure_images, figure_rates, figure_trade_off
from tfpurify.report.further_tables import NOTHING, SERVICE_MS, speed_lines
from tfpurify.report.overview import overview_table
from tfpurify.report.purifier_figures import figure_distances, figure_seconds, figure_speed
from tfpurify.report.repository import (
    DISTANCES_FILE,
    RATES,
    read_beside,
    readme_with_results,
    update_readme,
)
from tfpurify.report.study import REPAIRS, STUDY, pick
from tfpurify.report.tables import summary_lines, table_blocks, tables_markdown
from tfpurify.vocabulary import display, display_attack

__all__ = [
    "STUDY",
    "display",
    "display_attack",
    "figure_images",
    "figure_rates",
    "pick",
    "readme_with_results",
    "require_writable",
    "tables_markdown",
    "update_readme",
    "write_report",
]

_TITLE = "How much a purifier protects, and what it costs"
_RECORDS = "saved_models/zoo/results.jsonl"


def require_writable(folder):
    """Makes a folder, and raises OSError if it cannot be written."""
    folder = Path(folder)
    probe = folder / f".writable.{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_text("")
        probe.unlink()
    except OSError as error:
        raise OSError(
            f"`output_dir` must be a writable folder. Received: {folder} ({error.strerror})"
        ) from error
    return folder


def write_report(folder, records, image_rows=None, notes=(), shipped=(), beside=NOTHING):
    """Writes the report; each file appears whole or not at all.

    `report.html` holds everything in one file; `report.md` shows the figures beside it. The numbers
    are in `records.jsonl` and `distances.jsonl`.

    Args:
        folder: Made if missing.
        records: Records as `tfpurify.evaluation.records.make_record` makes them.
        image_rows: `ImageRow`s by data set, or None for no images.
        notes: Paragraphs that stand first in the report: what is not in it.
        shipped: The zoo's records, which stand beside these, marked, where there are any.
        beside: A `Beside`.

    Returns:
        The folder's path.

    Raises:
        OSError: If the folder cannot be written.
    """
    from tfpurify.evaluation.records import write_records

    folder, distances = require_writable(folder), beside.distances
    records = with_derived_checks(records, beside.diagnostics)
    write_records(folder / "records.jsonl", records)
    write_distances(folder / DISTANCES_FILE, distances)
    pictures = _pictures(folder, image_rows or {})
    blocks = [
        overview_table(records, distances, shipped),
        *pictures[1:2],
        *(page.Code(note) for note in notes),
        page.Heading("Results"),
        *table_blocks(records, shipped, beside),
        page.Listing(tuple(summary_lines(records))),
        *_figures(folder, records, distances),
        *pictures[:1],
        *pictures[2:],
        *_attack_figures(folder, records, beside.detection),
        *_speed(folder, beside.speed),
        page.Heading("What of the study was repaired"),
        page.Listing(REPAIRS),
        page.Heading("How this page was made"),
        *_origin(records),
    ]
    write_aside(folder / "report.md", f"# {_TITLE}\n\n{page.markdown(blocks)}\n")
    write_aside(folder / "report.html", page.page(_TITLE, blocks))
    return folder


def _attack_figures(folder, records, detection):
    """Draws success against the budget, and detection, where they were measured."""
    blocks = []
    if has_budgets(records):
        figure_budgets(records, folder / "epsilon.png")
        caption = "Attack success rate against epsilon, whitebox."
        blocks += [page.Heading("How much the budget decides")]
        blocks += [page.Picture(folder / "epsilon.png", caption, True)]
    if detection:
        figure_detection(detection, folder / "detection.png")
        caption = "Detection by reconstruction error: true against false positive rate."
        blocks += [page.Heading("A purifier as a detector")]
        blocks += [page.Picture(folder / "detection.png", caption, True)]
    return blocks


def _figures(folder, records, distances):
    """Draws the figures into a folder and returns the blocks that show them."""
    figure_rates(records, folder / RATES)
    figure_trade_off(records, folder / "trade_off.png")
    blocks = [
        page.Heading("Attack success rates"),
        page.Picture(folder / RATES, "Attack success rates beside the study's.", True),
        page.Heading("What protection costs"),
        page.Picture(
            folder / "trade_off.png",
            "Accuracy without an attack against robust accuracy, epsilon 0.2: all attacks.",
            True,
        ),
    ]
    if distances:
        figure_distances(distances, folder / "distances.png")
        figure_seconds(distances, folder / "seconds.png")
        blocks += [
            page.Heading("How far a purifier moves an image, and how long it takes"),
            page.Picture(
                folder / "distances.png",
                "Mean over pixels of (purified - image)^2, clean images and AdvGAN's.",
                True,
            ),
            page.Picture(folder / "seconds.png", "Time an image takes in a purifier.", True),
        ]
    return blocks


def _pictures(folder, image_rows):
    """Draws each data set's images; returns a heading and a picture for each."""
    blocks = []
    for dataset, rows in image_rows.items():
        path = folder / f"images_{dataset}.png"
        figure_images(rows, path)
        caption = "One test image of each class: predicted class and confidence, green where right."
        blocks += [page.Heading(f"{display(dataset)} in pictures")]
        blocks += [page.Picture(path, caption, True)]
    return blocks


def _speed(folder, speed):
    """Draws protection against time and returns the blocks that show it, if it was measured."""
    if not speed:
        return []
    path = folder / "speed.png"
    figure_speed(speed, path, SERVICE_MS)
    caption = "Every point is one setting, on the machine that made the points."
    return [
        page.Heading("What a service's 100 ms buy"),
        page.Listing(tuple(speed_lines(speed))),
        page.Picture(path, caption, True),
    ]


def _origin(records):
    commands = sorted({record["command"] for record in records})
    versions = sorted(
        {", ".join(f"{name} {value}" for name, value in r["versions"].items()) for r in records}
    )
    return [
        page.Listing(tuple(commands), is_code=True),
        page.Paragraph(f"Versions: {'; '.join(versions)}."),
    ]


def main():
    """Updates or checks a README's results from the command line."""
    from absl import app, flags

    readme = flags.DEFINE_string("readme", "README.md", "File whose results are updated.")
    records = flags.DEFINE_string("records", _RECORDS, "JSON lines file with the records.")
    check = flags.DEFINE_bool(
        "check", False, "Whether to change nothing, and exit 1 if they differ."
    )

    output_dir = flags.DEFINE_string(
        "output_dir", None, "Folder for a whole report of the records; none if not given."
    )

    def update(argv):
        from tfpurify.evaluation.records import read_records

        try:
            if len(argv) > 1:
                raise ValueError(f"Arguments must be flags. Received: {' '.join(argv[1:])}")
            if output_dir.value:
                beside = read_beside(records.value)
                write_report(output_dir.value, read_records(records.value), beside=beside)
            return update_readme(readme.value, records.value, check.value)
        except (ValueError, OSError) as error:
            print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
            return 1

    app.run(update)
