"""A page of headings, paragraphs, lists, tables and pictures, as Markdown and as one HTML file."""

import base64
import dataclasses
import html
import re
from pathlib import Path

# A rate, its interval and n, and what stands behind them.
_RATE = re.compile(r"(\d+\.\d) (\[.*?\] \(n=\d+\))(.*)")
_STYLE = """
:root { color-scheme: light dark; --line: #d0d4da; --soft: #f4f6f8; --text: #1d2127; --dim: #5b636e;
  --page: #ffffff; --link: #1f5fa8; }
@media (prefers-color-scheme: dark) { :root { --line: #3a4048; --soft: #20242a; --text: #e4e7eb;
  --dim: #a2aab4; --page: #15181c; --link: #7fb2ee; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 70rem; background: var(--page);
  color: var(--text); font: 16px/1.55 system-ui, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 1rem; }
h2 { font-size: 1.25rem; margin: 2.6rem 0 .6rem; padding-top: .8rem;
  border-top: 1px solid var(--line); }
p, li { max-width: 46rem; overflow-wrap: anywhere; }
li { margin: .25rem 0; }
nav ul { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; }
a { color: var(--link); }
.table { overflow-x: auto; margin: .8rem 0 1.4rem; border: 1px solid var(--line);
  border-radius: 4px; padding: 0 .4rem; }
table { border-collapse: collapse; font-size: .86rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding: .3rem 0; }
th, td { text-align: left; vertical-align: top; padding: .35rem .6rem; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
td small { display: block; color: var(--dim); font-size: .78em; line-height: 1.3; }
.bar { display: block; height: .35rem; margin: .15rem 0; background: var(--link); opacity: .7; }
th { background: var(--soft); }
tbody th { font-weight: 500; background: none; }
figure { margin: 1rem 0 1.6rem; overflow-x: auto; }
figure img { max-width: 100%; height: auto; background: #fff; border-radius: 4px; }
figcaption { color: var(--dim); font-size: .9rem; max-width: 46rem; position: sticky; left: 0; }
code { font: .86em ui-monospace, Menlo, Consolas, monospace; overflow-wrap: anywhere; }
pre { background: var(--soft); padding: .7rem; overflow-x: auto; border-radius: 4px; }
@media (max-width: 42rem) {
  figure.wide img { max-width: none; }
  caption { position: sticky; left: 0; max-width: calc(100vw - 2rem); }
}
"""


@dataclasses.dataclass(frozen=True)
class Heading:
    """A section's title."""

    text: str


@dataclasses.dataclass(frozen=True)
class Paragraph:
    """Running text."""

    text: str


@dataclasses.dataclass(frozen=True)
class Listing:
    """A list of lines; as code if they are commands."""

    lines: tuple
    is_code: bool = False


@dataclasses.dataclass(frozen=True)
class Code:
    """Preformatted text."""

    text: str


@dataclasses.dataclass(frozen=True)
class Table:
    """A table; the first column names its rows.

    Args:
        title: Stands above it.
        header: Names of the columns.
        rows: Tuples of text.
        bars: Places of the columns whose rates, in per cent, are drawn as bars on a page.
    """

    title: str
    header: tuple
    rows: tuple
    bars: tuple = ()


@dataclasses.dataclass(frozen=True)
class Picture:
    """A PNG file.

    Args:
        path: The file.
        title: What it shows.
        is_wide: Whether a narrow window scrolls it instead of shrinking it.
    """

    path: Path
    title: str
    is_wide: bool = False


def markdown(blocks):
    """Returns blocks as Markdown; pictures are links to files beside it."""
    return "\n\n".join(_MARKDOWN[type(block)](block) for block in blocks)


def _line(cells):
    return f"| {' | '.join(cells)} |"


def _markdown_table(table):
    lines = [_line(table.header), _line(["---"] * len(table.header)), *map(_line, table.rows)]
    return f"**{table.title}**\n\n" + "\n".join(lines)


_MARKDOWN = {
    Heading: lambda block: f"## {block.text}",
    Paragraph: lambda block: block.text,
    Listing: lambda block: "\n".join(
        f"- `{line}`" if block.is_code else f"- {line}" for line in block.lines
    ),
    Code: lambda block: f"```\n{block.text}\n```",
    Table: _markdown_table,
    Picture: lambda block: f"![{block.title}]({Path(block.path).name})",
}


def page(title, blocks):
    """Returns one HTML page that needs no other file: style and pictures are in it."""
    headings = [block.text for block in blocks if isinstance(block, Heading)]
    links = "".join(f'<li><a href="#{_anchor(text)}">{_text(text)}</a></li>' for text in headings)
    body = "\n".join(_HTML[type(block)](block) for block in blocks)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_text(title)}</title><style>{_STYLE}</style></head>\n<body>\n"
        f"<h1>{_text(title)}</h1>\n<nav><ul>{links}</ul></nav>\n{body}\n</body></html>\n"
    )


def _text(text):
    """Escapes text and turns `code` into code."""
    parts = html.escape(text, quote=False).split("`")
    if len(parts) % 2 == 0:
        return "`".join(parts)
    return "".join(f"<code>{part}</code>" if i % 2 else part for i, part in enumerate(parts))


def _anchor(text):
    return "".join(letter if letter.isalnum() else "-" for letter in text.lower())


def _html_listing(block):
    lines = (f"`{line}`" if block.is_code else line for line in block.lines)
    return f"<ul>{''.join(f'<li>{_text(line)}</li>' for line in lines)}</ul>"


def _html_table(table):
    header = "".join(f'<th scope="col">{_text(cell)}</th>' for cell in table.header)
    rows = "".join(
        f'<tr><th scope="row">{_text(row[0])}</th>'
        + "".join(_html_cell(cell, place in table.bars) for place, cell in enumerate(row) if place)
        + "</tr>"
        for row in table.rows
    )
    return (
        f'<div class="table"><table><caption>{_text(table.title)}</caption>'
        f"<thead><tr>{header}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _html_cell(cell, has_bar):
    """Returns a cell; of a rate the interval and n stand small below it."""
    rate = _RATE.fullmatch(cell)
    if rate is None:
        return f"<td>{_text(cell)}</td>"
    number, details, rest = rate.groups()
    bar = f'<span class="bar" style="width:{number}%"></span>' if has_bar else ""
    return f"<td>{number}{_text(rest)}{bar}<small>{_text(details)}</small></td>"


def _html_picture(block):
    encoded = base64.b64encode(Path(block.path).read_bytes()).decode()
    wide = ' class="wide"' if block.is_wide else ""
    return (
        f'<figure{wide}><img alt="{html.escape(block.title)}" '
        f'src="data:image/png;base64,{encoded}"><figcaption>{_text(block.title)}</figcaption>'
        "</figure>"
    )


_HTML = {
    Heading: lambda block: f'<h2 id="{_anchor(block.text)}">{_text(block.text)}</h2>',
    Paragraph: lambda block: f"<p>{_text(block.text)}</p>",
    Listing: _html_listing,
    Code: lambda block: f"<pre>{html.escape(block.text)}</pre>",
    Table: _html_table,
    Picture: _html_picture,
}
