"""Writes tables and figures beside the study's numbers, from records.

`python -m tfpurify.report` puts the zoo's results into the README; with `--output_dir` it writes
the whole report of them.
"""

import hashlib
import os
import sys
from pathlib import Path

from tfpurify import page
from tfpurify.cards import cards, results_text
from tfpurify.distances import read_distances, write_distances
from tfpurify.figures import (
    ImageRow,
    figure_distances,
    figure_images,
    figure_rates,
    figure_seconds,
    figure_trade_off,
    origin_of,
)
from tfpurify.files import replace_lines, write_aside
from tfpurify.frontier import read_frontier
from tfpurify.study import REPAIRS, STUDY, display, display_attack, pick
from tfpurify.tables import summary_lines, table_blocks, tables_markdown, tables_text

__all__ = [
    "STUDY",
    "ImageRow",
    "display",
    "display_attack",
    "figure_images",
    "figure_rates",
    "pick",
    "readme_with_results",
    "require_writable",
    "tables_markdown",
    "tables_text",
    "update_readme",
    "update_records",
    "write_report",
]

_TITLE = "How much a purifier protects, and what it costs"
_START, _END = "<!-- results:start -->", "<!-- results:end -->"
_PRESETS_START, _PRESETS_END = "[zoo:start]", "[zoo:end]"
_DISTANCES = "distances.jsonl"
_FRONTIER = "frontier.jsonl"
_RATES = "rates.png"
_RECORDS = "saved_models/zoo/results.jsonl"
_PRESETS = "trainers/_presets.py"
# What makes two records the same measurement.
_IDENTITY = (
    "dataset",
    "split",
    "classifier",
    "purifier",
    "threat_model",
    "attack",
    "epsilon",
    "gradient_mode",
    "seed",
)


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


def write_report(folder, records, image_rows=None, notes=(), distances=(), frontier=()):
    """Writes the report; each file appears whole or not at all.

    `report.html` holds everything in one file; `report.md` shows the figures beside it. The numbers
    are in `records.jsonl` and `distances.jsonl`.

    Args:
        folder: Made if missing.
        records: Records as `tfpurify.records.make_record` makes them.
        image_rows: `ImageRow`s by data set, or None for no images.
        notes: Paragraphs that stand first in the report: what is not in it.
        distances: Lines as `tfpurify.distances.make_distances` makes them.
        frontier: Lines as `tfpurify.frontier.read_frontier` reads them.

    Returns:
        The folder's path.

    Raises:
        OSError: If the folder cannot be written.
    """
    from tfpurify.records import write_records

    folder = require_writable(folder)
    write_records(folder / "records.jsonl", records)
    write_distances(folder / _DISTANCES, distances)
    blocks = [
        page.Listing(tuple(summary_lines(records))),
        *(page.Code(note) for note in notes),
        page.Heading("Results"),
        *table_blocks(records, distances=distances, frontier=frontier),
        *_figures(folder, records, image_rows or {}, distances),
        page.Heading("What of the study was repaired"),
        page.Listing(REPAIRS),
        page.Heading("How this page was made"),
        *_origin(records),
    ]
    write_aside(folder / "report.md", f"# {_TITLE}\n\n{page.markdown(blocks)}\n")
    write_aside(folder / "report.html", page.page(_TITLE, blocks))
    return folder


