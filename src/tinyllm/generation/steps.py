"""What drawing texts yields: one token at a time, or whole texts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tinyllm.generation.odds import TokenOdds

FinishReason = Literal["stop", "length", "stop_string", "loop"]
"""Why a text ended: an end token, no room or tokens left, a stop string, going round in a loop."""


@dataclass(frozen=True, slots=True)
class Step:
    """One token of one text, and the characters that are complete with it."""

    index: int
    sample: int
    token_id: int
    text: str
    finish_reason: FinishReason | None
    odds: TokenOdds | None = None


@dataclass(frozen=True, slots=True)
class Passage:
    """Tokens of one text that were drawn at one go, and the characters complete with the last.

    `odds` are those of each of `ids`, where they were asked for.
    """

    index: int
    sample: int
    ids: list[int]
    text: str
    finish_reason: FinishReason | None
    odds: list[TokenOdds]


@dataclass(frozen=True, slots=True)
class Completion:
    """A whole text. `ids` ends with the end token when the reason is "stop".

    `odds` are those of each of `ids`, where they were asked for.
    """

    index: int
    sample: int
    text: str
    ids: tuple[int, ...]
    finish_reason: FinishReason
    odds: tuple[TokenOdds, ...] | None = None


def join(steps: Sequence[Step]) -> Completion:
    """Put the steps of one whole text together."""
    last = steps[-1]
    if last.finish_reason is None:
        raise ValueError("the steps do not reach the end of the text")
    odds = tuple(step.odds for step in steps if step.odds is not None)
    return Completion(
        index=last.index,
        sample=last.sample,
        text="".join(step.text for step in steps),
        ids=tuple(step.token_id for step in steps),
        finish_reason=last.finish_reason,
        odds=odds or None,
    )


def join_passages(passages: Sequence[Passage]) -> Completion:
    """Put the passages of one whole text together."""
    last = passages[-1]
    if last.finish_reason is None:
        raise ValueError("the passages do not reach the end of the text")
    odds = tuple(one for passage in passages for one in passage.odds)
    return Completion(
        index=last.index,
        sample=last.sample,
        text="".join(passage.text for passage in passages),
        ids=tuple(token_id for passage in passages for token_id in passage.ids),
        finish_reason=last.finish_reason,
        odds=odds or None,
    )
