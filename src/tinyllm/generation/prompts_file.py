"""Files of prompts: `.txt` with one a line, `.jsonl` with one JSON value a line.

    Once upon a time                                                   the line is the prompt (.txt)
    "Once upon a time"                                                 the same in .jsonl
    {"prompt": "Why is the sky blue?", "id": "sky"}                    with a name of its own
    {"messages": [{"role": "user", "content": "Hello"}]}               a conversation to answer
    {"prompt": "Once", "sampling": {"temperature": 0.2, "seed": 3}}    settings for this line alone

A prompt without `id` is named by its line. Other keys of a line are left alone.
"""

import io
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from tinyllm.config.base import validate
from tinyllm.config.generation import Sampling
from tinyllm.config.layers import Layer
from tinyllm.errors import DataError
from tinyllm.files import os_error, require_file
from tinyllm.records import Message, Role

STANDARD_INPUT = Path("-")
"""The name that stands for standard input."""

_ROLES: dict[str, Role] = {role: role for role in get_args(Role)}
_FORM = 'Write {"prompt": "…"} or {"messages": […]} on every line.'


@dataclass(frozen=True, slots=True)
class Prompt:
    """One text to begin from, or messages to answer; `id` names it in the output."""

    id: str
    text: str = ""
    messages: tuple[Message, ...] = ()
    sampling: Sampling | None = None
    """Settings that go before those of all prompts."""

    def to_json(self) -> dict[str, object]:
        """Return what was asked, as it is written beside the answer."""
        if self.messages:
            return {"messages": [{"role": m.role, "content": m.content} for m in self.messages]}
        return {"prompt": self.text}


def read_prompts(path: Path) -> list[Prompt]:
    """Read the prompts of a file, or of standard input for `-`; skip blank lines.

    Standard input is read as .jsonl where every line of it is a JSON object. Raises DataError with
    file and line for a line that holds no prompt, and for a name that stands there twice.
    """
    if path == STANDARD_INPUT:
        name, text = "standard input", read_standard_input()
    else:
        name, text = str(path), _read(path)
    lines = [(i, line) for i, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not lines:
        raise DataError(f"{name} holds no prompt", "Write one prompt per line.")
    if path.suffix == ".jsonl" or (path == STANDARD_INPUT and all(map(_is_object, lines))):
        prompts = [_from_json(f"{name}:{i}", i, line) for i, line in lines]
    else:
        prompts = [Prompt(str(i), line.removesuffix("\r")) for i, line in lines]
    _require_names(prompts, [i for i, _ in lines], name)
    return prompts


def read_standard_input() -> str:
    """Return all of standard input; nothing where it is closed. Raises DataError for no UTF-8."""
    if sys.stdin is None:
        return ""
    if not isinstance(sys.stdin, io.TextIOWrapper):
        return str(sys.stdin.read())
    raw: bytes = sys.stdin.buffer.read()
    try:  # what Python makes of such bytes depends on the locale
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError("standard input is not UTF-8 text") from error
    return text.replace("\r\n", "\n")


def _read(path: Path) -> str:
    require_file(path, "prompts file")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text") from error
    except OSError as error:
        raise os_error(error, f"read {path}") from error


def _is_object(numbered: tuple[int, str]) -> bool:
    try:
        return isinstance(json.loads(numbered[1]), dict)
    except (ValueError, RecursionError):
        return False


def _require_names(prompts: Iterable[Prompt], lines: Iterable[int], name: str) -> None:
    """Refuse two prompts of one name: their answers could not be told apart."""
    seen: dict[str, int] = {}
    for prompt, line in zip(prompts, lines, strict=True):
        if prompt.id in seen:
            raise DataError(
                f"{name}:{line}: the id {prompt.id!r} stands in line {seen[prompt.id]} already",
                "Give every prompt an id of its own; one without an id is named by its line.",
            )
        seen[prompt.id] = line


def _from_json(place: str, number: int, line: str) -> Prompt:
    try:
        value: Any = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{place}: this is not valid JSON: {error.msg}") from error
    except RecursionError as error:
        raise DataError(f"{place}: this JSON is nested too deeply") from error
    except ValueError as error:  # json.loads has a limit of its own
        raise DataError(f"{place}: a number here has thousands of digits") from error
    if isinstance(value, str):
        return Prompt(str(number), value)
    if not isinstance(value, dict):
        raise DataError(f"{place}: no prompt here", _FORM)
    return Prompt(
        _name(place, value.get("id", number)),
        *_question(place, value),
        _own_sampling(place, value),
    )


def _name(place: str, value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise DataError(f"{place}: an id is a text or a whole number, found {value!r:.80}")
    return str(value)


def _question(place: str, value: dict[str, Any]) -> tuple[str, tuple[Message, ...]]:
    text, messages = value.get("prompt"), value.get("messages")
    if text is not None and messages is not None:
        raise DataError(f"{place}: prompt and messages exclude each other", "Give one of them.")
    if isinstance(text, str):
        return text, ()
    if messages is not None:
        return "", _messages(place, messages)
    raise DataError(f"{place}: no prompt here", _FORM)


def _messages(place: str, value: object) -> tuple[Message, ...]:
    turns: Sequence[object] = value if isinstance(value, list) else ()
    messages = tuple(_message(place, turn) for turn in turns)
    if not messages or messages[-1].role != "user":
        raise DataError(
            f"{place}: messages must be a list that ends with the user's",
            'As in [{"role": "user", "content": "Hello"}].',
        )
    return messages


def _message(place: str, value: object) -> Message:
    turn = value if isinstance(value, dict) else {}
    role, content = _ROLES.get(str(turn.get("role"))), turn.get("content")
    if role is None or not isinstance(content, str):
        raise DataError(
            f"{place}: not a message: {json.dumps(value, ensure_ascii=False):.80}",
            f"A message has a role ({', '.join(_ROLES)}) and its content, a text.",
        )
    return Message(role, content)


def _own_sampling(place: str, value: dict[str, Any]) -> Sampling | None:
    """Return the settings of one line. Raises ConfigError that names it."""
    misplaced = [key for key in value if key in Sampling.model_fields]
    if misplaced:
        key = misplaced[0]
        raise DataError(
            f"{place}: {key} is a setting of the line, and these stand under sampling",
            f'Write {{"sampling": {{"{key}": {json.dumps(value[key])}}}}}.',
        )
    own = value.get("sampling")
    if own is None:
        return None
    if not isinstance(own, dict):
        raise DataError(f"{place}: sampling must be an object, found {own!r:.80}")
    return validate(Sampling, [Layer(own, place)])
