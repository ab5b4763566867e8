"""How requests reach an OpenAI-compatible server, and what a broken connection is taken for."""

import asyncio
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.stories.fault_server import Fault, FaultServer
from tinyllm.config.providers import OpenAIProvider as OpenAISettings
from tinyllm.config.providers import Timeouts
from tinyllm.config.settings import settings
from tinyllm.errors import ProviderError
from tinyllm.providers.base import CallError, CallSampling, Completion, RetryableError
from tinyllm.providers.openai_api import OpenAIProvider
from tinyllm.records import Message

ASKED = (Message("user", 'A story with "fox", "jump" and "happy".'),)
SAMPLING = CallSampling(max_tokens=100)


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as serving:
        yield serving


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """An environment to change, read afresh and forgotten afterwards."""
    settings.cache_clear()
    yield monkeypatch
    settings.cache_clear()


def ask(
    *urls: str, n: int = 1, streams: bool = False, **timeouts: float
) -> list[Completion | CallError]:
    """Ask n times at once; failures are returned."""

    async def asking() -> list[Completion | CallError]:
        config = OpenAISettings(model="teller", base_urls=urls)
        provider = OpenAIProvider(config, Timeouts(**timeouts), concurrency=n)
        on_text = (lambda _: None) if streams else None
        calls = [provider.generate(ASKED, SAMPLING, on_text=on_text) for _ in range(n)]
        try:
            return await asyncio.gather(*calls, return_exceptions=True)
        finally:
            await provider.aclose()

    return asyncio.run(asking())


@contextmanager
def saying(answer: bytes) -> Iterator[str]:
    """Listen, read a request, say something and hang up."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def say() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(answer)

        thread = threading.Thread(target=say, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
        thread.join()


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "malformed"),
        (b"HTTP/1.1 abc OK\r\n\r\n", "malformed"),
        (b"", "connection"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{", "connection"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc", None),
    ],
)
def test_what_is_no_answer_may_pass_and_may_have_been_charged(
    answer: bytes, kind: str | None, streams: bool
) -> None:
    with saying(answer) as url:
        [failure] = ask(url, streams=streams)
    assert isinstance(failure, RetryableError)
    assert failure.trace.may_be_charged
    assert kind is None or streams or failure.kind == kind


@pytest.mark.parametrize("streams", [False, True])
def test_what_was_never_sent_is_not_charged(streams: bool) -> None:
    with FaultServer() as gone:
        url = gone.url
    [failure] = ask(url, streams=streams)
    assert isinstance(failure, RetryableError)
    assert (failure.kind, failure.trace.may_be_charged) == ("connection", False)


@pytest.mark.parametrize("streams", [False, True])
def test_a_server_that_waits_too_long_may_have_been_charged_for(
    server: FaultServer, streams: bool
) -> None:
    server.faults = [Fault(hang=True)]
    [failure] = ask(server.url, streams=streams, read_seconds=0.1)
    assert isinstance(failure, RetryableError)
    assert (failure.kind, failure.trace.may_be_charged) == ("timeout", True)


def test_an_address_that_refuses_is_left_alone_where_there_are_others(server: FaultServer) -> None:
    with FaultServer() as gone:
        url = gone.url

    async def asking() -> list[Completion | CallError]:
        config = OpenAISettings(model="teller", base_urls=(url, server.url))
        provider = OpenAIProvider(config, Timeouts(), concurrency=1)
        found = []
        for _ in range(6):
            found += await asyncio.gather(
                provider.generate(ASKED, SAMPLING), return_exceptions=True
            )
        await provider.aclose()
        return found

    failures = [answer for answer in asyncio.run(asking()) if isinstance(answer, CallError)]
    assert len(failures) == 1
    assert len(server.requests) == 5


def test_many_are_asked_at_once(server: FaultServer) -> None:
    server.hold = threading.Event()
    waiting = threading.Thread(
        target=lambda: (server.wait_for(300), server.hold is not None and server.hold.set())
    )
    waiting.start()
    answers = ask(server.url, n=300)
    waiting.join()
    assert server.most_at_once == 300
    assert len({answer.text for answer in answers if isinstance(answer, Completion)}) == 1


@pytest.mark.parametrize("streams", [False, True])
def test_a_provider_that_was_closed_can_be_asked_again_in_another_loop(
    server: FaultServer, streams: bool
) -> None:
    config = OpenAISettings(model="teller", base_urls=(server.url,))
    provider = OpenAIProvider(config, Timeouts(), concurrency=1)

    async def once() -> str:
        on_text = (lambda _: None) if streams else None
        told = await provider.generate(ASKED, SAMPLING, on_text=on_text)
        await provider.aclose()
        return told.text

    assert asyncio.run(once()) == asyncio.run(once())


def test_the_account_that_is_charged_is_named_where_the_environment_does(
    server: FaultServer, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("OPENAI_API_KEY", "sk-test")
    environment.setenv("OPENAI_ORG_ID", "org-1")
    environment.setenv("OPENAI_PROJECT_ID", "proj-2")
    ask(server.url)
    headers = server.requests[0].headers
    assert headers["authorization"] == "Bearer sk-test"
    assert (headers["openai-organization"], headers["openai-project"]) == ("org-1", "proj-2")


@pytest.mark.parametrize("key", ["sk-canary\n", "sk-canary\nX: y", "sk-canäry", "sk\tcanary"])
def test_a_key_that_cannot_be_one_is_refused_without_saying_it(
    environment: pytest.MonkeyPatch, key: str
) -> None:
    environment.setenv("OPENAI_API_KEY", key)
    with pytest.raises(ProviderError, match="characters that no key has") as caught:
        ask("http://127.0.0.1:9/v1")
    assert "can" not in f"{caught.value} {caught.value.hint}".replace("cannot", "")


@pytest.mark.parametrize("streams", [False, True])
def test_a_proxy_of_the_environment_is_asked(
    server: FaultServer, environment: pytest.MonkeyPatch, streams: bool
) -> None:
    environment.setenv("http_proxy", server.url.removesuffix("/v1"))
    environment.setenv("no_proxy", "elsewhere.invalid")
    [answer] = ask("http://model.invalid/v1", streams=streams)
    assert isinstance(answer, Completion)
    assert server.requests[0].headers["host"] == "model.invalid"
    [failure] = ask("http://elsewhere.invalid/v1", streams=streams)
    assert isinstance(failure, RetryableError)


def test_whole_answers_load_none_of_the_package() -> None:
    with FaultServer() as serving:
        code = (
            "import sys; from tests.providers.test_connections import ask; "
            f"[answer] = ask({serving.url!r}); assert answer.text; "
            "print('openai' in sys.modules)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
    assert done.stdout.strip() == "False"
