"""From a config to a server that listens, and its orderly end.

The first signal (Ctrl-C, SIGTERM) stops it: new requests are refused, those that are on their way
get `shutdown_seconds`. The second one ends it at once.
"""

import asyncio
import errno
import gc
import logging
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import uvicorn

from tinyllm.config.serve import ServeConfig, is_local
from tinyllm.config.settings import settings
from tinyllm.errors import Interrupted, UsageError
from tinyllm.files import os_error
from tinyllm.process import allow_most_files
from tinyllm.reporting import Reporter, counted
from tinyllm.serving.app import Service, build
from tinyllm.serving.connection import limited_protocol, sweep
from tinyllm.serving.streaming import Stopping

_SWEEP_EVERY_TICKS = 2
_LAST_WORDS_SECONDS = 2
_BACKLOG = 2048
_OTHER_FILES = 256
"""Open files beside the connections."""
_NEWCOMERS = 20_000
"""Objects that come, more than go, between two looks for garbage; each look at so many takes about
a millisecond. Python's 700 take 4 % of a busy server's time."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens, and what it serves."""

    url: str
    """Where this machine reaches it."""
    host: str
    port: int
    models: tuple[str, ...]


def run(config: ServeConfig, reporter: Reporter, *, listening: Callable[[Address], None]) -> None:
    """Serve until a signal comes; `listening` is told when requests are taken.

    Raises UsageError for an address that cannot be had and for one that others can reach without a
    key, CheckpointError for what cannot be served, Interrupted when requests were cut off.
    """
    api_key = _api_key()
    _require_key(config.host, api_key)
    with _bound(config.host, config.port) as bound:
        possible = _with_files_for_connections(config, reporter)
        service = build(possible, api_key, reporter)
        server = _Server(possible, service, bound, reporter, listening)
        _collect_less()
        server.run(sockets=[bound])
    server.raise_if_cut()


def _collect_less() -> None:
    """Look for garbage in circles less often, and never in what has been loaded: it stays."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEWCOMERS)


class _Server(uvicorn.Server):
    """uvicorn's server, with an end in two steps and a look at slow clients."""

    def __init__(
        self,
        config: ServeConfig,
        service: Service,
        bound: socket.socket,
        reporter: Reporter,
        listening: Callable[[Address], None],
    ) -> None:
        logging.getLogger("uvicorn").setLevel(logging.CRITICAL + 1)  # Guard reports bugs
        super().__init__(
            uvicorn.Config(
                service.application,
                http=limited_protocol(config.limits),
                ws="none",
                loop="asyncio",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=config.limits.keep_alive_seconds,
                timeout_graceful_shutdown=_LAST_WORDS_SECONDS,
                backlog=_BACKLOG,
            )
        )
        self._serve_config, self._service = config, service
        self._bound, self._reporter, self._listening = bound, reporter, listening
        self._signal: int | None = None
        self._n_cut = 0
        service.metrics.watch_connections(lambda: len(self.server_state.connections))

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take Ctrl-C and SIGTERM; uvicorn would raise them again when all is done."""
        taken = {
            number: signal.signal(number, self.handle_exit)
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield
        finally:
            for number, handler in taken.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: object) -> None:
        """Begin to stop, or with the second signal end at once."""
        self.force_exit = self.should_exit
        self.should_exit = True
        self._signal = sig

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Load the models, listen, and say so."""
        asyncio.get_running_loop().set_exception_handler(self._report)
        await self._service.models.load_first()
        if self.should_exit:
            return
        await super().startup(sockets=sockets)
        self._listening(_address(self._bound, self._service.models.names))

    async def on_tick(self, counter: int) -> bool:
        """Look for slow clients; tell whether the end has come."""
        if counter % _SWEEP_EVERY_TICKS == 0:
            sweep(self.server_state.connections)
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let requests finish, cut off what does not, and close."""
        self._service.gate.is_stopping = True
        workers = self._service.models.workers()
        if n_texts := sum(worker.n_texts for worker in workers):
            limit = self._serve_config.limits.shutdown_seconds
            self._reporter.note(
                f"stopping: {counted(n_texts, 'text')} to finish, {limit:g} s at most "
                "(the same signal again ends it at once)"
            )
        await self._drain()
        for worker in workers:
            self._n_cut += worker.n_texts
            worker.fail_all(Stopping("the server is stopping"))
            worker.stop()
        await super().shutdown(sockets=sockets)

    async def _drain(self) -> None:
        end = time.monotonic() + self._serve_config.limits.shutdown_seconds
        counter = 1
        while not self.force_exit and time.monotonic() < end and self._is_busy():
            await asyncio.sleep(0.05)
            await self.on_tick(counter)
            counter += 1

    def _is_busy(self) -> bool:
        return any(worker.n_jobs for worker in self._service.models.workers())

    def _report(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Say that something failed beside any request, without the values it holds."""
        error = context.get("exception")
        what = type(error).__name__ if error is not None else str(context.get("message"))
        self._reporter.warn(f"the event loop met {what}")

    def raise_if_cut(self) -> None:
        """Raise Interrupted if texts were not finished when the server ended."""
        if self._n_cut:
            code = 143 if self._signal == signal.SIGTERM else 130
            raise Interrupted(
                f"stopped before {counted(self._n_cut, 'text')} were finished",
                "Their clients were told so; limits.shutdown_seconds gives them longer.",
                exit_code=code,
            )


