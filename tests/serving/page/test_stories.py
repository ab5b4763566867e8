"""Words and features that become a request for a story."""

from selenium.webdriver.remote.webelement import WebElement

from tests.serving.page.browser import CHAT, TEXT, Browser
from tinyllm.providers.grammar.vocabulary import load_vocabulary
from tinyllm.quickstart.corpus import ask_for_story


def test_a_story_is_asked_for_in_the_words_of_the_demo(page: Browser) -> None:
    page.say("Hello")
    page.click("[value=story] + span")
    for field, word in (("noun", "fox"), ("verb", "jump"), ("adjective", "happy")):
        page.find(f"#story-{field}").clear()
        page.find(f"#story-{field}").send_keys(word)
    page.click("label:has(#feature-dialogue)")
    page.click("label:has(#feature-bad_ending)")
    wanted = ask_for_story(("fox", "jump", "happy"), ["dialogue", "bad_ending"])
    assert page.text("#story-preview") == wanted
    page.click("#story-form [data-send]")
    page.until(lambda: len(page.bodies(CHAT)) == 2)
    page.wait_for_the_end()
    assert page.bodies(CHAT)[1]["messages"] == [{"role": "user", "content": wanted}]


def test_every_feature_is_named_as_in_training(page: Browser) -> None:
    page.click("[value=story] + span")
    names = [box.get_attribute("id").removeprefix("feature-") for box in _boxes(page)]
    for box in _boxes(page):
        page.click(f"label:has(#{box.get_attribute('id')})")
    words = [page.find(f"#story-{w}").get_property("value") for w in ("noun", "verb", "adjective")]
    assert page.text("#story-preview") == ask_for_story((words[0], words[1], words[2]), names)


def _boxes(page: Browser) -> list[WebElement]:
    return page.find_all("#story-features input")


def test_the_dice_draw_words_that_the_demo_knows(page: Browser) -> None:
    lists = page.script(
        """const words = await import("/static/words.js");
        return [words.NOUNS, words.VERBS, words.ADJECTIVES];"""
    )
    known = load_vocabulary()
    for drawn, vocabulary in zip(lists, (known.nouns, known.verbs, known.adjectives), strict=True):
        assert len(set(drawn)) == 60
        assert set(drawn) <= set(vocabulary)
    page.click("[value=story] + span")
    before = page.text("#story-preview")
    page.click("#dice")
    assert page.text("#story-preview") != before
    assert page.find("#story-noun").get_property("value") in lists[0]


def test_a_model_that_continues_text_gets_the_beginning_of_a_story(page: Browser) -> None:
    page.choose("#model", "plain")
    page.click("[value=story] + span")
    page.click("#story-form [data-send]")
    page.wait_for_the_end()
    assert page.bodies(TEXT)[0]["prompt"].startswith("Once upon a time, there was a")
    assert not any(box.is_enabled() for box in _boxes(page))
