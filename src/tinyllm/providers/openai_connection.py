"""The way to OpenAI-compatible servers: connections that stay open, and what a broken one means.

Whole answers are posted through aiohttp, which is also what the `openai` package sends with where
it is to be fast: a thousand answers a second leave no time for the package's own layers
(docs/performance.md). Streams, files and batches go through the package.
"""

import json
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache, cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import tinyllm
from tinyllm.config.providers import Timeouts
from tinyllm.config.settings import settings
from tinyllm.providers.base import CallError, RetryableError, RunError, Trace
from tinyllm.providers.openai_answers import failure

if TYPE_CHECKING:
    from aiohttp import ClientSession
    from openai import AsyncOpenAI

_REST_SECONDS = 10.0
"""How long an address that refused a connection is left alone where there are others."""
_MANY = 1_000_000
"""More connections than are ever wanted: how many requests are under way is decided elsewhere."""


class Server:
    """One address, and how busy it is."""

    def __init__(self, url: str, key: str, timeouts: Timeouts) -> None:
        """Prepare; nothing is sent."""
        self._url, self._key, self._timeouts = url, key, timeouts
        self.host = urlsplit(url).netloc
        self.n_under_way = 0
        self.rests_until = 0.0
        self._session: ClientSession | None = None

    async def post(self, body: Mapping[str, Any]) -> tuple[int, Mapping[str, str], bytes]:
        """Ask for a chat completion; return status, headers and body. Raises what aiohttp does."""
        content = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
        async with self._open_session().post(
            f"{self._url.rstrip('/')}/chat/completions",
            data=content.encode("utf-8", "replace"),
        ) as response:
            return response.status, response.headers, await response.read()

    def _open_session(self) -> "ClientSession":
        """Return the open connections, in the loop that runs now."""
        if self._session is None:
            from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, TCPConnector

            is_safe = urlsplit(self._url).scheme == "https"
            self._session = ClientSession(
                connector=TCPConnector(limit=0, ssl=_certificates() if is_safe else True),
                cookie_jar=DummyCookieJar(),
                trust_env=_goes_through_proxy(self._url),
                timeout=ClientTimeout(
                    sock_connect=self._timeouts.connect_seconds,
                    sock_read=self._timeouts.read_seconds,
                ),
                headers=_headers(self._key),
            )
        return self._session

    @cached_property
    def client(self) -> "AsyncOpenAI":
        """The `openai` package's client of this address, with its own retries off."""
        from openai import AsyncOpenAI, DefaultAioHttpClient

        http = http_library()
        limits = http.Limits(max_connections=_MANY, max_keepalive_connections=_MANY)
        timeout = http.Timeout(self._timeouts.read_seconds, connect=self._timeouts.connect_seconds)
        return AsyncOpenAI(
            api_key=self._key or "none",
            base_url=self._url,
            max_retries=0,
            timeout=timeout,
            http_client=DefaultAioHttpClient(
                limits=limits, timeout=timeout, verify=_certificates()
            ),
        )

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Turn what aiohttp raises into our failures, without the key in any of it."""
        from aiohttp import ClientError

        try:
            yield
        except (ClientError, OSError) as error:  # a timeout is an OSError
            raise self.broken(error) from None

    @contextmanager
    def package_translated(self) -> Iterator[None]:
        """Do the same with what the `openai` package raises."""
        import openai

        try:
            with self.translated():
                yield
        except openai.APIStatusError as error:
            response = error.response
            text = self.without_key(response.content.decode("utf-8", "replace"))
            now = time.time()
            raise failure(response.status_code, response.headers, text, self.host, now) from None
        except (openai.APIConnectionError, http_library().HTTPError) as error:
            raise self.broken(error) from None
        except openai.OpenAIError as error:
            told = self.without_key(" ".join(str(error).split())[:200])
            trace = Trace(may_be_charged=True)
            raise RetryableError("malformed", f"{self.host}: {told}", trace=trace) from None

    def broken(self, error: BaseException, *, is_partial: bool = False) -> CallError:
        """Return the failure that an error of aiohttp is, whatever library wraps it."""
        import aiohttp

        causes = list(_causes(error))
        was_sent = not any(
            isinstance(cause, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)
            for cause in causes
        )
        trace = Trace(is_partial=is_partial, may_be_charged=was_sent)
        if any(isinstance(cause, aiohttp.ServerTimeoutError) for cause in causes):
            return RetryableError("timeout", f"{self.host} did not answer in time", trace=trace)
        if any(isinstance(cause, TimeoutError) for cause in causes):
            told = f"{self.host} took more than {self._timeouts.total_seconds:g} seconds"
            return RetryableError("timeout", told, trace=trace)
        told = self.without_key(str(causes[-1]) or type(causes[-1]).__name__)
        if any(isinstance(cause, ssl.SSLError) for cause in causes):
            return RunError(
                f"no safe connection to {self.host}: {told}",
                "Check the address, and whether the server speaks https.",
            )
        if any(isinstance(cause, aiohttp.ClientResponseError) for cause in causes):
            told = f"{self.host} sent what is no HTTP: {told}"
            return RetryableError("malformed", told, trace=trace)
        if not was_sent:
            self.rests_until = time.monotonic() + _REST_SECONDS
        what = "the connection to {} broke" if was_sent else "no connection to {}"
        return RetryableError("connection", f"{what.format(self.host)}: {told}", trace=trace)

    def without_key(self, text: str) -> str:
        """Blot out the key, before anything is cut or kept: some servers say it back."""
        return text.replace(self._key, "[key]") if self._key else text

    async def aclose(self) -> None:
        """Close the connections; whoever asks again opens new ones."""
        session, client = self._session, self.__dict__.pop("client", None)
        self._session = None
        if session is not None:
            await session.close()
        if client is not None:
            await client.close()


def _headers(key: str) -> dict[str, str]:
    """Return what goes with every request, as the `openai` package sends it."""
    found = settings()
    account = {
        "OpenAI-Organization": found.openai_organization,
        "OpenAI-Project": found.openai_project,
    }
    return {
        "Authorization": f"Bearer {key or 'none'}",
        "Accept": "application/json",
        "Content-Type": "application/json",
        "User-Agent": f"tinyllm/{tinyllm.__version__}",
        **{name: value for name, value in account.items() if value},
    }


def _goes_through_proxy(url: str) -> bool:
    """Whether the environment wants a proxy for an address; looking it up takes its time."""
    parts = urlsplit(url)
    return parts.scheme in getproxies() and not proxy_bypass(parts.hostname or "")


def http_library() -> Any:
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
    context: ssl.SSLContext = http_library().create_ssl_context()
    return context


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what led to it, the first cause last."""
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__cause__ or current.__context__
