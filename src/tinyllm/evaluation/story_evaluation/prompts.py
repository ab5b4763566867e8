"""What stories are begun with: our beginnings and instructions, or a file of others'.

    {"version": 1, "prompts": [{"id": "fact-01", "prompt": "It was winter and …"},
                               {"id": "i-1", "instruction": "Write …", "words": ["fox"]}]}

A `.jsonl` file holds such prompts line by line. A `.yaml` file holds a list of texts, as the
authors of TinyStories (arXiv:2305.07759) publish theirs, and a `.txt` file one text a line.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from tinyllm.byte_level import without_surrogates
from tinyllm.errors import DataError
from tinyllm.files import os_error, require_file

SHIPPED = {"beginnings": "evaluation_prompts.json", "instructions": "instruction_prompts.json"}
"""The names of the sets that ship, and their files in this package."""

_FORM = 'Write {"id": …, "prompt": …} or {"id": …, "instruction": …}, or a YAML list of texts.'
_HASH_DIGITS = 16


@dataclass(frozen=True, slots=True)
class StoryPrompt:
    """The beginning of a story to go on from, or an instruction to follow."""

    id: str
    text: str
    is_instruction: bool = False
    words: tuple[str, ...] = ()
    features: tuple[str, ...] = ()


@dataclass(frozen=True)
class PromptSet:
    """Prompts in their order; `sha256` is of their content, whatever file they came from."""

    name: str
    version: int | None
    prompts: tuple[StoryPrompt, ...]
    sha256: str

    def first(self, n: int | None) -> "PromptSet":
        """Return the set cut to its first n prompts; None takes all."""
        return _prompt_set(self.name, self.version, self.prompts[:n])

    def to_json(self) -> dict[str, Any]:
        """Return what names the set, without the prompts."""
        return {
            "name": self.name,
            "version": self.version,
            "sha256": self.sha256,
            "n_prompts": len(self.prompts),
        }


def read_prompt_set(name: str) -> PromptSet:
    """Read one of the sets that ship, by name, or a file. Raises DataError."""
    if name in SHIPPED:
        text = files("tinyllm.evaluation.story_evaluation").joinpath(SHIPPED[name]).read_text()
        return _from_object(name, name, json.loads(text))
    path = Path(name)
    require_file(path, "file of story prompts")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text") from error
    except OSError as error:
        raise os_error(error, f"read {path}") from error
    return _READERS.get(path.suffix, _from_json)(path, text)


def _from_json(path: Path, text: str) -> PromptSet:
    return _from_object(str(path), path.name, _parsed(str(path), text))


def _from_json_lines(path: Path, text: str) -> PromptSet:
    lines = ((i, line) for i, line in enumerate(text.splitlines(), 1) if line.strip())
    return _from_rows(
        path.name, None, [(f"{path}:{i}", _parsed(f"{path}:{i}", line)) for i, line in lines]
    )


def _from_text(path: Path, text: str) -> PromptSet:
    lines = [(f"{path}:{i}", line) for i, line in enumerate(text.splitlines(), 1) if line.strip()]
    return _from_rows(path.name, None, lines)


def _from_yaml(path: Path, text: str) -> PromptSet:
    import yaml

    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path}: this is not valid YAML: {first}") from error
    return _from_object(str(path), path.name, value)


_READERS = {
    ".jsonl": _from_json_lines,
    ".txt": _from_text,
    ".yaml": _from_yaml,
    ".yml": _from_yaml,
}


def _parsed(place: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place}: this is not valid JSON: {error}") from error


def _from_object(place: str, name: str, value: Any) -> PromptSet:
    version = None
    if isinstance(value, dict):
        version = value.get("version")
        value = value.get("prompts")
    if not isinstance(value, list):
        raise DataError(f"{place}: no list of prompts here", _FORM)
    if not isinstance(version, int | None):
        raise DataError(f"{place}: a version is a whole number, found {version!r:.40}")
    rows = [(f"{place}: prompt {i}", row) for i, row in enumerate(value, 1)]
    return _from_rows(name, version, rows)


def _from_rows(name: str, version: int | None, rows: Sequence[tuple[str, Any]]) -> PromptSet:
    prompts = tuple(_prompt(place, i, row) for i, (place, row) in enumerate(rows, 1))
    if not prompts:
        raise DataError(f"{name} holds no prompt", _FORM)
    seen: set[str] = set()
    for (place, _), prompt in zip(rows, prompts, strict=True):
        if prompt.id in seen:
            raise DataError(f"{place}: the id {prompt.id!r} stands there twice")
        seen.add(prompt.id)
    return _prompt_set(name, version, prompts)


def _prompt(place: str, number: int, row: Any) -> StoryPrompt:
    if isinstance(row, str):
        row = {"prompt": row}
    if not isinstance(row, dict):
        raise DataError(f"{place}: no prompt here: {row!r:.60}", _FORM)
    is_instruction = "instruction" in row
    text = row.get("instruction") if is_instruction else row.get("prompt", row.get("text"))
    if not isinstance(text, str) or not text.strip():
        raise DataError(f"{place}: no prompt here: {json.dumps(row, default=str):.60}", _FORM)
    name = row.get("id", number)
    if isinstance(name, bool) or not isinstance(name, str | int):
        raise DataError(f"{place}: an id is a text or a whole number, found {name!r:.40}")
    return StoryPrompt(
        str(name),
        without_surrogates(text if is_instruction else text.rstrip()),
        is_instruction,
        _texts(place, row, "words"),
        _texts(place, row, "features"),
    )


def _texts(place: str, row: dict[str, Any], key: str) -> tuple[str, ...]:
    values = row.get(key, [])
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise DataError(f"{place}: {key} is a list of texts, found {values!r:.60}")
    return tuple(values)


def _prompt_set(name: str, version: int | None, prompts: Iterable[StoryPrompt]) -> PromptSet:
    kept = tuple(prompts)
    rows = [[p.id, p.text, p.is_instruction, p.words, p.features] for p in kept]
    digest = hashlib.sha256(json.dumps(rows).encode()).hexdigest()
    return PromptSet(name, version, kept, digest[:_HASH_DIGITS])
