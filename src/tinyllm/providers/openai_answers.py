"""What the answer of an OpenAI-compatible server means: a completion, or one of three failures.

Statuses and shapes decide, never the wording of a message. Pure functions: no network here.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tinyllm.providers.base import (
    CallError,
    Completion,
    FinishReason,
    ItemError,
    RetryableError,
    RunError,
    Trace,
    Usage,
    estimated_usage,
)
from tinyllm.providers.waiting import wait_asked_for
from tinyllm.records import Message

_OVERLOADED = (429, 503, 529)
_MAY_PASS = (408, 409, 425)
_QUOTA_CODES = ("insufficient_quota", "billing_hard_limit_reached", "account_deactivated")
_POLICY_CODES = ("content_filter", "content_policy_violation", "responsibleaipolicyviolation")
_CONTEXT_CODES = ("context_length_exceeded", "string_above_max_length")
_FINISH: dict[object, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "content_filter": "content_filter",
}


def failure(status: int, headers: Mapping[str, str], body: str, host: str, now: float) -> CallError:
    """Return the failure that an answer of this status is; `now` is the time of day (epoch)."""
    error = _error_in(_parsed(body)) or {}
    code = _code(error)
    told = _message(error) or body.strip()[:200]
    about = f"{host} answered {status}" + (f": {told}" if told else "")
    trace = Trace(status, headers.get("x-request-id"), body)
    if status == 402 or code in _QUOTA_CODES:
        return RunError(about, "The account has no credit left: mend that and resume.", trace=trace)
    if status in (401, 403):
        hint = "Set TINYLLM_OPENAI_API_KEY to a key that this server takes."
        return RunError(about, hint, trace=trace)
    if status == 404:
        return RunError(about, "Check `openai.base_urls` and `openai.model`.", trace=trace)
    if status == 429:
        wait = wait_asked_for(headers, now)
        return RetryableError("rate_limit", about, wait_seconds=wait, trace=trace)
    if status in _MAY_PASS or status >= 500:
        wait = wait_asked_for(headers, now) if status in _OVERLOADED else None
        return RetryableError("server", about, wait_seconds=wait, trace=trace)
    if code in _POLICY_CODES:
        return ItemError("content_filter", about, trace=trace)
    if status == 413 or code in _CONTEXT_CODES:
        return ItemError("context_overflow", about, trace=trace)
    if 400 <= status < 500:
        return ItemError("bad_request", about, trace=trace)
    return RunError(about, "Check `openai.base_urls`: this is no chat server.", trace=trace)


def completion(
    body: str, headers: Mapping[str, str], messages: Sequence[Message], host: str, now: float
) -> Completion:
    """Read the body of a 200. Raises the failure that it is instead."""
    value = _parsed(body)
    request_id = headers.get("x-request-id")
    if (error := _error_in(value)) is not None:
        raise failure(_status_in(error), headers, body, host, now)
    if not isinstance(value, dict) or not isinstance(value.get("choices"), list):
        raise RetryableError(
            "malformed",
            f"{host} answered with something that is no completion",
            trace=Trace(200, request_id, body, may_be_charged=True),
        )
    choice = value["choices"][0] if value["choices"] else {}
    message = choice.get("message") if isinstance(choice, dict) else None
    message = message if isinstance(message, dict) else {}
    text = message.get("content")
    text = text if isinstance(text, str) else ""
    reason = choice.get("finish_reason") if isinstance(choice, dict) else None
    return Completion(
        text=text,
        finish_reason="refusal" if message.get("refusal") else _FINISH.get(reason, "other"),
        usage=usage_in(value.get("usage"), messages, text),
        model=_text(value.get("model")) or "",
        host=host,
        response_id=_text(value.get("id")),
        request_id=request_id,
        system_fingerprint=_text(value.get("system_fingerprint")),
    )


def usage_in(value: object, messages: Sequence[Message], text: str) -> Usage:
    """Read a `usage` object; what is missing or of another type is estimated and marked so."""
    counts = value if isinstance(value, dict) else {}
    prompt, answer = _count(counts.get("prompt_tokens")), _count(counts.get("completion_tokens"))
    if prompt is None or answer is None:
        return estimated_usage(messages, text)
    details = counts.get("completion_tokens_details")
    reasoning = _count(details.get("reasoning_tokens")) if isinstance(details, dict) else None
    return Usage(prompt, answer, reasoning_tokens=reasoning or 0)


class StreamedAnswer:
    """The events of one streamed answer, put together; it is whole only after its last one."""

    def __init__(self, host: str, headers: Mapping[str, str], now: float) -> None:
        self._host, self._headers, self._now = host, headers, now
        self._pieces: list[str] = []
        self._finish: object = None
        self._is_refusal = False
        self._last: dict[str, Any] = {}
        self._usage: object = None
        self.is_done = False

    def take(self, line: str) -> str:
        """Take one line of the stream; return the text that came with it. Raises its failure."""
        if not line.startswith("data:"):
            return ""
        data = line.removeprefix("data:").strip()
        if data == "[DONE]":
            self.is_done = True
            return ""
        value = _parsed(data)
        if (error := _error_in(value)) is not None:
            raise failure(_status_in(error), self._headers, data, self._host, self._now)
        if not isinstance(value, dict):
            raise self._broken("a piece of the answer that is no JSON", data)
        self._last = value
        self._usage = value.get("usage") or self._usage
        choices = value.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else {}
        choice = choice if isinstance(choice, dict) else {}
        self._finish = choice.get("finish_reason") or self._finish
        delta = choice.get("delta")
        delta = delta if isinstance(delta, dict) else {}
        self._is_refusal = self._is_refusal or bool(delta.get("refusal"))
        piece = delta.get("content")
        if not isinstance(piece, str) or not piece:
            return ""
        self._pieces.append(piece)
        return piece

    def completion(self, messages: Sequence[Message]) -> Completion:
        """Return the whole answer. Raises RetryableError when its end never came."""
        if self._finish is None:
            raise self._broken("an answer that ends in the middle", "".join(self._pieces))
        text = "".join(self._pieces)
        return Completion(
            text=text,
            finish_reason="refusal" if self._is_refusal else _FINISH.get(self._finish, "other"),
            usage=usage_in(self._usage, messages, text),
            model=_text(self._last.get("model")) or "",
            host=self._host,
            response_id=_text(self._last.get("id")),
            request_id=self._headers.get("x-request-id"),
            system_fingerprint=_text(self._last.get("system_fingerprint")),
        )

    def _broken(self, what: str, excerpt: str) -> RetryableError:
        return RetryableError(
            "malformed",
            f"{self._host} sent {what}",
            trace=Trace(
                200,
                self._headers.get("x-request-id"),
                excerpt,
                is_partial=bool(self._pieces),
                may_be_charged=True,
            ),
        )


def _parsed(body: str) -> object:
    try:
        value: object = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return value


def _error_in(value: object) -> dict[str, Any] | None:
    """Return the error object of an answer: {"error": {…}}, {"error": "…"}, {"detail": "…"}."""
    if not isinstance(value, dict) or "choices" in value:
        return None
    error = value.get("error")
    if isinstance(error, dict):
        return error
    if isinstance(error, str):
        return {"message": error, **{k: value[k] for k in ("code", "type") if k in value}}
    if value.get("object") == "error":
        return value
    return None


def _status_in(error: Mapping[str, Any]) -> int:
    """Return the status that an error inside a 200 stands for; 500 when it does not say."""
    for name in ("code", "status"):
        try:
            status = int(error.get(name) or 0)
        except (ValueError, TypeError):
            continue
        if 400 <= status < 600:
            return status
    return 500


def _code(error: Mapping[str, Any]) -> str:
    for name in ("code", "type"):
        value = error.get(name)
        if isinstance(value, str) and value.lower() in (
            *_QUOTA_CODES,
            *_POLICY_CODES,
            *_CONTEXT_CODES,
        ):
            return value.lower()
    return ""


def _message(error: Mapping[str, Any]) -> str:
    return " ".join(str(error.get("message") or "").split())[:200]


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _count(value: object) -> int | None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        return None
    return value
