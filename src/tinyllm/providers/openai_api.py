"""OpenAI-compatible servers, through the `openai` package with its own retries off.

Several addresses are served like one: a request goes where the fewest are under way, and an
address that does not answer is left alone for a while. The key comes from the environment and is
blotted out of everything that a server says.
"""

import asyncio
import itertools
import ssl
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tinyllm.config.providers import OpenAIProvider as OpenAISettings
from tinyllm.config.providers import Timeouts
from tinyllm.config.settings import settings
from tinyllm.errors import ProviderError
from tinyllm.process import allow_open_files
from tinyllm.providers.base import (
    CallError,
    CallSampling,
    Capabilities,
    Completion,
    RetryableError,
    RunError,
    Trace,
)
from tinyllm.providers.openai_answers import StreamedAnswer, completion, failure
from tinyllm.records import Message

if TYPE_CHECKING:
    from collections.abc import Iterator

    from openai import AsyncOpenAI

_REST_SECONDS = 10.0
"""How long an address that refused a connection is left alone where there are others."""
_OTHER_FILES = 128
_REQUESTS_PER_CLIENT = 8
"""A client looks through all of its connections for each request: a thousand cost more than the
request. So there are several clients, each with few."""


class _Server:
    """One client of one address, and how busy it is."""

    def __init__(self, url: str, client: "AsyncOpenAI") -> None:
        self.client = client
        self.host = urlsplit(url).netloc
        self.n_under_way = 0
        self.rests_until = 0.0


