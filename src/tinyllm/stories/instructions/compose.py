"""Which parts an instruction has, and how it is put. All language is in wordings.json.

An instruction is a pure function of the seed, the story and its number among those of the
story: no order of work and no other story changes it.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from random import Random
from typing import Any

from tinyllm.config.instructions import PartShares
from tinyllm.seeding import random_for
from tinyllm.stories.instructions.record import StoryRecord

PARTS = ("words", "features", "sentence", "summary")
_SAME_AGAIN = 8


@dataclass(frozen=True, slots=True)
class Instruction:
    """What is asked for. `parts` holds the values that the text names."""

    text: str
    wording: str
    parts: Mapping[str, Any]


@cache
def wordings() -> dict[str, Any]:
    """Return the content of wordings.json."""
    content: dict[str, Any] = json.loads(_wordings_text())
    return content


def wordings_sha() -> str:
    """Return the SHA-256 of wordings.json, in hex."""
    return hashlib.sha256(_wordings_text().encode()).hexdigest()


def _wordings_text() -> str:
    place = files("tinyllm.stories.instructions").joinpath("wordings.json")
    return place.read_text(encoding="utf-8")


def compose(
    record: StoryRecord, shares: PartShares, allowed: Sequence[str], seed: int, n_wanted: int
) -> list[Instruction]:
    """Return up to `n_wanted` different instructions for a story, in one of the `allowed` wordings.

    None for a story that has nothing to ask for; fewer where no other can be drawn.
    """
    found: dict[str, Instruction] = {}
    for draw in range(n_wanted * _SAME_AGAIN):
        if len(found) == n_wanted:
            break
        random = random_for(seed, f"instruction {record.text_hash}", draw)
        instruction = _draw(record, shares, allowed, random)
        if instruction is None:
            break
        found.setdefault(instruction.text, instruction)
    return list(found.values())


def _draw(
    record: StoryRecord, shares: PartShares, allowed: Sequence[str], random: Random
) -> Instruction | None:
    there = [name for name in PARTS if getattr(record, name) and getattr(shares, name) > 0]
    if not there:
        return None
    chosen = [name for name in there if random.random() < getattr(shares, name)]
    chosen = chosen or random.choices(there, [getattr(shares, name) for name in there])
    random.shuffle(chosen)
    parts = {name: getattr(record, name) for name in chosen}
    if "words" in parts:
        parts["words"] = tuple(random.sample(record.words, len(record.words)))
    wording = random.choice(allowed)
    return Instruction(write(wording, parts), wording, parts)


def write(wording: str, parts: Mapping[str, Any]) -> str:
    """Put parts into words, in their order."""
    style = wordings()[wording]
    names = style.get("features", wordings()["features"])
    text = str(style["begin"])
    for place, (part, value) in enumerate(parts.items()):
        sentences = style["first"] if place == 0 else style.get("then", style["first"])
        if part == "features":
            value = [names[name] for name in value]
        joined = value if isinstance(value, str) else ", ".join(value)
        text += str(sentences[part]).replace(f"{{{part}}}", joined)
    return text + str(style["end"])
