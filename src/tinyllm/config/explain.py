"""From pydantic's errors to sentences: where, what was found, what is allowed, what was meant."""

import difflib
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tinyllm.config.fields import all_paths, allowed_values, field_at, names_at
from tinyllm.config.layers import MISSING, REQUIRED, Keys, Layer
from tinyllm.errors import ConfigError

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError
    from pydantic_core import ErrorDetails

_MOST_SHOWN = 5
_TYPE_NAMES = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "a string",
    "tuple_type": "an array",
    "list_type": "an array",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "finite_number": "a finite number",
    "is_instance_of": "a path",
    "path_type": "a path",
}
_BOUNDS = {
    "greater_than": ("gt", "more than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}


def explain(
    error: "ValidationError", schema: "type[BaseModel]", layers: Sequence[Layer]
) -> ConfigError:
    """Turn a validation error into one ConfigError, a line per fault, with one hint."""
    faults: dict[str, str | None] = {}
    every = error.errors()
    for details in every:
        if details["type"] == "too_short" and any(_is_within(one, details) for one in every):
            continue  # what was given is at fault, and told of
        sentence, hint = _fault(details, schema, layers)
        faults.setdefault(sentence, hint)
    sentences = list(faults)
    if len(sentences) > _MOST_SHOWN:
        more = len(sentences) - _MOST_SHOWN
        sentences = [*sentences[:_MOST_SHOWN], f"… and {more} more"]
    hint = next((hint for hint in faults.values() if hint), None)
    return ConfigError("\n".join(sentences), hint)


def unfinished(
    places: Sequence[Keys], schema: "type[BaseModel]", layers: Sequence[Layer]
) -> ConfigError:
    """Say where a fresh config file has not been filled in."""
    sentences = []
    for keys in places:
        layer = _source(keys, layers)
        place = f"{layer.place(keys)}: " if layer is not None else ""
        sentences.append(f"{place}`{_dotted(keys)}`: replace {REQUIRED} by a value of your own")
    return ConfigError("\n".join(sentences), _describe(schema, places[0]))


def _fault(
    details: "ErrorDetails", schema: "type[BaseModel]", layers: Sequence[Layer]
) -> tuple[str, str | None]:
    kind = details["type"]
    keys = _real_keys(details["loc"], schema, kind)
    layer = _source(keys, layers)
    dotted = _dotted(keys)
    if kind == "missing":
        owner = next((x for x in reversed(layers) if x.lines and x.find(keys[:-1])), None)
        place = f"{owner.place(keys[:-1])}: " if owner else ""
        return f"{place}`{dotted}` is required and was not given", _describe(schema, keys)
    place = f"{layer.place(keys) if keys else layer.label}: " if layer is not None else ""
    if kind == "extra_forbidden":
        return f"{place}unknown key `{dotted}`", _nearest(schema, keys)
    if kind == "value_error":
        message = str(details["ctx"]["error"]) if "ctx" in details else details["msg"]
        cause = details.get("ctx", {}).get("error")
        return f"{place}{_name(dotted)}{message}", getattr(cause, "hint", None)
    found = _show(details["input"])
    allowed = _allowed(details, schema, keys)
    return f"{place}{_name(dotted)}must be {allowed}, found {found}", _describe(schema, keys)


def _is_within(inner: "ErrorDetails", outer: "ErrorDetails") -> bool:
    """Whether a fault lies in an element of what another fault is of."""
    n = len(outer["loc"])
    return len(inner["loc"]) > n and inner["loc"][:n] == outer["loc"]


def _source(keys: Keys, layers: Sequence[Layer]) -> Layer | None:
    """Return the layer that a fault came from; for one of the whole config, the file.

    A layer without a label, the arguments of a Python call, is not told of.
    """
    if not keys:
        return next((x for x in reversed(layers) if x.lines), None)
    found = next((x for x in reversed(layers) if x.find(keys) is not MISSING), None)
    return found if found is not None and found.label else None


def _real_keys(loc: tuple[int | str, ...], schema: "type[BaseModel]", kind: str) -> Keys:
    """Drop the names that pydantic puts into a place for the members of a union."""
    keys: list[int | str] = []
    for position, part in enumerate(loc):
        is_last_extra = kind == "extra_forbidden" and position == len(loc) - 1
        if isinstance(part, int) or is_last_extra or field_at(schema, [*keys, part]) is not None:
            keys.append(part)
    return tuple(keys)


def _allowed(details: "ErrorDetails", schema: "type[BaseModel]", keys: Keys) -> str:
    kind, context = details["type"], details.get("ctx", {})
    info = field_at(schema, keys)
    choices = allowed_values(info.annotation) if info is not None else []
    if kind in _BOUNDS:
        key, words = _BOUNDS[kind]
        return f"{words} {context[key]}"
    if choices:
        return "one of " + ", ".join(choices)
    if kind in _TYPE_NAMES:
        return _TYPE_NAMES[kind]
    if kind == "string_too_short":
        least = context["min_length"]
        return f"at least {least} character{'s' if least > 1 else ''} long"
    if kind == "string_pattern_mismatch":
        return f"of the form {context['pattern']}"
    message = details["msg"]
    return message.removeprefix("Input should be ").removeprefix("a valid ")


def _nearest(schema: "type[BaseModel]", keys: Keys) -> str | None:
    key = str(keys[-1])
    siblings = names_at(schema, keys[:-1])
    close = difflib.get_close_matches(key, siblings, n=1, cutoff=0.6)
    if close:
        return f"Did you mean `{_dotted((*keys[:-1], close[0]))}`?"
    elsewhere = [path for path in all_paths(schema) if path.rsplit(".", 1)[-1] == key]
    if elsewhere:
        return f"Did you mean `{elsewhere[0]}`?"
    paths = {path.rsplit(".", 1)[-1]: path for path in all_paths(schema)}
    near = difflib.get_close_matches(key, list(paths), n=1, cutoff=0.7)
    if near:
        return f"Did you mean `{paths[near[0]]}`?"
    return f"Known keys here: {', '.join(siblings)}." if siblings else None


def _describe(schema: "type[BaseModel]", keys: Keys) -> str | None:
    info = field_at(schema, keys)
    return f"{_dotted(keys)}: {info.description}" if info is not None and info.description else None


def _name(dotted: str) -> str:
    return f"`{dotted}`: " if dotted else ""


def _dotted(keys: Keys) -> str:
    text = ""
    for key in keys:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else str(key)
    return text


def _show(value: Any) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
    except (TypeError, ValueError):
        text = repr(value)
    return text if len(text) <= 80 else text[:77] + "…"
