"""Real server processes on loopback, on tiny checkpoints."""

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from openai import OpenAI

from tests.serving.live import LiveServer, StartLive
from tests.tiny import write_tiny_checkpoint
from tinyllm.config.serve import ServeLimits

_START_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Server:
    """A `tinyllm serve` process that takes requests."""

    process: subprocess.Popen[str]
    url: str
    port: int
    models: tuple[str, ...]

    def client(self, api_key: str = "none", *, max_retries: int = 0) -> OpenAI:
        """Return OpenAI's own client, as it is."""
        return OpenAI(base_url=f"{self.url}/v1", api_key=api_key, max_retries=max_retries)


StartServer = Callable[..., Server]


@contextmanager
def serving(*arguments: str | Path, api_key: str | None = None) -> Iterator[Server]:
    """Start a server on a free port; end it by SIGTERM unless the test did so already.

    The server must then have ended by itself, with exit code 0 or that of its signal.
    """
    environment = {k: v for k, v in os.environ.items() if k != "TINYLLM_API_KEY"}
    if api_key is not None:
        environment["TINYLLM_API_KEY"] = api_key
    command = [sys.executable, "-m", "tinyllm", "serve", *map(str, arguments)]
    process = subprocess.Popen(
        [*command, "--port", "0", "--json"],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        yield _when_listening(process)
    finally:
        was_running = process.poll() is None
        if was_running:
            process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        finally:
            assert process.stdout is not None
            process.stdout.close()
    assert code == 0 or (not was_running and code in (130, 143)), f"the server ended with {code}"


def _when_listening(process: subprocess.Popen[str]) -> Server:
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], _START_SECONDS)
    line = process.stdout.readline() if ready else ""
    if not line:
        process.kill()
        raise AssertionError("the server did not say where it listens")
    address = json.loads(line)
    return Server(process, address["url"], address["port"], tuple(address["models"]))


@pytest.fixture
def start_server() -> Iterator[StartServer]:
    """Return a function that starts a server; all of them are ended with the test."""
    with ExitStack() as stack:
        yield lambda *arguments, **options: stack.enter_context(serving(*arguments, **options))


@pytest.fixture(scope="session")
def tiny_checkpoints(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Write a chat-tuned model, `chatty`, and a base model, `plain`."""
    folder = tmp_path_factory.mktemp("served")
    return (
        write_tiny_checkpoint(folder / "chatty.safetensors", chat=True),
        write_tiny_checkpoint(folder / "plain.safetensors", seed=1),
    )


@pytest.fixture(scope="session")
def server(tiny_checkpoints: tuple[Path, Path]) -> Iterator[Server]:
    """Serve both models with the defaults, for every test that changes nothing."""
    with serving(*tiny_checkpoints) as started:
        yield started


@pytest.fixture(scope="session")
def client(server: Server) -> Iterator[OpenAI]:
    """OpenAI's client of that server."""
    with server.client() as one:
        yield one


@pytest.fixture(scope="session")
def lasting_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a chat-tuned model whose context is so long that a text outlasts every test."""
    path = tmp_path_factory.mktemp("lasting") / "lasting.safetensors"
    return write_tiny_checkpoint(path, chat=True, context_length=65_536)


@pytest.fixture(scope="session")
def live(lasting_checkpoint: Path) -> Iterator[LiveServer]:
    """Serve that model with few rows and a short queue."""
    with ExitStack() as stack:
        yield start_on(lasting_checkpoint, stack)


@pytest.fixture(scope="session")
def impatient(lasting_checkpoint: Path) -> Iterator[LiveServer]:
    """Serve it with little patience for slow clients."""
    patience = {"header_seconds": 0.5, "body_seconds": 0.5, "stall_seconds": 0.5}
    with ExitStack() as stack:
        yield start_on(lasting_checkpoint, stack, keep_alive_seconds=1, **patience)


@pytest.fixture
def start_live(lasting_checkpoint: Path) -> Iterator[StartLive]:
    """Return a function that serves it with limits of a test's own."""
    with ExitStack() as stack:
        yield lambda **limits: start_on(lasting_checkpoint, stack, **limits)


def start_on(checkpoint: Path, stack: ExitStack, **limits: float) -> LiveServer:
    """Start a server with some limits; it ends with the stack."""
    room = {"max_new_tokens": 10**6, "max_request_tokens": 10**9}
    chosen = {"max_batch_size": 8, "max_waiting": 8, **room, **limits}
    sets = [word for name, value in chosen.items() for word in ("--set", f"limits.{name}={value}")]
    started = stack.enter_context(serving(checkpoint, *sets))
    return LiveServer(started.process, started.port, started.models[0], ServeLimits(**chosen))
