"""How likely each token of a reply was."""

import re

import pytest
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from tests.serving.page.browser import Browser

BROKEN = "�"
"""What stands for bytes that are no character; a text that is cut inside one leaves them out."""


def _shown(tokens: list[WebElement]) -> str:
    return "".join(str(token.get_property("textContent")) for token in tokens).rstrip(BROKEN)


def test_each_token_tells_its_odds_to_pointer_and_keyboard(page: Browser) -> None:
    reply = page.say("How sure are you?")
    page.click("[data-action=odds]")
    tokens = page.find_all("[role=option]")
    assert _shown(tokens) == reply.rstrip(BROKEN)
    start = next(i for i, token in enumerate(tokens) if token.rect["width"] > 1)
    page.click_on(tokens[start])
    first = page.text(".odds-panel")
    assert first.count("%") >= 5
    assert first.count("chosen") == 1
    page.press(Keys.ARROW_RIGHT)
    assert page.driver.switch_to.active_element == tokens[start + 1]
    assert page.text(".odds-panel") != first
    page.press(Keys.END)
    assert page.driver.switch_to.active_element == tokens[-1]
    assert [token.get_attribute("tabindex") for token in tokens].count("0") == 1
    label = tokens[-1].accessible_name
    assert re.fullmatch(r".+, (< )?[\d.]+ %\. Instead: .+", label), label


def test_odds_are_marked_without_colour_too(page: Browser) -> None:
    page.say("How sure are you?")
    page.click("[data-action=odds]")
    marks = page.find_all(".odds-legend .token")
    lines = {mark.value_of_css_property("text-decoration-style") for mark in marks}
    kinds = {mark.value_of_css_property("text-decoration-line") for mark in marks}
    assert lines >= {"dotted", "dashed", "solid", "double"}
    assert kinds == {"none", "underline"}


@pytest.mark.parametrize("model", ["chatty", "plain"])
def test_the_tokens_make_up_the_reply_whatever_their_bytes(page: Browser, model: str) -> None:
    """At this temperature both models write bytes that are no character, and parts of some."""
    page.choose("#model", model)
    page.find("#setting-temperature").send_keys(Keys.END)
    page.find("#setting-max_tokens").send_keys(Keys.END)
    page.find("#seed").send_keys("3")
    page.say("Hello")
    reply = page.text(".reply .words").removeprefix("Hello" if model == "plain" else "")
    page.click("[data-action=odds]")
    assert _shown(page.find_all("[role=option]")) == reply.rstrip(BROKEN)


def test_odds_outlast_a_reload(page: Browser) -> None:
    reply = page.say("How sure are you?")
    page.reload()
    page.click("[data-action=odds]")
    assert _shown(page.find_all("[role=option]")) == reply.rstrip(BROKEN)


def test_a_character_of_several_tokens_is_shown_whole(page: Browser) -> None:
    pieces = page.script(
        """const { wholeCharacters } = await import("/static/odds.js");
        const token = (bytes) => ({ token: "�", bytes, logprob: -1, top: [] });
        const globe = [...new TextEncoder().encode("🌍")];
        const cut = [[32, globe[0]], globe.slice(1, 3), [globe[3], 33]];
        const odds = [...cut, [97], [0xff], [98], [globe[0]]].map(token);
        return wholeCharacters(odds)
          .map(({ text, logprob, nTokens }) => [text, logprob, nTokens]);"""
    )
    assert pieces == [[" 🌍!", -3, 3], ["a", -1, 1], [BROKEN, -1, 1], ["b", -1, 1], [BROKEN, -1, 1]]
