"""What a judge is asked, in versioned files: `protocols/NAME.json`.

    {"name", "version", "kind": "grades", "source",
     "categories": ["grammar", …], "scale": [1, 10], "age_groups": true,
     "turns": ["… {story} … {nonce} …", "… {form}"],     asked one after the other
     "form": "Grammar: ?/10, …"}                         how the last reply is to look

A turn may hold {instruction}. The hash is of the content: grades of different hashes never meet.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from tinyllm.errors import ConfigError, DataError
from tinyllm.evaluation.story_evaluation.prompts import PromptSet
from tinyllm.files import read_json

SHIPPED = ("gpt-eval-2turn", "gpt-eval-json", "instruct", "pairwise-ab")
"""The protocols that ship."""

_DEFAULTS = {False: "gpt-eval-2turn", True: "instruct"}  # are the prompts instructions?
_HASH_DIGITS = 16
_TEXTS = ("name", "source", "form")


@dataclass(frozen=True, slots=True)
class Protocol:
    """A form of judging. Grades are whole or half numbers of `scale`, both ends allowed.

    Kind `pairs` has no grades: the judge names the better of two stories.
    """

    name: str
    version: int
    kind: str
    source: str
    categories: tuple[str, ...]
    scale: tuple[int, int]
    age_groups: bool
    turns: tuple[str, ...]
    form: str
    sha256: str

    @property
    def is_pairwise(self) -> bool:
        """Whether two stories are compared instead of one being graded."""
        return self.kind == "pairs"

    @property
    def is_for_instructions(self) -> bool:
        """Whether it grades stories that were written to order."""
        return any("{instruction}" in turn for turn in self.turns)

    @property
    def n_turns(self) -> int:
        """How many times the judge is asked for one subject."""
        return len(self.turns)

    def write(self, turn: int, values: Mapping[str, str]) -> str:
        """Return the message of a turn, its {names} replaced all at once."""
        text = self.turns[turn]
        given = {**values, "form": self.form}
        parts = []
        while text:
            before, brace, rest = text.partition("{")
            name, closing, after = rest.partition("}")
            parts.append(before)
            if closing and name in given:
                parts.append(given[name])
                text = after
            else:
                parts.append(brace)
                text = rest
        return "".join(parts)

    def to_json(self) -> dict[str, Any]:
        """Return what names the protocol."""
        return {
            "name": self.name,
            "version": self.version,
            "sha256": self.sha256,
            "source": self.source,
            "categories": list(self.categories),
            "scale": list(self.scale),
        }


@cache
def read_protocol(name: str) -> Protocol:
    """Read a protocol that ships, by name, or a file. Raises DataError."""
    if name in SHIPPED:
        place = files("tinyllm.evaluation.story_evaluation").joinpath(f"protocols/{name}.json")
        return _protocol(name, json.loads(place.read_text(encoding="utf-8")))
    if not Path(name).suffix:
        raise DataError(
            f"there is no protocol {name!r}", f"Take {', '.join(SHIPPED)}, or a file of your own."
        )
    return _protocol(name, read_json(Path(name)))


def protocol_for(name: str | None, prompts: PromptSet) -> Protocol:
    """Return the protocol that was named, or the one that suits the prompts.

    Raises ConfigError for one that does not suit them, DataError for what is no protocol.
    """
    kinds = {prompt.is_instruction for prompt in prompts.prompts}
    if len(kinds) > 1:
        raise ConfigError(
            f"{prompts.name} holds beginnings and instructions, and no protocol is for both",
            "Put them in two files.",
        )
    default = _DEFAULTS[kinds.pop()]
    protocol = read_protocol(name or default)
    if protocol.is_for_instructions != (default == _DEFAULTS[True]):
        what = "instructions" if protocol.is_for_instructions else "beginnings"
        raise ConfigError(
            f"protocol {protocol.name} is for {what}, and {prompts.name} holds none",
            f"Take {default}.",
        )
    return protocol


def _protocol(place: str, value: Any) -> Protocol:
    try:
        low, high = value["scale"]
        protocol = Protocol(
            **{key: str(value[key]) for key in _TEXTS},
            version=int(value["version"]),
            kind=str(value["kind"]),
            categories=tuple(map(str, value["categories"])),
            scale=(int(low), int(high)),
            age_groups=bool(value["age_groups"]),
            turns=tuple(map(str, value["turns"])),
            sha256=hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[
                :_HASH_DIGITS
            ],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{place} is no protocol: {type(error).__name__} {error}",
            "Copy one of those that ship and change it.",
        ) from error
    if not protocol.turns or (protocol.kind == "grades") != bool(protocol.categories):
        raise DataError(f"{place} is no protocol: it needs turns, and categories to grade")
    if protocol.kind not in ("grades", "pairs") or low >= high:
        raise DataError(f"{place} is no protocol: kind is grades or pairs, and scale is low, high")
    return protocol
