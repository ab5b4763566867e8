"""The principles that stories are criticised by, and which of them are drawn for a story.

    {"name", "version", "principles": [
        {"id", "name", "critique", "revise", "weight": 1,
         "applies_to": {"mentions": ["dialogue"], "omits": ["moral"]}}]}

`applies_to` looks at the prompt: one of `mentions` has to stand in it, none of `omits` may. Without
it a principle is for every story. A constitution is known by the hash of its content.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from tinyllm.errors import DataError
from tinyllm.files import read_json
from tinyllm.seeding import random_for

_ID = re.compile(r"[a-z][a-z0-9_]*")
_TEXTS = ("name", "critique", "revise")
_KEYS = frozenset(("id", *_TEXTS, "weight", "applies_to"))
WHOLE = "whole"
"""Stands for all principles where a story is judged as a whole; no principle is called so."""


@dataclass(frozen=True, slots=True)
class Principle:
    """One rule of good writing: how to look for what breaks it, and how to mend that."""

    id: str
    name: str
    critique: str
    revise: str
    weight: float = 1.0
    mentions: tuple[str, ...] = ()
    omits: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """The line by which a message names it."""
        return f"{self.id}: {self.name}"

    def applies(self, prompt: str) -> bool:
        """Whether stories for this prompt are to be looked at by it."""
        if any(_stands_in(words, prompt) for words in self.omits):
            return False
        return not self.mentions or any(_stands_in(words, prompt) for words in self.mentions)


def _stands_in(words: str, prompt: str) -> bool:
    return re.search(rf"\b{re.escape(words)}\b", prompt, re.IGNORECASE) is not None


@dataclass(frozen=True)
class Constitution:
    """Principles, with the hash of all that they say."""

    name: str
    version: int
    principles: tuple[Principle, ...]
    sha256: str

    def named(self, principle_id: str) -> Principle:
        """Return a principle by its id. Raises KeyError."""
        return {principle.id: principle for principle in self.principles}[principle_id]

    def draw(self, task_id: str, prompt: str, n: int, seed: int) -> tuple[Principle, ...]:
        """Draw up to `n` principles that apply, by weight and without replacement.

        The draw is a function of the seed and the task (Efraimidis and Spirakis 2006,
        doi:10.1016/j.ipl.2005.11.003: the smallest of -ln(u)/weight come first).
        """
        random = random_for(seed, f"principles {task_id}")
        keyed = [
            (-math.log(1 - random.random()) / principle.weight, number, principle)
            for number, principle in enumerate(self.principles)
        ]
        fitting = [principle for _, _, principle in sorted(keyed) if principle.applies(prompt)]
        return tuple(fitting[:n])

    def to_json(self) -> dict[str, Any]:
        """Return what names it."""
        ids = [principle.id for principle in self.principles]
        return {
            "name": self.name,
            "version": self.version,
            "sha256": self.sha256,
            "principles": ids,
        }


def read_constitution(path: Path | None) -> Constitution:
    """Read a file, or the constitution that ships. Raises DataError for what is none."""
    if path is not None:
        return _constitution(str(path), read_json(path))
    shipped = files("tinyllm.stories.revision").joinpath("constitution.json")
    return _constitution("constitution.json", json.loads(shipped.read_text(encoding="utf-8")))


def _constitution(place: str, value: Any) -> Constitution:
    try:
        principles = tuple(_principle(place, row) for row in value["principles"])
        name, version = str(value["name"]), int(value["version"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{place} is no constitution: {type(error).__name__} {error}",
            'It is {"name", "version", "principles": [{"id", "name", "critique", "revise"}, …]}.',
        ) from error
    ids = [principle.id for principle in principles]
    twice = sorted({i for i in ids if ids.count(i) > 1})
    if not ids or twice:
        what = f"principle {twice[0]} stands in it twice" if twice else "it holds no principles"
        raise DataError(f"{place} is no constitution: {what}", "Give each an id of its own.")
    content = json.dumps(value, sort_keys=True)
    return Constitution(name, version, principles, hashlib.sha256(content.encode()).hexdigest())


def _principle(place: str, row: Mapping[str, Any]) -> Principle:
    unknown = sorted(set(row) - _KEYS)
    principle_id, weight = str(row["id"]), float(row.get("weight", 1))
    applies = row.get("applies_to") or {}
    fault = None
    if unknown:
        fault = f"it has a key {unknown[0]!r}"
    elif not _ID.fullmatch(principle_id) or principle_id == WHOLE:
        fault = "an id is of small letters, digits and _, and not `whole`"
    elif any(not isinstance(row[name], str) or not row[name].strip() for name in _TEXTS):
        fault = "name, critique and revise hold text"
    elif not 0 < weight < math.inf:
        fault = f"its weight is {weight}, and weights are above 0"
    elif not set(applies) <= {"mentions", "omits"}:
        fault = "applies_to holds mentions and omits"
    if fault is not None:
        raise DataError(f"{place}: principle {principle_id!r}: {fault}")
    return Principle(
        principle_id,
        **{name: row[name].strip() for name in _TEXTS},
        weight=weight,
        mentions=tuple(map(str, applies.get("mentions", ()))),
        omits=tuple(map(str, applies.get("omits", ()))),
    )
