"""Writes tables and figures beside the study's numbers, from records.

`python -m tfpurify.report --readme=README.md` puts the zoo's results into the README.
"""

import os
import sys
from pathlib import Path

from tfpurify.figures import ImageRow, figure_images, figure_rates
from tfpurify.study import STUDY, display, display_attack, pick
from tfpurify.tables import tables_markdown, tables_text

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

_START, _END = "<!-- results:start -->", "<!-- results:end -->"
_RECORDS = "saved_models/zoo/results.jsonl"
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


def write_report(folder, records, image_rows=None, notes=()):
    """Writes `records.jsonl`, `report.md` and the figures; each file appears whole or not at all.

    Args:
        folder: Made if missing.
        records: Records as `tfpurify.records.make_record` makes them.
        image_rows: `ImageRow`s by data set, or None for no images.
        notes: Paragraphs that stand first in the report: what is not in it.

    Returns:
        The folder's path.

    Raises:
        OSError: If the folder cannot be written.
    """
    from tfpurify.records import write_records

    folder = require_writable(folder)
    write_records(folder / "records.jsonl", records)
    figure_rates(records, folder / "rates.png")
    figures = [("Attack success rates beside the study's", "rates.png")]
    for dataset, rows in (image_rows or {}).items():
        name = f"images_{dataset}.png"
        figure_images(rows, folder / name)
        figures.append((f"{display(dataset)}: predicted class and confidence", name))
    blocks = [
        "# How much a purifier protects, and what it costs",
        *(f"```\n{note}\n```" for note in notes),
        tables_markdown(records),
        *(f"![{title}]({name})" for title, name in figures),
        _origin(records),
    ]
    _write(folder / "report.md", "\n\n".join(blocks) + "\n")
    return folder


def _origin(records):
    versions = ", ".join(f"{name} {value}" for name, value in records[0]["versions"].items())
    commands = sorted({record["command"] for record in records})
    return "\n".join(["Made by:", *(f"- `{command}`" for command in commands), "", versions])


def update_records(path, records):
    """Puts records into a file in place of older ones of the same measurement; the rest stays."""
    from tfpurify.records import read_records, write_records

    path = Path(path)
    found = {_identity(record): record for record in read_records(path)} if path.exists() else {}
    found |= {_identity(record): record for record in records}
    write_records(path, found.values())


def _identity(record):
    return tuple(record[key] for key in _IDENTITY)


def readme_with_results(text, records):
    """Returns a README's text with its results made from the records.

    Args:
        text: Holds the two marker lines, each once.
        records: Records as `tfpurify.records.make_record` makes them.

    Raises:
        ValueError: If the markers are not there, each once and in order.
    """
    before, start, rest = text.partition(_START)
    _, end, after = rest.partition(_END)
    if not (start and end) or any(
        mark in part for mark in (_START, _END) for part in (before, after)
    ):
        raise ValueError(f"The README must hold `{_START}` and `{_END}`, once each, in this order")
    return f"{before}{start}\n{tables_markdown(records)}\n{end}{after}"


def _write(path, text):
    aside = path.with_name(f".{path.name}")
    try:
        aside.write_text(text, encoding="utf-8")
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def update_readme(readme, records_path, is_check=False):
    """Writes a README's results, or only compares them; returns the exit status."""
    from tfpurify.records import read_records

    readme = Path(readme)
    text = readme.read_text(encoding="utf-8")
    expected = readme_with_results(text, read_records(records_path))
    if text == expected:
        return 0
    if is_check:
        print(f"error: the results in {readme} are not those of {records_path}", file=sys.stderr)
        return 1
    _write(readme, expected)
    return 0


def main():
    """Updates or checks a README's results from the command line."""
    from absl import app, flags

    readme = flags.DEFINE_string("readme", "README.md", "File whose results are updated.")
    records = flags.DEFINE_string("records", _RECORDS, "JSON lines file with the records.")
    check = flags.DEFINE_bool(
        "check", False, "Whether to change nothing, and exit 1 if they differ."
    )

    def update(argv):
        try:
            if len(argv) > 1:
                raise ValueError(f"Arguments must be flags. Received: {' '.join(argv[1:])}")
            return update_readme(readme.value, records.value, check.value)
        except (ValueError, OSError) as error:
            print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
            return 1

    app.run(update)


if __name__ == "__main__":
    main()
