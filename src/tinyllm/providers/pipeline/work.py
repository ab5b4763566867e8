"""What a pipeline works on: numbered items, what is asked for each, what makes an answer good."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tinyllm.config.stories import StorySampling
from tinyllm.providers.base import CallSampling, Completion
from tinyllm.records import Message

TRUNCATED = "truncated"
REFUSAL = "refusal"
UNFINISHED = "unfinished"
EMPTY = "empty"

_FINISH_FAULTS = {
    "length": TRUNCATED,
    "content_filter": REFUSAL,
    "refusal": REFUSAL,
    "other": UNFINISHED,
}

_GROWTH = 1.5
_SEED_BITS = 31


@dataclass(frozen=True, slots=True)
class Ask:
    """One request. `plan` is what the work made it from."""

    messages: tuple[Message, ...]
    sampling: CallSampling
    plan: Any = None
    takes_any_ending: bool = False
    """An answer that was cut, or that holds nothing, is one, too: it is examined like others."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """A good answer. Equal `key`s (16 hex digits) are equal texts; `record` goes to the ledger."""

    key: str
    record: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Rejected:
    """An answer that is not good enough: a reason code, what was measured, the raw text."""

    reason: str
    value: object = None
    text: str = ""
    is_final: bool = False
    """The item is given up, however many attempts it has left."""


Verdict = Accepted | Rejected


class Work(Protocol):
    """A plan and a judge. Everything here is a pure function of its arguments and of the ledger.

    `rejected` are the reason codes of an item's earlier attempts, in order.
    """

    @property
    def n_items(self) -> int:
        """How many items there are to choose from."""

    def item_id(self, index: int) -> str:
        """Return an item's id; it ends in `-{index}`."""

    def leader(self, index: int) -> int | None:
        """Return the lower item that has to be decided before this one can be asked, if any."""

    def ask(self, index: int, rejected: Sequence[str]) -> Ask | Rejected:
        """Return the request of the next attempt, or why there can be none."""

    def examine(self, index: int, attempt: int, ask: Ask, completion: Completion) -> Verdict:
        """Judge an answer that ended by itself."""

    def note_accepted(self, index: int, offset: int) -> None:
        """Learn of an item that was added to the ledger, and where its line begins there."""

    def count_kept(self) -> int:
        """Count the accepted items that remain when duplicates go, the lowest of each staying."""


def server_seed(seed: int) -> int:
    """Return a seed cut to 31 bits: servers take a signed 32-bit number."""
    return seed & ((1 << _SEED_BITS) - 1)


def sampling_of_attempt(
    sampling: StorySampling, rejected: Sequence[str], seed: int
) -> CallSampling:
    """Return how the next attempt is drawn: with half as much room again after every cut."""
    room = int(sampling.max_tokens * _GROWTH ** rejected.count(TRUNCATED))
    return CallSampling(
        max_tokens=min(sampling.max_tokens_cap, room),
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        seed=server_seed(seed),
    )


def finish_fault(completion: Completion, ask: Ask) -> Rejected | None:
    """Return why an answer did not end by itself or holds nothing; None when all is well."""
    if ask.takes_any_ending and completion.finish_reason in ("stop", "length"):
        return None
    sampling = ask.sampling
    reason = _FINISH_FAULTS.get(completion.finish_reason)
    if reason is None:
        return None if completion.text.strip() else Rejected(EMPTY, None, completion.text)
    value: object = completion.finish_reason
    if reason == TRUNCATED:
        value = {
            "max_tokens": sampling.max_tokens,
            "reasoning_tokens": completion.usage.reasoning_tokens,
        }
    return Rejected(reason, value, completion.text)
