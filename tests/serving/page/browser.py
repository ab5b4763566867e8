"""A real Chromium for the tests of the web page, and what a person does in it."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import pytest
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

T = TypeVar("T")
PATIENCE_SECONDS = 20
CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
PHONE, SMALL_PHONE, DESKTOP = (390, 844), (320, 640), (1280, 860)
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_ARGUMENTS = ("--headless=new", "--disable-dev-shm-usage", "--disable-gpu", "--hide-scrollbars")

_FORGET = "localStorage.clear(); sessionStorage.clear();"
_KEEP_NOTHING = "Storage.prototype.setItem = () => {};"


def _remember(kept: str | None) -> str:
    return "" if kept is None else f"localStorage.setItem('tinyllm.page', {json.dumps(kept)});"


@contextmanager
def open_browser() -> Iterator["Browser"]:
    """Start Chromium without a window; skip the test where there is none."""
    binary = next(filter(None, map(shutil.which, _BROWSERS)), None)
    driver_path = shutil.which("chromedriver")
    if binary is None or driver_path is None:
        pytest.skip("needs Chromium and its chromedriver (Debian: chromium, chromium-driver)")
    options = ChromeOptions()
    options.binary_location = binary
    for argument in (*_ARGUMENTS, *(["--no-sandbox"] if os.geteuid() == 0 else [])):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = Chrome(options=options, service=Service(driver_path))
    try:
        yield Browser(driver)
    finally:
        driver.quit()


class Browser:
    """A window on the page of one server."""

    def __init__(self, driver: Chrome) -> None:
        self.driver = driver
        self.origin = ""
        self._requests: list[dict[str, Any]] = []

    # -- the window --------------------------------------------------------------------------

    def open(
        self,
        origin: str,
        *,
        size: tuple[int, int] = DESKTOP,
        dark: bool = False,
        remembers: str | None = None,
    ) -> None:
        """Visit the page for the first time: the storage holds nothing, or what is given here.

        A page that is left saves what it holds, and on a busy machine does so after the next page
        has begun: it is told first to keep nothing.
        """
        self.origin = origin
        self.resize(size)
        self.media(dark=dark)
        self.driver.execute_script(_KEEP_NOTHING)
        self.driver.get("about:blank")
        self.driver.get_log("browser")
        self.driver.get_log("performance")
        self._requests = []
        with self._before_the_page(_FORGET + _remember(remembers)):
            self.driver.get(f"{origin}/")

    def open_ready(self, origin: str, **window: Any) -> None:
        """Visit the page and wait for its models."""
        self.open(origin, **window)
        self.until(lambda: self.find("#model").is_enabled())

    def reload(self) -> None:
        """Load the page again and wait for its models."""
        self.driver.refresh()
        self.until(lambda: self.find("#model").is_enabled())

    def resize(self, size: tuple[int, int]) -> None:
        """Give the window the size of a device."""
        width, height = size
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def media(self, *, dark: bool = False, still: bool = False) -> None:
        """Prefer a theme and whether things may move, as the system's settings do."""
        features = [
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
            {"name": "prefers-reduced-motion", "value": "reduce" if still else "no-preference"},
        ]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def offline(self, is_offline: bool) -> None:
        """Cut or mend the way to every server."""
        conditions = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        self.driver.execute_cdp_cmd("Network.enable", {})
        self.driver.execute_cdp_cmd(
            "Network.emulateNetworkConditions", {"offline": is_offline, **conditions}
        )

    @contextmanager
    def _before_the_page(self, code: str) -> Iterator[None]:
        """Run code before any script of the pages that are opened meanwhile."""
        added = self.driver.execute_cdp_cmd(
            "Page.addScriptToEvaluateOnNewDocument", {"source": code}
        )
        yield
        self.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)

    # -- looking -----------------------------------------------------------------------------

    def find(self, selector: str) -> WebElement:
        """Return the first element of a CSS selector."""
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def find_all(self, selector: str) -> list[WebElement]:
        """Return all elements of a CSS selector."""
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        """Return the whole text of an element, white space included."""
        return str(self.find(selector).get_property("textContent"))

    def sees(self, selector: str) -> bool:
        """Return whether such an element is visible."""
        return any(element.is_displayed() for element in self.find_all(selector))

    def visible(self, selector: str) -> WebElement:
        """Wait for a visible element of a CSS selector, and return the first."""
        return self.until(lambda: [e for e in self.find_all(selector) if e.is_displayed()])[0]

    def script(self, code: str, *arguments: Any) -> Any:
        """Run JavaScript in the page; it may await."""
        wrapped = f"""const done = arguments[arguments.length - 1];
            (async () => {{ {code} }})().then(done, (error) => done(`${{error}}`));"""
        return self.driver.execute_async_script(wrapped, *arguments)

    def until(self, holds: Callable[[], T]) -> T:
        """Wait until something holds, and return what it gave."""
        wait = WebDriverWait(
            self.driver,
            PATIENCE_SECONDS,
            poll_frequency=0.05,
            ignored_exceptions=[StaleElementReferenceException],
        )
        return wait.until(lambda _: holds())

    def requests(self) -> list[dict[str, Any]]:
        """Return every request since the page was opened, as DevTools tells of it."""
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                self._requests.append(message["params"]["request"])
        return self._requests

    def bodies(self, path: str) -> list[dict[str, Any]]:
        """Return what was posted to a path, oldest first."""
        return [
            json.loads(request["postData"])
            for request in self.requests()
            if request["url"] == f"{self.origin}{path}" and request["method"] == "POST"
        ]

    def complaints(self) -> list[str]:
        """Return what stands in the console since it was last asked for."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def overflow(self) -> int:
        """Return by how many pixels the page is wider than the window."""
        return int(self.script("return document.documentElement.scrollWidth - innerWidth"))

    # -- talking -----------------------------------------------------------------------------

    def click(self, selector: str) -> None:
        """Click the first visible element of a CSS selector, once there is one."""
        self.click_on(self.visible(selector))

    def click_on(self, element: WebElement) -> None:
        """Click an element, in the middle of the window where nothing covers it."""
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()

    def press(self, *keys: str) -> None:
        """Press keys where the focus is."""
        self.driver.switch_to.active_element.send_keys(*keys)

    def send(self, message: str) -> None:
        """Write a message and send it."""
        self.find("#message").send_keys(message, Keys.ENTER)

    def say(self, message: str) -> str:
        """Send a message, wait for the whole reply and return it."""
        n_turns = len(self.find_all(".turn"))
        self.send(message)
        self.until(lambda: len(self.find_all(".turn")) > n_turns)
        self.wait_for_the_end()
        return self.reply()

    def wait_for_the_end(self) -> None:
        """Wait until nothing is being written."""
        self.until(lambda: self.find_all(".reply") and not self.find_all(".is-writing"))

    def reply(self, column: int = 0) -> str:
        """Return the text of the last reply in a column."""
        replies = self.find_all(".turn:last-child .reply")
        words = replies[column].find_element(By.CSS_SELECTOR, ".words")
        return str(words.get_property("textContent"))

    def choose(self, selector: str, name: str) -> None:
        """Choose a model in a list, once it is shown: a busy page answers a click late."""
        self.visible(f"{selector} option[value='{name}']").click()
