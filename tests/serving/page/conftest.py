"""A real Chromium in front of a real server with tiny models."""

from collections.abc import Iterator

import pytest

from tests.serving.conftest import Server, serving
from tests.serving.page.browser import Browser, open_browser
from tests.serving.page.models import ENDLESS, SHORT
from tests.tiny import write_tiny_checkpoint


@pytest.fixture(scope="session")
def page_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serve a model that chats, one that continues text, and one that never comes to an end,
    and one that has room for a few words only."""
    folder = tmp_path_factory.mktemp("page")
    short = {"context_length": 512, "generation": SHORT}
    checkpoints = (
        write_tiny_checkpoint(folder / "chatty.safetensors", chat=True, **short),
        write_tiny_checkpoint(folder / "plain.safetensors", seed=1, **short),
        write_tiny_checkpoint(
            folder / "endless.safetensors", chat=True, context_length=500_000, generation=ENDLESS
        ),
        write_tiny_checkpoint(
            folder / "forgetful.safetensors", chat=True, context_length=64, generation=ENDLESS
        ),
    )
    with serving(*checkpoints, "--set", "limits.max_new_tokens=1000000") as server:
        yield server


@pytest.fixture(scope="session")
def window() -> Iterator[Browser]:
    """One Chromium for all tests here; each visits the page anew."""
    with open_browser() as browser:
        yield browser


@pytest.fixture
def page(window: Browser, page_server: Server) -> Iterator[Browser]:
    """Visit the page; afterwards nothing was complained of and nothing was asked of others."""
    window.open_ready(page_server.url)
    yield window
    assert window.complaints() == []
    foreign = [r["url"] for r in window.requests() if not r["url"].startswith(page_server.url)]
    assert foreign == []
