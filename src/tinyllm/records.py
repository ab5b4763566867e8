"""The plain records that pass between rooms. No behaviour lives here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

END_OF_TEXT = "<|endoftext|>"
"""The line that separates documents in a TEXT file, and the one token that ends each of them."""

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class Document:
    """One piece of running text. `id` is unique within its source."""

    id: str
    text: str
    source: str = ""
    meta: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Conversation:
    """An exchange that a chat model learns from. `id` is unique within its source."""

    id: str
    messages: tuple[Message, ...]
    source: str = ""
    meta: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MultipleChoice:
    """A question with one right choice. `answer` counts from 0; `fact` is what stands behind it."""

    id: str
    question: str
    choices: tuple[str, ...]
    answer: int
    fact: str | None = None
