"""One HTML file holds what Markdown links, and no text becomes markup."""

import html.parser
import re

import pytest

from tfpurify.report import page

PNG = b"\x89PNG\r\n\x1a\n0000"


@pytest.fixture
def blocks(tmp_path):
    (tmp_path / "figure.png").write_bytes(PNG)
    return [
        page.Heading("Results"),
        page.Paragraph("a < b & `code <x>`"),
        page.Listing(("one", "two")),
        page.Listing(("python -m x --a=1",), is_code=True),
        page.Code("<pre> & so on"),
        page.Table("Table 1", ("Data", "ASR"), (("MNIST", "9 < 10"), ("CIFAR", "1"))),
        page.Picture(tmp_path / "figure.png", 'A "figure"', is_wide=True),
    ]


class Checker(html.parser.HTMLParser):
    """Collects what a browser would load, and that every element is closed."""

    def __init__(self):
        super().__init__()
        self.open, self.sources, self.text = [], [], ""

    def handle_starttag(self, tag, attributes):
        self.sources += [v for k, v in attributes if k in ("src", "href") and v[0] != "#"]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_the_page_is_whole_and_needs_no_other_file(blocks):
    text = page.page("How much <it> costs", blocks)
    checker = Checker()
    checker.feed(text)
    assert checker.open == []
    assert len(checker.sources) == 1 and checker.sources[0].startswith("data:image/png;base64,")
    assert not re.search(r"https?://", text)
    for words in ("How much <it> costs", "a < b & ", "code <x>", "<pre> & so on", "9 < 10"):
        assert words in checker.text
    assert 'name="viewport"' in text and '<a href="#results">' in text


def test_a_rates_interval_stands_small_below_it_and_a_bar_beside():
    table = page.Table("T", ("Data", "ASR"), (("MNIST", "17.2 [15.0, 19.7] (n=1000) †"),), (1,))
    text = page.page("Title", [table])
    assert '<td>17.2 †<span class="bar" style="width:17.2%">' in text
    assert "<small>[15.0, 19.7] (n=1000)</small>" in text


def test_markdown_says_the_same(blocks):
    text = page.markdown(blocks)
    assert "## Results" in text and "| MNIST | 9 < 10 |" in text and "- `python -m x --a=1`" in text
    assert '![A "figure"](figure.png)' in text
    assert text.index("**Table 1**") < text.index("| Data | ASR |") < text.index("| --- | --- |")
