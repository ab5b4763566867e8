"""Take the thinking out of what a reasoning model wrote: `<think>…</think>` and its kin.

Only what stands after the thinking is an answer. Thinking that was never closed leaves none.
"""

import re
from dataclasses import dataclass, replace

from tinyllm.providers.base import Completion, estimate_tokens

_NAMES = ("think", "thinking", "thought", "reasoning")
THOUGHT_MARKERS = frozenset(
    [f"<{slash}{name}>" for name in _NAMES for slash in ("", "/")] + ["[THINK]", "[/THINK]"]
)
"""What opens and closes thinking, as models of several families spell it."""

_OPEN = rf"(?:<(?:{'|'.join(_NAMES)})>|\[THINK\])"
_CLOSE = rf"(?:</(?:{'|'.join(_NAMES)})>|\[/THINK\])"
_BLOCK = re.compile(rf"{_OPEN}(.*?)(?:{_CLOSE}|\Z)\s*", re.DOTALL)
_UP_TO_CLOSE = re.compile(rf"(.*?)(?:{_CLOSE}|\Z)\s*", re.DOTALL)
_MARKER = re.compile(rf"({_CLOSE})|{_OPEN}")
_OPEN_AT_END = re.compile(rf"{_OPEN}\s*\Z")


@dataclass(frozen=True, slots=True)
class Parted:
    """What a model wrote, in two."""

    thoughts: str
    answer: str


def part_thoughts(text: str, *, begins_inside: bool = False) -> Parted:
    """Part an answer from the thinking before or between.

    `begins_inside` says that the prompt opened the thinking already.
    """
    found: list[str] = []
    if begins_inside and (first := _UP_TO_CLOSE.match(text)) is not None:
        found.append(first.group(1))
        text = text[first.end() :]
    found += [block.group(1) for block in _BLOCK.finditer(text)]
    return Parted("".join(found), _BLOCK.sub("", text))


def opens_thoughts(prompt: str) -> bool:
    """Return whether a prompt ends where thinking has just begun."""
    return _OPEN_AT_END.search(prompt) is not None


def without_thoughts(completion: Completion) -> Completion:
    """Return a completion with its thinking taken out of the text, and marked so.

    Thinking that is closed and was never opened began in the prompt, which the server keeps to
    itself. Tokens of reasoning that the server did not count are estimated.
    """
    first = _MARKER.search(completion.text)
    begins_inside = first is not None and first.group(1) is not None
    parted = part_thoughts(completion.text, begins_inside=begins_inside)
    if parted.answer == completion.text:
        return completion
    n_tokens = completion.usage.reasoning_tokens or estimate_tokens(parted.thoughts)
    usage = replace(completion.usage, reasoning_tokens=n_tokens)
    return replace(completion, text=parted.answer, usage=usage, thoughts_removed=True)
