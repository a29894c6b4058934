"""What a purifier buys a classifier: one table, the words to it, and a page with pictures."""

from pathlib import Path

from tfpurify.files import write_aside
from tfpurify.report import page
from tfpurify.report.figures import figure_images
from tfpurify.report.table_rows import rate_text
from tfpurify.vocabulary import display

HEADER = (
    "Purifier",
    "Attack within",
    "Nobody attacks",
    "Attacker does not know it",
    "Attacker knows all",
    "ms an image",
)
_WIDTHS = (30, 13, 26, 26, 26, 11)


def table_rows(protection, milliseconds):
    """Returns the rows of `HEADER`: without a purifier first, then each purifier.

    Args:
        protection: A finished `tfpurify.evaluation.protection.Protection`.
        milliseconds: Time of an image, by purifier's name.
    """
    rows = []
    for epsilon in protection.epsilons:
        for purifier in ("none", *protection.purifiers):
            known = protection.record(purifier, "whitebox", epsilon)
            blind = protection.record(purifier, "blind", epsilon)
            name = "no purifier" if purifier == "none" else display(purifier)
            most = max((known, blind or known), key=lambda record: record["n"])
            clean = most["clean_accuracy" if purifier == "none" else "purified_clean_accuracy"]
            rows.append(
                (
                    name,
                    _in_words(epsilon),
                    rate_text(clean, most["n"]),
                    "-" if blind is None else rate_text(blind["robust_accuracy"], blind["n"]),
                    rate_text(known["robust_accuracy"], known["n"]),
                    f"{milliseconds[purifier]:.1f}",
                )
            )
    return rows


def _in_words(epsilon):
    """Returns a bound as it is printed: as so many of 255, where it is."""
    steps = 255 * epsilon
    return f"{steps:.0f}/255" if abs(steps - round(steps)) < 1e-9 else f"{epsilon:.4g}"


def screen(rows):
    """Returns the table as lines of text."""
    lines = []
    for row in (HEADER, *rows):
        lines.append(
            "  ".join(cell.ljust(width) for cell, width in zip(row, _WIDTHS, strict=True)).rstrip()
        )
    return "\n".join(lines)


def write_page(protection, rows, verdicts, sheets, accuracy, commands):
    """Writes `index.html` and its pictures into the job's folder and returns the page's path.

    Args:
        protection: A finished `Protection`.
        rows: As `table_rows` returns them.
        verdicts: `Verdict`s, one for each purifier and epsilon.
        sheets: Title -> `ImageRow`s.
        accuracy: Of the classifier on validation images.
        commands: Commands that serve the bundles.
    """
    folder = Path(protection.folder)
    blocks = [
        page.Paragraph(
            f"{protection.architecture} is right for {accuracy:.1%} of the validation images of "
            f"{protection.dataset}."
        ),
        page.Heading("What an attacker does, and what a purifier saves"),
        page.Table(
            "Images that are right, in per cent, with 95 % intervals",
            HEADER,
            tuple(rows),
            bars=(2, 3, 4),
        ),
        *[page.Paragraph(verdict.words) for verdict in verdicts],
    ]
    if protection.warnings:
        blocks += [page.Heading("Read with care"), page.Listing(tuple(protection.warnings))]
    blocks.append(page.Heading("What it looks like"))
    for index, (title, image_rows) in enumerate(sheets.items()):
        path = folder / f"sheet{index}.png"
        figure_images(image_rows, path)
        blocks.append(page.Picture(path, title, is_wide=True))
    blocks += [
        page.Heading("How it was measured"),
        page.Paragraph(_method(protection)),
        page.Heading("Serve it"),
        page.Listing(tuple(commands), is_code=True),
    ]
    path = folder / "index.html"
    title = f"{protection.architecture} on {protection.dataset}: what a purifier buys"
    write_aside(path, page.page(title, blocks))
    return path


def _method(protection):
    counts = sorted({record["n"] for record in protection.records})
    images = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    attacks = ", ".join(display(name) for name in protection.attacks)
    return (
        f"On {images} test images, as many as {protection.minutes:g} minutes allowed; n stands "
        "beside each rate. An image counts as right under attack if it is right and none of these "
        f"attacks fools it: {attacks}. AdvGAN is trained against exactly this defence; gradient "
        f"attacks take {protection.num_steps} steps, and cross a purifier by each way that there "
        "is. A blind attacker has the classifier and not the purifier. A "
        "stronger attacker may exist: these figures are what these attacks leave."
    )
