"""Servers that are away, busy, locked or of another mind, and streams cut anywhere."""

import re
from pathlib import Path

from selenium.webdriver.common.keys import Keys

from tests.serving.conftest import Server, StartServer
from tests.serving.page.browser import Browser
from tests.serving.page.models import ENDLESS, SHORT
from tests.tiny import write_tiny_checkpoint

CUT_EVERYWHERE = r"""
const { readEvents } = await import("/static/sse.js");
const text = [
  ": hello", "id: 1", "data: naïve 🌍", "", "data:two", "data: lines", "", "", "data: {}", "",
  "data: cut off",
];
const wanted = JSON.stringify(["naïve 🌍", "two\nlines", "{}"]);
const wrong = [];
const streamOf = (pieces) =>
  new ReadableStream({
    start(controller) {
      for (const piece of pieces) controller.enqueue(piece);
      controller.close();
    },
  });
const check = async (pieces) => {
  const events = [];
  for await (const event of readEvents(streamOf(pieces))) events.push(event);
  if (JSON.stringify(events) !== wanted) wrong.push([pieces.map(String), events]);
};
for (const end of ["\n", "\r\n", "\r"]) {
  const bytes = new TextEncoder().encode(text.join(end));
  await check([...bytes].map((byte) => new Uint8Array([byte])));
  for (let i = 0; i <= bytes.length; i++) await check([bytes.slice(0, i), bytes.slice(i)]);
}
return wrong;
"""


def test_a_server_that_does_not_answer_is_told_of_and_asked_again(
    window: Browser, page_server: Server
) -> None:
    window.open_ready(page_server.url)
    window.offline(True)
    window.send("Anybody there?")
    window.until(lambda: window.sees(".reply .bad"))
    failure = window.text(".reply .bad p")
    window.offline(False)
    assert failure == "The server does not answer. Is it still running?"
    window.click(".reply [data-action=retry]")
    window.until(lambda: not window.sees(".bad"))
    window.wait_for_the_end()
    assert window.reply()


def test_a_page_that_finds_no_models_says_so_and_looks_again(
    window: Browser, page_server: Server
) -> None:
    window.open_ready(page_server.url)
    window.driver.execute_cdp_cmd("Network.enable", {})
    window.driver.execute_cdp_cmd("Network.setBlockedURLs", {"urls": ["*/v1/*"]})
    window.driver.refresh()
    window.until(lambda: window.sees("#server-trouble"))
    window.driver.execute_cdp_cmd("Network.setBlockedURLs", {"urls": []})
    window.click("#ask-again")
    window.until(lambda: window.find("#model").is_enabled())
    assert not window.sees("#server-trouble")


def test_the_servers_refusal_is_one_sentence_in_place(page: Browser) -> None:
    page.find("#system").send_keys("word " * 200)
    page.send("Too much")
    page.until(lambda: page.sees(".reply .bad"))
    sentence = page.text(".reply .bad p")
    assert re.fullmatch(r"[A-Z][^\n]+[.!?]", sentence), sentence
    assert "Shorten your message" in sentence
    assert page.sees(".reply [data-action=edit]")
    page.click("#reset-settings")
    page.click(".reply [data-action=retry]")
    page.until(lambda: not page.sees(".bad"))
    page.wait_for_the_end()
    assert page.reply()
    page.complaints()  # Chromium notes each answer that is an error


def test_a_busy_server_says_when_to_come_again(
    window: Browser, start_server: StartServer, tmp_path: Path
) -> None:
    endless = write_tiny_checkpoint(
        tmp_path / "endless.safetensors", chat=True, context_length=500_000, generation=ENDLESS
    )
    limits = ("max_batch_size=1", "max_waiting=0", "max_new_tokens=1000000")
    sets = [part for limit in limits for part in ("--set", f"limits.{limit}")]
    server = start_server(endless, *sets)
    window.open_ready(server.url)
    with server.client() as client:
        holder = client.chat.completions.create(
            model="endless", messages=[{"role": "user", "content": "me first"}], stream=True
        )
        next(iter(holder))
        window.send("And me?")
        window.until(lambda: window.sees(".reply .bad"))
        holder.close()
    assert re.fullmatch(
        r"The server is busy: .+ Try again (soon|in \d+ seconds?)\.", window.text(".reply .bad p")
    )


def test_the_key_is_asked_for_where_the_server_wants_one_only(
    window: Browser, start_server: StartServer, tmp_path: Path, page_server: Server
) -> None:
    window.open_ready(page_server.url)
    assert not window.sees("#api-key")
    checkpoint = write_tiny_checkpoint(tmp_path / "a.safetensors", chat=True, generation=SHORT)
    server = start_server(checkpoint, api_key="open sesame")
    window.open(server.url)
    window.until(lambda: window.sees("#api-key"))
    window.find("#api-key").send_keys("wrong", Keys.ENTER)
    window.until(lambda: window.text("#key-answer"))
    window.find("#api-key").clear()
    window.find("#api-key").send_keys("open sesame", Keys.ENTER)
    window.until(lambda: window.find("#model").is_enabled())
    assert not window.sees("#api-key")
    assert window.say("Hello")
    window.reload()
    assert not window.sees("#api-key")
    assert "open sesame" not in window.script("return JSON.stringify(localStorage)")
    assert not window.find("#compare").is_enabled()


def test_events_are_read_however_the_stream_is_cut(page: Browser) -> None:
    """At every byte, with every line end, with comments, several lines and other fields."""
    assert page.script(CUT_EVERYWHERE) == []
