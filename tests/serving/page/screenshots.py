"""Take the pictures of the web page in docs/images again.

    python -m tests.serving.page.screenshots demo/chat.safetensors demo/base.safetensors

The seed is fixed: the same checkpoints give the same pictures, up to the speed in their footers.
"""

import io
import sys
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from tests.serving.conftest import serving
from tests.serving.page.browser import DESKTOP, PHONE, Browser, open_browser

FOLDER = Path(__file__).parents[3] / "docs" / "images"
SEED = "11"


def main(*checkpoints: str) -> None:
    """Take every picture."""
    FOLDER.mkdir(exist_ok=True)
    with serving(*checkpoints) as server, open_browser() as browser:
        for name, scene in SCENES.items():
            size = PHONE if "phone" in name else DESKTOP
            browser.open_ready(server.url, size=size, dark="dark" in name)
            _set_seed(browser)
            scene(browser)
            browser.until(lambda: not browser.find_all(".is-writing"))
            path = FOLDER / f"{name}.png"
            _save(browser.driver.get_screenshot_as_png(), path)
            print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


def _save(png: bytes, path: Path) -> None:
    """Write a picture with a palette: a third of the size, and no difference to the eye."""
    Image.open(io.BytesIO(png)).convert("RGB").quantize(256).save(path, optimize=True)


def _set_seed(browser: Browser) -> None:
    """Fill a field that a phone shows in a dialog only."""
    browser.script(
        """const field = document.getElementById("seed");
        field.value = arguments[0];
        field.dispatchEvent(new Event("input"));""",
        SEED,
    )


def _chat(browser: Browser) -> None:
    browser.say("Where does a rabbit live?")
    browser.say("Write a story with the words: fox, jump, happy.")
    browser.script("document.activeElement.blur()")


def _odds(browser: Browser) -> None:
    browser.say("Write a story with the words: fox, jump, happy.")
    browser.click("[data-action=odds]")
    browser.find(".tokens .surprising, .tokens .daring").click()


def _compare(browser: Browser) -> None:
    browser.click("#compare")
    browser.say("Tell me a story about a fox.")
    browser.script("document.activeElement.blur()")


def _story(browser: Browser) -> None:
    browser.click("[value=story] + span")
    for field, word in (("noun", "dragon"), ("verb", "bake"), ("adjective", "shy")):
        browser.find(f"#story-{field}").clear()
        browser.find(f"#story-{field}").send_keys(word)
    browser.click("label:has(#feature-dialogue)")
    browser.click("label:has(#feature-moral_value)")
    browser.click("#story-form [data-send]")
    browser.wait_for_the_end()
    browser.script("document.activeElement.blur()")


SCENES: dict[str, Callable[[Browser], None]] = {
    "page-chat-light": _chat,
    "page-compare-dark": _compare,
    "page-odds-light": _odds,
    "page-chat-phone-dark": _chat,
    "page-odds-phone-dark": _odds,
    "page-story-phone-light": _story,
}

if __name__ == "__main__":
    main(*sys.argv[1:])