def _figures(folder, records, image_rows, distances):
    """Draws the figures into a folder and returns the blocks that show them."""
    figure_rates(records, folder / _RATES)
    figure_trade_off(records, folder / "trade_off.png")
    blocks = [
        page.Heading("Attack success rates"),
        page.Picture(folder / _RATES, "Attack success rates beside the study's.", True),
        page.Heading("What protection costs"),
        page.Picture(
            folder / "trade_off.png",
            "Accuracy without an attack against robust accuracy, epsilon 0.2: AdvGAN and PGD.",
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
    for dataset, rows in image_rows.items():
        path = folder / f"images_{dataset}.png"
        figure_images(rows, path)
        caption = "One test image of each class: predicted class and confidence, green where right."
        blocks += [page.Heading(f"{display(dataset)} in pictures")]
        blocks += [page.Picture(path, caption, True)]
    return blocks


def _origin(records):
    commands = sorted({record["command"] for record in records})
    versions = sorted(
        {", ".join(f"{name} {value}" for name, value in r["versions"].items()) for r in records}
    )
    return [
        page.Listing(tuple(commands), is_code=True),
        page.Paragraph(f"Versions: {'; '.join(versions)}."),
    ]


def update_records(path, records, distances=()):
    """Puts records into a file in place of older ones of the same measurement; the rest stays.

    An older record of more images stays too, as `replace_lines` says.

    Args:
        path: JSON lines file of records, made if missing.
        records: Records as `tfpurify.records.make_record` makes them.
        distances: Lines for `distances.jsonl` beside it, in the same way.
    """
    from tfpurify.records import read_records, write_records

    path = Path(path)
    _update(path, records, read_records, write_records)
    if distances:
        _update(path.with_name(_DISTANCES), distances, read_distances, write_distances)


def _update(path, lines, read, write):
    older = read(path) if path.exists() else []
    write(path, replace_lines(older, lines, _IDENTITY))


def readme_with_results(text, records, **more):
    """Returns a README's text with its results made from the records.

    Args:
        text: Holds the two marker lines, each once.
        records: Records as `tfpurify.records.make_record` makes them.
        **more: `distances` and `frontier`, as for `further_tables`.

    Raises:
        ValueError: If the markers are not there, each once and in order.
    """
    return _replace(text, _START, tables_markdown(records, **more), _END)


def _replace(text, start, results, end):
    """Returns a text with results on the lines between two markers."""
    if text.count(start) != 1 or text.count(end) != 1 or text.index(end) < text.index(start):
        raise ValueError(f"The file must hold `{start}` and `{end}`, once each, in this order")
    before, after = text.split(start)[0], text.split(end)[1]
    return f"{before}{start}\n{results}\n{end}{after}"


def update_readme(readme, records_path, is_check=False, presets=None):
    """Writes a README's results and figure, the zoo's cards and the presets' docstring.

    Args:
        readme: File whose results are updated.
        records_path: JSON lines file with the records. The figure, `rates.png`, stands in its
            folder, and the cards of the models there, `NAME.md` each.
        is_check: Whether to compare, and change nothing.
        presets: Python file whose docstring says how the zoo's models were made, or None.

    Returns:
        The exit status: 1 if something differs from the records.
    """
    from tfpurify.records import read_records

    readme, folder = Path(readme), Path(records_path).parent
    found, more = read_records(records_path), _read_more(records_path)
    text = readme.read_text(encoding="utf-8")
    texts = {readme: readme_with_results(text, found, **more)}
    if presets:
        text = Path(presets).read_text(encoding="utf-8")
        made = results_text(folder, found)
        texts[Path(presets)] = _replace(text, _PRESETS_START, made, _PRESETS_END)
    texts |= {folder / f"{name}.md": text for name, text in cards(folder, found).items()}
    stale = [
        file
        for file, expected in texts.items()
        if not file.exists() or file.read_text(encoding="utf-8") != expected
    ]
    figure, digest = folder / _RATES, hashlib.sha256(Path(records_path).read_bytes()).hexdigest()
    if not figure.exists() or origin_of(figure) != digest:
        stale.append(figure)
    for file in stale:
        if is_check:
            print(
                f"error: the results in {file} are not those of {records_path}; "
                "python -m tfpurify.report writes them",
                file=sys.stderr,
            )
            return 1
        if file == figure:
            figure_rates(found, figure, digest)
        else:
            write_aside(file, texts[file])
    return 0


def _read_more(records_path):
    """Returns the distances and the frontier that stand beside records."""
    path = Path(records_path).with_name(_DISTANCES)
    return {
        "distances": read_distances(path) if path.exists() else (),
        "frontier": read_frontier(path.with_name(_FRONTIER)),
    }


def main():
    """Updates or checks a README's results from the command line."""
    from absl import app, flags

    readme = flags.DEFINE_string("readme", "README.md", "File whose results are updated.")
    records = flags.DEFINE_string("records", _RECORDS, "JSON lines file with the records.")
    presets = flags.DEFINE_string(
        "presets", _PRESETS, "Python file whose docstring says how the zoo was made."
    )
    check = flags.DEFINE_bool(
        "check", False, "Whether to change nothing, and exit 1 if they differ."
    )

    output_dir = flags.DEFINE_string(
        "output_dir", None, "Folder for a whole report of the records; none if not given."
    )

    def update(argv):
        from tfpurify.records import read_records

        try:
            if len(argv) > 1:
                raise ValueError(f"Arguments must be flags. Received: {' '.join(argv[1:])}")
            if output_dir.value:
                more = _read_more(records.value)
                write_report(output_dir.value, read_records(records.value), **more)
            return update_readme(readme.value, records.value, check.value, presets.value)
        except (ValueError, OSError) as error:
            print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
            return 1

    app.run(update)


if __name__ == "__main__":
    main()
