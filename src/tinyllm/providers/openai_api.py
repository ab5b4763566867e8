"""OpenAI-compatible servers; nothing is tried twice here.

Several addresses are served like one: a request goes where the fewest are under way, and an
address that does not answer is left alone for a while. The key comes from the environment and is
blotted out of everything that a server says.
"""

import asyncio
import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any

from tinyllm.config.providers import OpenAIProvider as OpenAISettings
from tinyllm.config.providers import Timeouts
from tinyllm.config.settings import settings
from tinyllm.errors import ProviderError
from tinyllm.process import allow_open_files
from tinyllm.providers.base import CallSampling, Capabilities, Completion
from tinyllm.providers.openai_answers import StreamedAnswer, completion, failure
from tinyllm.providers.openai_connection import Server, http_library
from tinyllm.records import Message

_OTHER_FILES = 128


class OpenAIProvider:
    """A model behind one or more servers."""

    def __init__(self, config: OpenAISettings, timeouts: Timeouts, *, concurrency: int) -> None:
        """Prepare the servers; nothing is sent.

        Raises ProviderError without a key for OpenAI, and for a key that cannot be one.
        """
        secret = settings().openai_api_key
        if secret is None and config.is_openai:
            raise ProviderError(
                "there is no key for api.openai.com",
                "Set TINYLLM_OPENAI_API_KEY or OPENAI_API_KEY, or name another `openai.base_urls`.",
            )
        allow_open_files(concurrency + _OTHER_FILES)
        self._config, self._timeouts = config, timeouts
        key = secret.get_secret_value() if secret is not None else ""
        if not (key.isascii() and key.isprintable()):
            raise ProviderError(
                "the key in the environment holds characters that no key has",
                "Look for a line break, a space or a quotation mark that came along.",
            )
        self._turns = itertools.count()
        self._servers = [Server(url, key, timeouts) for url in config.base_urls]

    def __repr__(self) -> str:
        """Name the servers, never the key."""
        hosts = dict.fromkeys(server.host for server in self._servers)
        return f"OpenAIProvider({', '.join(hosts)})"

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
        translated = server.translated if on_text is None else server.package_translated
        try:
            with translated():
                async with asyncio.timeout(self._timeouts.total_seconds):
                    if on_text is not None:
                        return await self._stream(server, messages, sampling, on_text)
                    return await self._ask(server, messages, sampling)
        finally:
            server.n_under_way -= 1

    def _choose(self) -> Server:
        """Return the least busy server; of equals the one whose turn it is."""
        if len(self._servers) == 1:
            return self._servers[0]
        now, turn = time.monotonic(), next(self._turns)
        awake = [s for s in self._servers if s.rests_until <= now] or self._servers
        start = turn % len(awake)
        return min(awake[start:] + awake[:start], key=lambda server: server.n_under_way)

    async def _ask(
        self, server: Server, messages: Sequence[Message], sampling: CallSampling
    ) -> Completion:
        body = self._body(messages, sampling)
        body |= body.pop("extra_body")
        status, headers, content = await server.post(body)
        text = server.without_key(content.decode("utf-8", "replace"))
        if status >= 300:
            raise failure(status, headers, text, server.host, time.time())
        return completion(text, headers, messages, server.host, time.time())

    async def _stream(
        self,
        server: Server,
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
                    if piece := answer.take(server.without_key(line)):
                        on_text(piece)
            except http_library().HTTPError as error:
                raise server.broken(error, is_partial=True) from None
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

    async def aclose(self) -> None:
        """Close the connections."""
        for server in self._servers:
            await server.aclose()
