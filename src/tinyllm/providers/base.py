"""What every provider of text is: messages in, one completion out, or one of three failures.

    RetryableError   it may pass: a rate limit, an overloaded server, a broken connection or body
    ItemError        this one request is refused: content policy, a prompt that is too long
    RunError         every request will fail: a wrong key, no such model, an empty account

A provider asks once and never retries by itself; who asks decides (`providers/pipeline`).
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from tinyllm.errors import ProviderError
from tinyllm.records import Message

FinishReason = Literal["stop", "length", "content_filter", "refusal", "other"]
"""Why a text ended: by itself, no tokens left, held back by the server, declined, anything else."""

RetryKind = Literal["rate_limit", "server", "timeout", "connection", "malformed"]
ItemReason = Literal["content_filter", "context_overflow", "bad_request"]

MAX_EXCERPT = 500
"""Characters of an answer that is no completion which are kept for people to look at."""
_CHARACTERS_PER_TOKEN = 4


@dataclass(frozen=True, slots=True)
class CallSampling:
    """How one answer is drawn. What a provider cannot honour it leaves out (`Capabilities`)."""

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0
    name: str = ""
    """What the request is called where requests are sent by the file; no two are called alike."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that a request took; estimated from the texts where the server does not say."""

    prompt_tokens: int
    completion_tokens: int
    is_estimated: bool = False
    reasoning_tokens: int = 0

    @property
    def total(self) -> int:
        """Tokens of prompt and answer."""
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True)
class Completion:
    """A whole answer. What names the call (ids, fingerprint, host) is not part of the text."""

    text: str
    finish_reason: FinishReason
    usage: Usage
    model: str = ""
    host: str = ""
    response_id: str | None = None
    request_id: str | None = None
    system_fingerprint: str | None = None
    thoughts_removed: bool = False
    """The model wrote its thinking into the answer; it is not in `text`."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a provider is and can do."""

    kind: str
    model: str
    is_deterministic: bool
    """The same messages and seed give the same text."""
    streams: bool
    max_concurrency: int | None = None
    """More requests than this at a time only wait in the provider."""


@dataclass(frozen=True, slots=True)
class Trace:
    """What is known of a request that failed, for the ledger."""

    status: int | None = None
    request_id: str | None = None
    excerpt: str = ""
    """The beginning of what was answered instead."""
    is_partial: bool = False
    """Some of the answer had come."""
    may_be_charged: bool = False
    """It was sent and not refused: the server may have worked on it."""


_NOTHING = Trace()


class CallError(ProviderError):
    """A request that brought no completion. Not raised itself, only through its three kinds."""

    def __init__(self, message: str, hint: str | None = None, trace: Trace = _NOTHING) -> None:
        super().__init__(message, hint)
        self.trace = dataclasses.replace(trace, excerpt=trace.excerpt[:MAX_EXCERPT])


class RetryableError(CallError):
    """A failure that may pass. `wait_seconds` is what the server asked for, if it did."""

    def __init__(
        self,
        kind: RetryKind,
        message: str,
        *,
        wait_seconds: float | None = None,
        trace: Trace = _NOTHING,
    ) -> None:
        super().__init__(message, trace=trace)
        self.kind: RetryKind = kind
        self.wait_seconds = wait_seconds


class ItemError(CallError):
    """A refusal of this one request."""

    def __init__(self, reason: ItemReason, message: str, trace: Trace = _NOTHING) -> None:
        super().__init__(message, trace=trace)
        self.reason: ItemReason = reason


class RunError(CallError):
    """A failure that every request would meet."""


class Provider(Protocol):
    """Who answers. One instance serves many requests at the same time, in one event loop."""

    def capabilities(self) -> Capabilities:
        """Say what it is and can do."""

    async def generate(
        self,
        messages: Sequence[Message],
        sampling: CallSampling,
        *,
        on_text: Callable[[str], None] | None = None,
    ) -> Completion:
        """Return one whole answer; with `on_text`, hand its pieces over as they come.

        Raises RetryableError, ItemError or RunError; what was handed over is then worthless.
        """

    async def aclose(self) -> None:
        """Let go of connections, threads and files."""


def estimate_tokens(text: str) -> int:
    """Guess how many tokens a text has: about one for four characters of English."""
    return -(-len(text) // _CHARACTERS_PER_TOKEN)


def estimate_prompt_tokens(messages: Sequence[Message]) -> int:
    """Guess how many tokens a prompt has, the markers around each message included."""
    return sum(estimate_tokens(message.content) + _CHARACTERS_PER_TOKEN for message in messages)


def estimated_usage(messages: Sequence[Message], text: str) -> Usage:
    """Return what an exchange probably took."""
    return Usage(estimate_prompt_tokens(messages), estimate_tokens(text), is_estimated=True)


_USAGE_FIELDS = tuple(field.name for field in dataclasses.fields(Usage))


def usage_to_json(usage: Usage) -> dict[str, int | bool]:
    """Return plain JSON values."""
    return {name: getattr(usage, name) for name in _USAGE_FIELDS}
