"""Sliders and other settings, and what outlasts a reload."""

import pytest
from selenium.webdriver.common.keys import Keys

from tests.serving.page.browser import CHAT, PHONE, Browser


def test_sliders_show_the_models_own_defaults_and_send_nothing_until_moved(page: Browser) -> None:
    assert page.text("output[for=setting-temperature]") == "0.60"
    assert page.text("output[for=setting-max_tokens]") == "30 tokens"
    page.say("Hello")
    assert not {"temperature", "top_p", "max_tokens"} & page.bodies(CHAT)[0].keys()
    page.choose("#model", "endless")
    assert page.text("output[for=setting-max_tokens]") == "as long as fits"


def test_moved_sliders_are_sent_and_can_be_put_back(page: Browser) -> None:
    page.find("#setting-temperature").send_keys(Keys.HOME)
    page.find("#setting-top_p").send_keys(Keys.END, Keys.ARROW_LEFT)
    page.find("#setting-max_tokens").send_keys(Keys.HOME, *[Keys.ARROW_RIGHT] * 4)
    page.find("#system").send_keys("Be kind.")
    first = page.say("Hello")
    body = page.bodies(CHAT)[-1]
    assert (body["temperature"], body["top_p"], body["max_tokens"]) == (0, 0.99, 5)
    assert body["messages"][0] == {"role": "system", "content": "Be kind."}
    assert page.text("output[for=setting-max_tokens]") == "5 tokens"
    assert page.text(".facts").startswith("5 tokens")
    page.click("#new-conversation")
    assert page.say("Hello") == first  # temperature 0 leaves nothing to chance
    page.click("[aria-label^='Reset Temperature']")
    assert page.text("output[for=setting-temperature]") == "0.60"
    page.say("Hello")
    assert "temperature" not in page.bodies(CHAT)[-1]
    page.click("#reset-settings")
    page.say("Hello")
    assert not {"temperature", "top_p", "max_tokens"} & page.bodies(CHAT)[-1].keys()


def test_settings_open_over_the_page_on_a_phone(page: Browser) -> None:
    page.resize(PHONE)
    assert not page.sees("#setting-temperature")
    page.click("#open-settings")
    page.find("#setting-temperature").send_keys(Keys.END)
    page.press(Keys.ESCAPE)
    page.until(lambda: not page.sees("#setting-temperature"))
    page.say("Hello")
    assert page.bodies(CHAT)[0]["temperature"] == 2


def test_a_reload_finds_conversation_settings_and_models(page: Browser) -> None:
    page.choose("#model", "endless")
    page.click("#compare")
    page.choose("#second-model", "plain")
    page.find("#setting-max_tokens").send_keys(Keys.HOME, *[Keys.ARROW_RIGHT] * 6)
    page.find("#seed").send_keys("5")
    page.say("Keep this")
    said = page.reply(0), page.reply(1)
    page.find("#message").send_keys("half a thou")
    page.reload()
    assert (page.reply(0), page.reply(1)) == said
    assert page.text("output[for=setting-max_tokens]") == "7 tokens"
    assert page.find("#seed").get_property("value") == "5"
    assert page.find("#message").get_property("value") == "half a thou"
    chosen = [page.find(name).get_property("value") for name in ("#model", "#second-model")]
    assert chosen == ["endless", "plain"]
    page.find("#message").clear()
    page.say("And go on")
    assert page.bodies(CHAT)[-1]["messages"][0]["content"] == "Keep this"


def test_a_reload_in_the_middle_of_a_reply_keeps_what_had_come(page: Browser) -> None:
    page.choose("#model", "endless")
    page.send("Tell me everything.")
    page.until(page.reply)
    page.reload()
    assert page.reply()
    assert page.text(".why") == "Stopped."


@pytest.mark.parametrize("kept", ["{", "null", "[1]", '{"turns": [1, {"text": 2}], "settings": 3}'])
def test_nonsense_in_the_storage_is_no_obstacle(page: Browser, kept: str) -> None:
    page.open_ready(page.origin, remembers=kept)
    assert page.say("Hello")


def test_a_browser_that_keeps_nothing_is_told_of(page: Browser) -> None:
    page.script("Storage.prototype.setItem = () => { throw new Error('full') }")
    assert page.say("Hello")
    page.until(lambda: page.sees("#storage-notice"))
