"""The page for everyone: any width, any theme, by keyboard, by screen reader."""

import re

import pytest
from selenium.webdriver.common.keys import Keys

from tests.serving.page.browser import PHONE, SMALL_PHONE, Browser

VIEWS = ("welcome", "chat", "odds", "compare", "story", "settings")


WIDE, TABLET = (2560, 1440), (768, 1024)


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_is_read_in_both_themes_fits_every_window_and_names_its_controls(
    page: Browser, view: str
) -> None:
    _show(page, view)
    for dark in (False, True):
        page.media(dark=dark, still=True)  # a colour on its way is neither of the two
        page.until(lambda: page.script("return !document.getAnimations().length"))
        n_texts, weak = page.script(CONTRASTS)
        assert n_texts > 10
        assert weak == [], f"dark: {dark}"
    for size in (WIDE, TABLET, PHONE, SMALL_PHONE):
        page.resize(size)
        if view == "settings":
            _show_settings(page)
        assert page.overflow() <= 0, size
        assert page.script(OUTSIDE) == [], size
    nodes = page.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    controls = [n for n in nodes if not n["ignored"] and n["role"]["value"] in CONTROLS]
    nameless = [n for n in controls if not n.get("name", {}).get("value", "").strip()]
    assert len(controls) >= 5
    assert nameless == []


def _show(page: Browser, view: str) -> None:
    """Bring the page to one of its views."""
    if view == "compare":
        page.click("#compare")
    if view in ("chat", "odds", "compare"):
        page.say("An extraordinarilylongword" + "xyz" * 60)
    if view == "odds":
        page.click("[data-action=odds]")
    if view == "story":
        page.click("[value=story] + span")
    if view == "settings":
        _show_settings(page)


def _show_settings(page: Browser) -> None:
    """Open the settings where they do not stand beside the conversation already."""
    if not page.sees("#setting-temperature"):
        page.click("#open-settings")
        page.until(lambda: page.sees("#setting-temperature"))


OUTSIDE = """
return [...document.querySelectorAll("body *")]
  .filter((e) => e.checkVisibility() && !e.closest(".unseen, .skip"))
  .map((e) => [e.tagName, e.id, e.className, e.getBoundingClientRect()])
  .filter(([, , , r]) => r.width && (r.left < -0.5 || r.right > innerWidth + 0.5))
  .map(([tag, id, name]) => `${tag} ${id} ${name}`);
"""

CONTROLS = {
    "button", "checkbox", "combobox", "link", "listbox", "option", "radio", "slider",
    "spinbutton", "textbox",
}  # fmt: skip

CONTRASTS = """
const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
const pixel = (color) => {
  canvas.clearRect(0, 0, 1, 1);
  canvas.fillStyle = color;
  canvas.fillRect(0, 0, 1, 1);
  return [...canvas.getImageData(0, 0, 1, 1).data];
};
const ground = (element) => {
  for (let e = element; e; e = e.parentElement) {
    const color = pixel(getComputedStyle(e).backgroundColor);
    if (color[3] === 255) return color;
  }
  return [255, 255, 255, 255];
};
const luminance = (color) => color.slice(0, 3)
  .map((c) => c / 255)
  .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
  .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
const contrast = (a, b) => {
  const [low, high] = [luminance(a), luminance(b)].sort((x, y) => x - y);
  return (high + 0.05) / (low + 0.05);
};
const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
const weak = [];
let n = 0;
while (texts.nextNode()) {
  const element = texts.currentNode.parentElement;
  if (!texts.currentNode.data.trim()) continue;
  if (!element.checkVisibility({ visibilityProperty: true })) continue;
  if (element.closest(".unseen, noscript, option, :disabled")) continue;
  n += 1;
  const ratio = contrast(pixel(getComputedStyle(element).color), ground(element));
  if (ratio < 4.5) weak.push([texts.currentNode.data, ratio]);
}
return [n, weak];
"""


def test_the_page_has_landmarks_and_a_language(page: Browser) -> None:
    nodes = page.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    roles = {n["role"]["value"] for n in nodes if not n["ignored"]}
    assert {"banner", "main", "navigation", "complementary", "status"} <= roles
    assert page.find("html").get_attribute("lang") == "en"
    assert len(page.find_all("h1")) == 1
    ids = page.script("return [...document.querySelectorAll('[id]')].map((e) => e.id)")
    assert len(ids) == len(set(ids))


def test_a_screen_reader_hears_a_reply_once_when_it_is_whole(page: Browser) -> None:
    page.script(
        """globalThis.heard = [];
        new MutationObserver(() => heard.push(document.getElementById("announcer").textContent))
          .observe(document.getElementById("announcer"), { childList: true });"""
    )
    reply = page.say("Hello")
    page.until(lambda: len(page.script("return heard")) >= 2)
    assert page.script("return heard") == ["The model is writing.", f"chatty says: {reply}"]
    assert not page.find_all("main [aria-live]:not([aria-live=off])")


def test_the_keyboard_reaches_everything_and_its_place_is_seen(page: Browser) -> None:
    page.say("Hello")
    page.click("[data-action=odds]")
    page.script("document.body.tabIndex = -1; document.body.focus()")
    reached = []
    for _ in range(60):
        page.press(Keys.TAB)
        focused = page.driver.switch_to.active_element
        if focused.tag_name == "body":
            break
        style = page.script(
            """const e = document.activeElement;
            const shown = e.matches("[name=mode]") ? e.nextElementSibling : e.closest(".chip") ?? e;
            const style = getComputedStyle(shown);
            const name = e.id || e.dataset.action || e.className;
            return [name, style.outlineStyle, style.outlineWidth];"""
        )
        assert style[1:] == ["solid", "3px"], style
        reached.append(style[0])
    assert reached[0] == "skip"
    wanted = {"new-conversation", "theme", "model", "compare", "edit", "copy", "retry", "odds"}
    wanted |= {"message", "setting-temperature", "setting-top_p", "setting-max_tokens", "seed"}
    assert wanted <= set(reached), wanted - set(reached)
    assert any("token" in name for name in reached)


def test_the_theme_follows_the_system_until_it_is_chosen(page: Browser) -> None:
    def ground() -> str:
        return page.find("body").value_of_css_property("background-color")

    light = ground()
    page.media(dark=True)
    dark = ground()
    assert light != dark
    page.click("#theme")
    assert ground() == light
    page.reload()
    assert ground() == light
    assert page.find("#theme").accessible_name == "Switch to the dark theme"


def test_nothing_moves_for_those_who_asked_for_that(page: Browser) -> None:
    page.choose("#model", "endless")
    page.send("Tell me everything.")
    page.until(page.reply)
    assert page.find(".caret").value_of_css_property("animation-name") == "breathe"
    page.media(still=True)
    assert page.find(".caret").value_of_css_property("animation-name") == "none"
    moving = page.script("return document.getAnimations().length")
    assert moving == 0
    page.press(Keys.ESCAPE)
    page.wait_for_the_end()


def test_the_page_needs_no_inline_script_or_style(page: Browser) -> None:
    source = page.script("return (await fetch('/')).text()")
    assert "style=" not in source
    assert "<style" not in source
    assert re.findall(r"<script(?![^>]*\bsrc=)", source) == []
    assert not re.search(r"\son\w+=", source)
    assert not page.find_all("link[href^=http], script[src^=http]")
