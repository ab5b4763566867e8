"""What one request asks of the threads that draw, and what it has got of them."""

import asyncio
import time
from dataclasses import dataclass, field

from tinyllm.config.generation import Sampling
from tinyllm.errors import TinyLLMError
from tinyllm.generation.steps import Passage

MOST_PENDING = 4096
"""Tokens a text that may wait for a client that reads slowly; with more it is given up."""


@dataclass(frozen=True, slots=True)
class Text:
    """One text to draw."""

    prompt: tuple[int, ...]
    sampling: Sampling
    seed: int
    index: int
    sample: int


Event = tuple[int, Passage | TinyLLMError]
"""The number of a text in its job, and what became of it."""


@dataclass(eq=False, slots=True)
class Job:
    """The texts of one request, and what has become of them. It belongs to the event loop."""

    texts: list[Text]
    pending: list[Event] = field(default_factory=list)
    n_pending: int = 0
    """How many tokens those are."""
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    n_open: int = 0
    most_pending: int = MOST_PENDING
    n_reused: int = 0
    """Prompt tokens that had been read before, of the first text of each prompt."""
    is_closed: bool = False
    is_given_up: bool = False
    """Whether its client let too much pile up; nothing more comes."""
    began_at: float = field(default_factory=time.monotonic)

    @property
    def is_wanted(self) -> bool:
        """Whether anybody waits for what is not drawn yet; other threads may ask, too."""
        return not (self.is_closed or self.is_given_up)

    async def take(self) -> list[Event]:
        """Wait for events and return all that are there."""
        await self.arrived.wait()
        self.arrived.clear()
        events, self.pending, self.n_pending = self.pending, [], 0
        return events

    def fail(self, error: TinyLLMError) -> None:
        """Let the job end with an error; its texts are drawn on until it is closed."""
        self.pending.append((0, error))
        self.arrived.set()


def is_last(event: Event) -> bool:
    """Tell whether a text ends with an event."""
    return isinstance(event[1], TinyLLMError) or event[1].finish_reason is not None


def n_tokens(event: Event) -> int:
    """Return how many tokens an event brings."""
    return 0 if isinstance(event[1], TinyLLMError) else len(event[1].ids)
