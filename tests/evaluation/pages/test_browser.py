"""The page in a real Chromium: phone and desktop, light and dark, without a network."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving.page.browser import DESKTOP, PHONE, Browser, open_browser
from tinyllm.charts import Line, line_chart
from tinyllm.evaluation.pages import Code, Heading, Picture, SideBySide, Table, as_html

LONG = "an_extraordinarily_long_name_" * 8


@pytest.fixture(scope="module")
def window() -> Iterator[Browser]:
    """One Chromium for all tests here."""
    with open_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with everything that could be too wide."""
    folder = tmp_path_factory.mktemp("page")
    line_chart(folder / "loss.png", [Line("a", [(1, 2.0), (2, 1.0)])], x="step", y="loss")
    header = ("", *(f"model {i}" for i in range(12)))
    blocks = [
        Heading(LONG),
        Table("A wide table", header, [("loss", *["1.2345"] * 12), (LONG, *["2"] * 12)]),
        Picture("loss.png", "a curve"),
        SideBySide("Once upon a time", [("base", LONG), ("chat", "and\n\nthen")]),
        Code([f"tinyllm compare {LONG}"]),
    ]
    path = folder / "results.html"
    path.write_text(as_html(LONG, blocks, folder), encoding="utf-8")
    return path


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("size", [PHONE, DESKTOP])
def test_the_page_fits_and_asks_nobody_for_anything(window, page, size, dark):
    window.resize(size)
    window.media(dark=dark)
    window.driver.get("about:blank")
    window.complaints()
    window.requests().clear()
    window.driver.get(page.as_uri())
    assert window.overflow() <= 0
    assert window.complaints() == []
    asked = {request["url"].partition(":")[0] for request in window.requests()}
    assert asked <= {"file", "data"}
    assert window.script("return document.images[0].naturalWidth") > 0
    paper, ink = window.script(
        "const s = getComputedStyle(document.body); return [s.backgroundColor, s.color]"
    )
    assert (_brightness(paper) < _brightness(ink)) == dark


def test_a_wide_table_can_be_scrolled_by_keyboard(window, page):
    window.resize(PHONE)
    window.driver.get(page.as_uri())
    reached = window.script(
        """const table = document.querySelector(".wide");
        table.focus();
        return document.activeElement === table && table.scrollWidth > table.clientWidth;"""
    )
    assert reached


def _brightness(color: str) -> int:
    numbers = color.removeprefix("rgb(").rstrip(")").split(",")
    return sum(int(number) for number in numbers)
