"""A report reads the same as Markdown and as a page, whatever a model wrote."""

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyllm.charts import Bar, bar_chart
from tinyllm.evaluation.pages import (
    Bullets,
    Code,
    Heading,
    Paragraph,
    Picture,
    SideBySide,
    Table,
    as_html,
    as_markdown,
)


class Page(HTMLParser):
    """What a browser would make of a page: its tags, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.texts.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture
def folder(tmp_path):
    bar_chart(tmp_path / "chart.png", [Bar("a", 1.0)], y="n")
    return tmp_path


def test_a_page_needs_nothing_but_itself(folder):
    text = as_html("a", [Picture("chart.png", 'what "it" shows')], folder)
    page = Page(text)
    assert page.all("img")[0]["src"].startswith("data:image/png;base64,iVBOR")
    assert page.all("img")[0]["alt"] == 'what "it" shows'
    assert not page.all("link")
    assert not page.all("script")
    assert "http" not in text.replace("data:image", "")
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.all(
        "meta"
    )


def test_a_table_says_what_it_holds_and_what_its_rows_are(folder):
    table = Table("Scores", ("", "base"), [("loss", "1.2"), ("grade", "7")])
    page = Page(as_html("a", [table], folder))
    scopes = [attributes.get("scope") for attributes in page.all("th")]
    assert scopes == ["col", "col", "row", "row"]
    assert "Scores" in page.texts
    region = next(a for a in page.all("div") if a.get("class") == "wide")
    assert (region["role"], region["tabindex"], region["aria-label"]) == ("region", "0", "Scores")


@given(st.text(max_size=80))
def test_what_a_model_wrote_is_shown_and_never_read_as_markup(text):
    block = SideBySide("Once", [("base", text)])
    page = Page(as_html("a", [block], None))
    begins = page.texts.index("base")
    known = {"h1", "h3", "h4", "p", "article", "div", "section", "main", "body", "em"}
    assert {tag for tag, _ in page.tags} - known <= {"html", "head", "meta", "title", "style"}
    shown = "".join(page.texts[begins + 1 :])
    assert text.strip("\n").replace("\r\n", "\n").strip() in shown or not text.strip()
    lines = as_markdown("a", [block]).splitlines()
    quoted = lines[lines.index("base:") + 2 :]
    assert all(line.startswith("    ") or not line for line in quoted)


def test_every_block_has_its_place_in_both(folder):
    blocks = [
        Heading("Models"),
        Paragraph("Take `--data`."),
        Bullets(["one", "two"]),
        Code(["tinyllm compare a <b>"]),
        Table("Sizes", ("", "a|b"), [("x", "1")]),
    ]
    markdown = as_markdown("a & b", blocks)
    for part in ("# a & b", "## Models", "Take `--data`.", "- two", "a <b>", r"| a\|b |"):
        assert part in markdown
    texts = Page(as_html("a & b", blocks, folder)).texts
    for part in ("a & b", "Models", "--data", "two", "tinyllm compare a <b>", "a|b"):
        assert part in texts
