"""JSON objects in running text: found by their braces, braces inside of strings aside."""

import json
from collections.abc import Iterator
from typing import Any

_DEEPEST = 20


class NotJson:
    """Stands for braces that hold no JSON."""


def objects_in(text: str) -> "Iterator[dict[str, Any] | NotJson]":
    """Yield the outermost `{…}` of a text in order, parsed."""
    position = 0
    while (begin := text.find("{", position)) >= 0:
        end = _end_of(text, begin)
        if end is None:
            position = begin + 1
            continue
        yield _parsed(text[begin:end])
        position = end


def is_cut(text: str) -> bool:
    """Whether a text has an object that begins and does not end, as when an answer broke off."""
    position = 0
    while (begin := text.find("{", position)) >= 0:
        end = _end_of(text, begin)
        if end is None:
            return text[begin + 1 :].lstrip()[:1] in ('"', "'", "")
        position = end
    return False


def _end_of(text: str, begin: int) -> int | None:
    """Return where the object that begins there ends; None where it does not."""
    depth, in_string, position = 0, False, begin
    while position < len(text):
        letter = text[position]
        if in_string:
            if letter == "\\":
                position += 1
            elif letter == '"':
                in_string = False
        elif letter == '"':
            in_string = True
        elif letter == "{":
            depth += 1
        elif letter == "}":
            depth -= 1
            if depth == 0:
                return position + 1
        position += 1
    return None


def _parsed(text: str) -> "dict[str, Any] | NotJson":
    if text.count("{") > _DEEPEST:
        return NotJson()
    try:
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return NotJson()
    return value if isinstance(value, dict) else NotJson()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for name, inner in pairs:
        while name in value and value[name] != inner:
            name = f"{name} "  # read like the first one, and found to differ from it
        value[name] = inner
    return value


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")
