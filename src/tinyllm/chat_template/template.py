"""What every chat template can do."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from tinyllm.records import Conversation, Message
from tinyllm.tokenizer import Tokenizer

Segments = list[tuple[list[int], list[int]]]
"""(prompt ids, answer ids with the end token) of every exchange of one conversation."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One prompt text with the answer to it."""

    prompt: str
    answer: str


class ChatTemplate(Protocol):
    """How the turns of a conversation are written for a model."""

    def to_json(self) -> dict[str, str]:
        """Return plain values for JSON, which `template_from_json` reads."""

    def segments(
        self, conversations: Sequence[Conversation], tokenizer: Tokenizer
    ) -> list[Segments]:
        """Return the ids of every exchange of every conversation."""

    def prompt_ids(self, messages: Sequence[Message], tokenizer: Tokenizer) -> list[int]:
        """Return the ids up to and including the header of the assistant's next turn."""

    def exchanges(self, messages: Sequence[Message]) -> Iterator[Exchange]:
        """Yield the texts that `segments` encodes."""

    @property
    def user_opening(self) -> str:
        """The text that opens a user's turn, where it is text; a model stops before writing it."""
