"""`questions.html` in a real browser: it filters, asks the network for nothing, and is safe."""

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.serving.page.browser import DESKTOP, PHONE, open_browser
from tinyllm.evaluation.multiple_choice.cloze import ClozePrediction, summarise_cloze
from tinyllm.evaluation.multiple_choice.page import as_html
from tinyllm.evaluation.multiple_choice.rival import Rival, credits_of
from tinyllm.evaluation.multiple_choice.written import WrittenPrediction, summarise_written
from tinyllm.records import MultipleChoice

HOSTILE = "</script><script>document.title='taken'</script><img src=x onerror=alert(1)> & <b>?"
RESULTS = {
    "title": "Own <questions>",
    "checkpoint": "a&b.safetensors",
    "verdict": "so",
    "contaminated": ["q3"],
}


def predictions(n, picks):
    """Question i is answered rightly where its pick is 0; a pick of None ties all."""
    made = []
    for i in range(n):
        text = HOSTILE if i == 0 else f"What is number {i}?"
        question = MultipleChoice(f"q{i}", text, ("one", "<i>two</i>", "three"), 0)
        pick = picks(i)
        nats = [-1.0 if pick in (c, None) else -9.0 for c in range(3)]
        made.append(ClozePrediction(question, ("a", "b", "c"), nats, [0.0] * 3, [1] * 3))
    return made


def pick_of(i):
    return None if i % 10 == 9 else i % 2


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    cloze = summarise_cloze(predictions(60, pick_of))
    written = summarise_written(
        [WrittenPrediction(p.question, "", None, "none") for p in cloze.predictions], "generate"
    )
    other = Rival(
        "other.jsonl", {"cloze": credits_of(summarise_cloze(predictions(60, lambda i: 0)))}
    )
    path = tmp_path_factory.mktemp("page") / "questions.html"
    path.write_text(as_html(RESULTS, [cloze, written], other), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def driver(page):
    with open_browser() as browser:
        browser.driver.get(page.as_uri())
        yield browser.driver


def resize(driver, size):
    width, height = size
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
    )


def show(driver, kind):
    driver.find_element(By.CSS_SELECTOR, f"input[value='{kind}']").click()
    return driver.find_element(By.ID, "count").text


def badges(driver):
    return [
        span.text
        for span in driver.find_elements(By.CSS_SELECTOR, "#questions h2 span:nth-child(2)")
    ]


def test_nothing_of_a_question_is_taken_for_markup_or_script(driver):
    show(driver, "all")
    assert driver.title == "Own <questions>, question by question"
    first = driver.find_element(By.CSS_SELECTOR, "#questions li")
    assert HOSTILE in first.text
    assert "<i>two</i>" in first.text
    assert not driver.find_elements(By.CSS_SELECTOR, "img, #questions i, #questions b")


def test_the_page_asks_for_nothing_and_complains_of_nothing(driver):
    asked = driver.execute_script("return performance.getEntriesByType('resource').length")
    assert asked == 0
    assert driver.get_log("browser") == []


@pytest.mark.parametrize(
    ("kind", "count", "badge"),
    [
        ("right", "30 of 60", "right"),
        ("wrong", "24 of 60", "wrong"),
        ("tie", "6 of 60", "tie"),
        ("changed", "30 of 60", None),
        ("worse than the other", "30 of 60", None),
        ("better than the other", "No question is like that.", None),
        ("seen in training", "1 of 60", "wrong"),
    ],
)
def test_each_filter_shows_its_questions(driver, kind, count, badge):
    assert show(driver, kind).startswith(count)
    if badge is not None:
        assert set(badges(driver)) == {badge}


def test_words_narrow_the_filter_down(driver):
    show(driver, "all")
    words = driver.find_element(By.ID, "words")
    words.send_keys("NUMBER 5")
    assert driver.find_element(By.ID, "count").text.startswith("11 of 60")  # 5 and 50 to 59
    words.send_keys(Keys.BACKSPACE * 20)
    assert driver.find_element(By.ID, "count").text.startswith("60 of 60")


def test_more_questions_come_by_keyboard_and_the_focus_goes_to_them(driver):
    show(driver, "all")
    assert len(badges(driver)) == 25
    driver.find_element(By.ID, "more").send_keys(Keys.ENTER)
    assert len(badges(driver)) == 50
    assert driver.switch_to.active_element.text.startswith("q25")
    driver.find_element(By.ID, "more").send_keys(Keys.ENTER)
    assert not driver.find_element(By.ID, "more").is_displayed()


def test_every_form_can_be_looked_at(driver):
    form = driver.find_element(By.ID, "form")
    form.send_keys("written")
    assert show(driver, "unmatched").startswith("60 of 60")
    assert driver.find_element(By.ID, "unit").text == ""
    assert "Nothing was written." in driver.find_element(By.ID, "questions").text
    form.send_keys("plain")
    assert show(driver, "all").startswith("60 of 60")
    assert "in nats per character" in driver.find_element(By.ID, "unit").text


@pytest.mark.parametrize("size", [PHONE, DESKTOP])
def test_nothing_is_wider_than_the_window(driver, size):
    resize(driver, size)
    show(driver, "all")
    widths = "return [document.documentElement.scrollWidth, window.innerWidth]"
    content, window = driver.execute_script(widths)
    assert content <= window


def test_every_control_and_table_has_a_name(driver):
    unnamed = """
        const named = (node) => node.labels?.length || node.textContent.trim();
        return [...document.querySelectorAll("input, select, button, th")].filter(
            (node) => !named(node)).length"""
    assert driver.execute_script(unnamed) == 0
    assert driver.find_element(By.ID, "count").get_attribute("role") == "status"
    assert driver.find_element(By.TAG_NAME, "html").get_attribute("lang") == "en"
