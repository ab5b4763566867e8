"""The two shapes of an answer: turns of a conversation, and continued texts.

A dialect puts what was drawn into OpenAI's objects; `answers.py` has their schemas. A text's end
token is not told as a token of it.
"""

import secrets
import time
from dataclasses import dataclass, field
from typing import Any, Protocol

from tinyllm import __version__
from tinyllm.generation.odds import TokenOdds
from tinyllm.generation.steps import FinishReason
from tinyllm.serving.answers import Finish
from tinyllm.serving.orders import Order
from tinyllm.tokenizer import Tokenizer

_FINISHES: dict[FinishReason, Finish] = {
    "stop": "stop",
    "stop_string": "stop",
    "loop": "stop",
    "length": "length",
}


@dataclass(slots=True)
class Piece:
    """A part of one text, perhaps all of it."""

    number: int
    text: str = ""
    odds: list[TokenOdds] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    """Where in the text the tokens of these odds begin, in characters."""
    finish_reason: FinishReason | None = None
    stop_reason: str | None = None

    @property
    def finish(self) -> Finish | None:
        """Why the text ended, in OpenAI's words."""
        return None if self.finish_reason is None else _FINISHES[self.finish_reason]

    def ending(self) -> dict[str, Any]:
        """Return the fields that tell of the end."""
        return {"finish_reason": self.finish, "stop_reason": self.stop_reason}


class Dialect(Protocol):
    """How one route puts its answers."""

    @property
    def whole_object(self) -> str:
        """The name of an answer in one piece."""

    def opening(self, number: int) -> dict[str, Any] | None:
        """Return the choice that comes before a text's first token, if one does."""

    def choice(self, piece: Piece) -> dict[str, Any]:
        """Return what a streamed answer tells of a piece."""

    def whole_choice(self, piece: Piece) -> dict[str, Any]:
        """Return what an answer in one piece tells of a text."""

    def envelope(
        self, choices: list[dict[str, Any]], usage: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Return the object around choices."""


@dataclass(frozen=True)
class ChatDialect:
    """Turns of a conversation."""

    model: str
    order: Order
    tokenizer: Tokenizer
    id: str = field(default_factory=lambda: f"chatcmpl-{secrets.token_hex(12)}")
    created: int = field(default_factory=lambda: int(time.time()))
    whole_object: str = "chat.completion"

    def opening(self, number: int) -> dict[str, Any] | None:
        """Say who speaks."""
        delta = {"role": "assistant", "content": ""}
        return {"index": number, "delta": delta, "logprobs": None, "finish_reason": None}

    def choice(self, piece: Piece) -> dict[str, Any]:
        """Return what a streamed answer tells of a piece."""
        return {
            "index": piece.number,
            "delta": {"content": piece.text} if piece.text else {},
            "logprobs": self._logprobs(piece),
            **piece.ending(),
        }

    def whole_choice(self, piece: Piece) -> dict[str, Any]:
        """Return what an answer in one piece tells of a text."""
        return {
            "index": piece.number,
            "message": {"role": "assistant", "content": piece.text, "refusal": None},
            "logprobs": self._logprobs(piece),
            **piece.ending(),
        }

    def envelope(
        self, choices: list[dict[str, Any]], usage: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Return the object around choices."""
        around = _envelope(self, "chat.completion.chunk", choices, usage)
        return {**around, "dropped_messages": self.order.n_dropped}

    def _logprobs(self, piece: Piece) -> dict[str, Any] | None:
        if self.order.sampling.logprobs is None:
            return None
        told = [
            {
                **self._token(odds.token_id, odds.logprob),
                "top_logprobs": [self._token(*alternative) for alternative in odds.top],
            }
            for odds in piece.odds
        ]
        return {"content": told, "refusal": None}

    def _token(self, token_id: int, logprob: float) -> dict[str, Any]:
        told = self.tokenizer.token_text(token_id)
        raw = self.tokenizer.token_bytes(token_id)
        return {"token": told, "logprob": logprob, "bytes": list(raw)}


@dataclass(frozen=True)
class CompletionDialect:
    """Continued texts."""

    model: str
    order: Order
    tokenizer: Tokenizer
    id: str = field(default_factory=lambda: f"cmpl-{secrets.token_hex(12)}")
    created: int = field(default_factory=lambda: int(time.time()))

    whole_object: str = "text_completion"

    def opening(self, number: int) -> dict[str, Any] | None:
        """Give the prompt back, if that was asked for."""
        if not self.order.echoes:
            return None
        echo = self._echo(number)
        return {"index": number, "text": echo, "logprobs": None, "finish_reason": None}

    def choice(self, piece: Piece) -> dict[str, Any]:
        """Return what a streamed answer tells of a piece."""
        choice = {"index": piece.number, "text": piece.text, "logprobs": self._logprobs(piece)}
        return {**choice, **piece.ending()}

    def whole_choice(self, piece: Piece) -> dict[str, Any]:
        """Return what an answer in one piece tells of a text."""
        return {**self.choice(piece), "text": self._echo(piece.number) + piece.text}

    def envelope(
        self, choices: list[dict[str, Any]], usage: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Return the object around choices."""
        return _envelope(self, "text_completion", choices, usage)

    def _echo(self, number: int) -> str:
        return self.order.echoes[number // self.order.n] if self.order.echoes else ""

    def _logprobs(self, piece: Piece) -> dict[str, Any] | None:
        if self.order.sampling.logprobs is None:
            return None
        return {
            "tokens": [self.tokenizer.token_text(odds.token_id) for odds in piece.odds],
            "token_logprobs": [odds.logprob for odds in piece.odds],
            "top_logprobs": [self._likeliest(odds) for odds in piece.odds],
            "text_offset": piece.offsets,
            "bytes": [list(self.tokenizer.token_bytes(odds.token_id)) for odds in piece.odds],
        }

    def _likeliest(self, odds: TokenOdds) -> dict[str, float]:
        """Return the likeliest tokens by their text; of equal texts the likeliest."""
        named: dict[str, float] = {}
        for token_id, logprob in odds.top:
            named.setdefault(self.tokenizer.token_text(token_id), logprob)
        return named


def _envelope(
    dialect: ChatDialect | CompletionDialect,
    kind: str,
    choices: list[dict[str, Any]],
    usage: dict[str, Any] | None,
) -> dict[str, Any]:
    around = {
        "id": dialect.id,
        "object": kind,
        "created": dialect.created,
        "model": dialect.model,
        "system_fingerprint": _FINGERPRINT,
        "seed": dialect.order.seed,
        "choices": choices,
    }
    return around if usage is None else {**around, "usage": usage}


_FINGERPRINT = f"tinyllm-{__version__}"