class OpenAIProvider:
    """A model behind one or more servers."""

    def __init__(self, config: OpenAISettings, timeouts: Timeouts, *, concurrency: int) -> None:
        """Prepare the clients; nothing is sent. Raises ProviderError without a key for OpenAI."""
        secret = settings().openai_api_key
        if secret is None and config.is_openai:
            raise ProviderError(
                "there is no key for api.openai.com",
                "Set TINYLLM_OPENAI_API_KEY or OPENAI_API_KEY, or name another `openai.base_urls`.",
            )
        allow_open_files(concurrency + _OTHER_FILES)
        self._config, self._timeouts = config, timeouts
        self._key = secret.get_secret_value() if secret is not None else ""
        self._turns = itertools.count()
        self._http: Any = _http_library()
        n_clients = -(-concurrency // _REQUESTS_PER_CLIENT)
        self._servers = [
            _Server(url, self._client(url)) for url in config.base_urls for _ in range(n_clients)
        ]

    def __repr__(self) -> str:
        """Name the servers, never the key."""
        hosts = dict.fromkeys(server.host for server in self._servers)
        return f"OpenAIProvider({', '.join(hosts)})"

    def _client(self, url: str) -> "AsyncOpenAI":
        from openai import AsyncOpenAI, DefaultAsyncHttpxClient

        limits = self._http.Limits(max_connections=None, max_keepalive_connections=None)
        timeout = self._http.Timeout(
            self._timeouts.read_seconds, connect=self._timeouts.connect_seconds
        )
        return AsyncOpenAI(
            api_key=self._key or "none",
            base_url=url,
            max_retries=0,
            timeout=timeout,
            http_client=DefaultAsyncHttpxClient(
                limits=limits, timeout=timeout, verify=_certificates()
            ),
        )

    def capabilities(self) -> Capabilities:
        """Say that texts may differ from call to call."""
        return Capabilities("openai", str(self._config.model), is_deterministic=False, streams=True)

    async def generate(
        self,
        messages: Sequence[Message],
        sampling: CallSampling,
        *,
        on_text: Callable[[str], None] | None = None,
    ) -> Completion:
        """Ask one server once. Raises as `Provider.generate` says."""
        server = self._choose()
        server.n_under_way += 1
        try:
            with self._translated(server):
                async with asyncio.timeout(self._timeouts.total_seconds):
                    if on_text is not None:
                        return await self._stream(server, messages, sampling, on_text)
                    return await self._ask(server, messages, sampling)
        finally:
            server.n_under_way -= 1

    def _choose(self) -> _Server:
        """Return the least busy server; of equals the one whose turn it is."""
        now, turn = time.monotonic(), next(self._turns)
        awake = [s for s in self._servers if s.rests_until <= now] or self._servers
        start = turn % len(awake)
        return min(awake[start:] + awake[:start], key=lambda server: server.n_under_way)

    async def _ask(
        self, server: _Server, messages: Sequence[Message], sampling: CallSampling
    ) -> Completion:
        body = self._body(messages, sampling)
        body |= body.pop("extra_body")
        response = await server.client.post(
            "/chat/completions", body=body, cast_to=self._http.Response
        )
        text = self._without_key(response.content.decode("utf-8", "replace"))
        return completion(text, response.headers, messages, server.host, time.time())

    async def _stream(
        self,
        server: _Server,
        messages: Sequence[Message],
        sampling: CallSampling,
        on_text: Callable[[str], None],
    ) -> Completion:
        body = self._body(messages, sampling)
        body["extra_body"] = {"stream_options": {"include_usage": True}, **body["extra_body"]}
        raw = server.client.chat.completions.with_streaming_response
        manager: Any = raw.create(**body, stream=True)
        async with manager as response:
            answer = StreamedAnswer(server.host, response.headers, time.time())
            try:
                async for line in response.iter_lines():
                    if piece := answer.take(self._without_key(line)):
                        on_text(piece)
            except self._http.HTTPError as error:
                raise self._unreachable(server, error, is_partial=True) from None
        return answer.completion(messages)

    def _body(self, messages: Sequence[Message], sampling: CallSampling) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self._config.model,
            "messages": [{"role": m.role, "content": m.content} for m in messages],
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            self._config.max_tokens_field: sampling.max_tokens,
            "extra_body": dict(self._config.extra_body),
        }
        return {**body, "seed": sampling.seed} if self._config.send_seed else body

    @contextmanager
    def _translated(self, server: _Server) -> "Iterator[None]":
        """Turn what the libraries raise into our three kinds, without the key in any of it."""
        import openai

        try:
            yield
        except TimeoutError:
            told = f"{server.host} took more than {self._timeouts.total_seconds:g} seconds"
            trace = Trace(may_be_charged=True)
            raise RetryableError("timeout", told, trace=trace) from None
        except openai.APIStatusError as error:
            response = error.response
            text = self._without_key(response.content.decode("utf-8", "replace"))
            now = time.time()
            raise failure(response.status_code, response.headers, text, server.host, now) from None
        except (openai.APIConnectionError, self._http.HTTPError) as error:
            raise self._unreachable(server, error) from None
        except openai.OpenAIError as error:
            told = self._without_key(" ".join(str(error).split())[:200])
            trace = Trace(may_be_charged=True)
            raise RetryableError("malformed", f"{server.host}: {told}", trace=trace) from None

    def _unreachable(
        self, server: _Server, error: Exception, *, is_partial: bool = False
    ) -> CallError:
        http, causes = self._http, list(_causes(error))
        was_sent = not any(
            isinstance(cause, http.ConnectError | http.ConnectTimeout | http.PoolTimeout)
            for cause in causes
        )
        trace = Trace(is_partial=is_partial, may_be_charged=was_sent)
        if any(isinstance(cause, http.TimeoutException) for cause in causes):
            return RetryableError("timeout", f"{server.host} did not answer in time", trace=trace)
        told = self._without_key(str(causes[-1]) or type(causes[-1]).__name__)
        if any(isinstance(cause, ssl.SSLError) for cause in causes):
            return RunError(
                f"no safe connection to {server.host}: {told}",
                "Check the address, and whether the server speaks https.",
            )
        if not was_sent:
            server.rests_until = time.monotonic() + _REST_SECONDS
        what = "the connection to {} broke" if was_sent else "no connection to {}"
        return RetryableError("connection", f"{what.format(server.host)}: {told}", trace=trace)

    def _without_key(self, text: str) -> str:
        """Blot out the key, before anything is cut or kept: some servers say it back."""
        return text.replace(self._key, "[key]") if self._key else text

    async def aclose(self) -> None:
        """Close the connections."""
        for server in self._servers:
            await server.client.close()


def _http_library() -> Any:
    """Return the module that the `openai` package sends with: httpx, or its later name."""
    from openai import DefaultAsyncHttpxClient

    for kind in DefaultAsyncHttpxClient.__mro__:
        name = kind.__module__.partition(".")[0]
        if name.startswith("httpx"):
            return import_module(name)
    raise AssertionError("the openai package sends through httpx")


@cache
def _certificates() -> ssl.SSLContext:
    """Return the authorities that are trusted, read once: it takes longer than a request."""
    context: ssl.SSLContext = _http_library().create_ssl_context()
    return context


def _causes(error: BaseException) -> "Iterator[BaseException]":
    """Yield an error and what led to it, the first cause last."""
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__cause__ or current.__context__