def _api_key() -> str | None:
    """Return the key from the environment. Raises UsageError for one that cannot be sent."""
    secret = settings().api_key
    key = secret.get_secret_value().strip() if secret is not None else ""
    if not (key.isascii() and key.isprintable()):
        raise UsageError(
            "the API key holds characters that no HTTP header can carry",
            "Take letters, digits and signs of ASCII for TINYLLM_API_KEY.",
        )
    return key or None


def _require_key(host: str, api_key: str | None) -> None:
    if api_key is None and not is_local(host):
        raise UsageError(
            f"at {host} other machines can reach the server, and there is no API key",
            "Put a key of your choice into the environment variable TINYLLM_API_KEY.",
        )


@contextmanager
def _bound(host: str, port: int) -> Iterator[socket.socket]:
    """Take an address before anything is loaded. Raises UsageError when it cannot be had."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (socket.gaierror, UnicodeError) as error:
        raise UsageError(
            f"{host!r} is no address of this machine", "Use 127.0.0.1, or 0.0.0.0 for all of them."
        ) from error
    bound = socket.socket(family, kind, protocol)
    try:
        if sys.platform != "win32":
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise _why_not(error, host, port) from error
    with bound:
        yield bound


def _why_not(error: OSError, host: str, port: int) -> UsageError:
    if error.errno == errno.EADDRINUSE:
        return UsageError(
            f"port {port} is taken by another program",
            "--port 0 takes a free one; or end the other program.",
        )
    if error.errno == errno.EACCES:
        return UsageError(
            f"port {port} is for the system's own services", "Use one of 1024 and above."
        )
    reason = os_error(error, f"listen at {host}, port {port}")
    return UsageError(reason.message, "Use 127.0.0.1, or 0.0.0.0 for all addresses.")


def _address(bound: socket.socket, models: Sequence[str]) -> Address:
    host, port = bound.getsockname()[:2]
    here = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # all addresses of this machine
    shown = f"[{here}]" if ":" in here else here
    return Address(f"http://{shown}:{port}", host, port, tuple(models))


def _with_files_for_connections(config: ServeConfig, reporter: Reporter) -> ServeConfig:
    """Return a config that takes as many connections as the system lets this process open."""
    wanted = config.limits.max_connections
    n_allowed = max(1, allow_most_files(wanted + _OTHER_FILES) - _OTHER_FILES)
    if n_allowed >= wanted:
        return config
    reporter.warn(
        f"{n_allowed:,} connections at a time, not {wanted:,}: the system lets this process open "
        "no more files (`ulimit -Hn`)"
    )
    limits = config.limits.model_copy(update={"max_connections": n_allowed})
    return config.model_copy(update={"limits": limits})
