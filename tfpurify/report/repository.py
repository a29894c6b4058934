"""What the repository shows of the zoo's records: README, RESULTS.md, figure, cards."""

import functools
import hashlib
import sys
from pathlib import Path

from tfpurify.evaluation.detection import DETECTION_FILE, read_detection
from tfpurify.evaluation.diagnostics import ATTACKS_FILE, read_diagnostics
from tfpurify.evaluation.distances import DISTANCES_FILE, read_distances
from tfpurify.evaluation.frontier import read_frontier, read_speed
from tfpurify.files import write_aside
from tfpurify.report import page
from tfpurify.report.cards import cards
from tfpurify.report.figures import figure_rates, origin_of
from tfpurify.report.further_tables import Beside
from tfpurify.report.overview import overview_table
from tfpurify.report.tables import results_markdown

RATES, RESULTS = "rates.png", "RESULTS.md"
_FRONTIER, _SPEED = "frontier.jsonl", "speed.json"
_START, _END = "<!-- results:start -->", "<!-- results:end -->"


def readme_with_results(text, records, distances=()):
    """Returns a README's text with its results made from the records.

    Args:
        text: Holds the two marker lines, each once.
        records: Records as `tfpurify.evaluation.records.make_record` makes them.
        distances: As for `overview_table`.

    Raises:
        ValueError: If the markers are not there, each once and in order.
    """
    if text.count(_START) != 1 or text.count(_END) != 1 or text.index(_END) < text.index(_START):
        raise ValueError(f"The file must hold `{_START}` and `{_END}`, once each, in this order")
    before, after = text.split(_START)[0], text.split(_END)[1]
    table = page.markdown([overview_table(records, distances)])
    return f"{before}{_START}\n{table}\n{_END}{after}"


def update_readme(readme, records_path, is_check=False):
    """Writes a README's overview, the zoo's RESULTS.md with all tables, its figure and its cards.

    Args:
        readme: File whose results are updated.
        records_path: JSON lines file with the records. The figure, `rates.png`, stands in its
            folder, and the cards of the models there, `NAME.md` each.
        is_check: Whether to compare, and change nothing.

    Returns:
        The exit status: 1 if something differs from the records.
    """
    from tfpurify.evaluation.records import read_records

    readme, folder = Path(readme), Path(records_path).parent
    beside = read_beside(records_path)
    found = read_records(records_path)
    text = readme.read_text(encoding="utf-8")
    texts = {
        readme: readme_with_results(text, found, beside.distances),
        folder / RESULTS: results_markdown(found, beside),
    }
    texts |= {folder / f"{name}.md": text for name, text in cards(folder, found).items()}
    writers = {
        file: functools.partial(write_aside, file, expected)
        for file, expected in texts.items()
        if not file.exists() or file.read_text(encoding="utf-8") != expected
    }
    figure, digest = folder / RATES, hashlib.sha256(Path(records_path).read_bytes()).hexdigest()
    if not figure.exists() or origin_of(figure) != digest:
        writers[figure] = functools.partial(figure_rates, found, figure, digest)
    for file, write in writers.items():
        if is_check:
            print(
                f"error: the results in {file} are not those of {records_path}; "
                "python -m tfpurify.report writes them",
                file=sys.stderr,
            )
            return 1
        write()
    return 0


def read_beside(records_path):
    """Returns what stands in files beside the records."""
    path = Path(records_path).with_name(DISTANCES_FILE)
    return Beside(
        distances=read_distances(path) if path.exists() else (),
        frontier=read_frontier(path.with_name(_FRONTIER)),
        speed=read_speed(path.with_name(_SPEED)),
        diagnostics=read_diagnostics(path.with_name(ATTACKS_FILE)),
        detection=read_detection(path.with_name(DETECTION_FILE)),
    )
