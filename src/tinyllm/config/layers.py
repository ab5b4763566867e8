"""Layers of configuration before they are checked: files, `--set` strings, flags.

A layer knows where it came from and, for files, on which line every key stands, so that a
message can point at the place to mend.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyllm.config.json_lines import parse_with_lines
from tinyllm.errors import ConfigError, DataError
from tinyllm.files import os_error, require_file

if TYPE_CHECKING:
    from pydantic import BaseModel

Keys = tuple[str | int, ...]
MISSING = object()
REQUIRED = "REQUIRED"
"""What a fresh config file holds where the user has to put something."""


class FileString(str):
    """A string read from a config file; `folder` is where that file lies."""

    folder: Path

    def __new__(cls, text: str, folder: Path) -> "FileString":
        """Remember the folder beside the text."""
        instance = super().__new__(cls, text)
        instance.folder = folder
        return instance


@dataclass(frozen=True)
class Layer:
    """Values from one place; `lines` gives the line of each key when the place is a file."""

    values: Mapping[str, Any]
    label: str
    lines: Mapping[Keys, int] = field(default_factory=dict)

    @classmethod
    def from_flags(cls, flags: Mapping[str, object]) -> "Layer":
        """Turn dotted flags into a layer; None means that a flag was not given."""
        values: dict[str, Any] = {}
        for dotted, value in flags.items():
            if value is not None:
                _put(values, dotted.split("."), value)
        return cls(values, "the command line")

    def find(self, keys: Keys) -> object:
        """Return the value at `keys`, or MISSING."""
        value: object = self.values
        for key in keys:
            if isinstance(value, Mapping):
                value = value.get(key, MISSING)
            elif isinstance(value, Sequence) and isinstance(key, int) and key < len(value):
                value = value[key]
            else:
                return MISSING
        return value

    def place(self, keys: Keys) -> str:
        """Name the place of `keys`, or of the nearest key around them: `file.json:12`."""
        for end in range(len(keys), -1, -1):
            if keys[:end] in self.lines:
                return f"{self.label}:{self.lines[keys[:end]]}"
        return self.label


def read_layers(path: Path) -> list[Layer]:
    """Read a config file and the files it extends, the most basic first.

    Raises ConfigError for JSON that is broken, is not an object, or extends itself.
    """
    layers: list[Layer] = []
    seen: list[Path] = []
    current: Path | None = path
    while current is not None:
        if current.resolve() in seen:
            raise ConfigError(f"{current} extends itself", "Remove one `extends`.")
        seen.append(current.resolve())
        layer, current = _read_file(current)
        layers.append(layer)
    return layers[::-1]


def _read_file(path: Path) -> tuple[Layer, Path | None]:
    try:
        require_file(path, "config file")
    except DataError as error:
        raise ConfigError(error.message, error.hint) from error
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path} is not UTF-8 text, so it is not a config file",
            "A config is a JSON file; `tinyllm config init` writes one.",
        ) from error
    except OSError as error:
        raise os_error(error, f"read {path}") from error
    if not text.strip():
        raise ConfigError(
            f"{path} is empty", "A config is a JSON object; `tinyllm config init` writes one."
        )
    try:
        parsed, lines = parse_with_lines(text)
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"{path}:{error.lineno}: this is not valid JSON: {error.msg} (column {error.colno})",
            _json_hint(text, error),
        ) from error
    except RecursionError as error:
        raise ConfigError(f"{path}: this JSON is nested too deeply") from error
    except ValueError as error:  # json.loads has a limit of its own
        raise ConfigError(f"{path}: a number here has thousands of digits") from error
    if not isinstance(parsed, dict):
        raise ConfigError(f"{path}: a config is a JSON object, found {_kind(parsed)}")
    values = {key: value for key, value in parsed.items() if key != "$schema"}
    extends = values.pop("extends", None)
    if extends is not None and not isinstance(extends, str):
        raise ConfigError(f"{path}: extends must be the path of a file, found {extends!r}")
    layer = Layer(_locate(values, path.parent), str(path), lines)
    return layer, path.parent / extends if extends else None


def _json_hint(text: str, error: json.JSONDecodeError) -> str | None:
    before = text[: error.pos].rstrip()
    if before.endswith(",") and text[error.pos : error.pos + 1] in "}]":
        return "Remove the comma before the closing bracket."
    if text[error.pos : error.pos + 2] in ("//", "/*") or text[error.pos : error.pos + 1] == "#":
        return "JSON has no comments: remove this one."
    if text[error.pos : error.pos + 1] == "'":
        return "JSON wants double quotes."
    return None


def set_layer(text: str, schema: "type[BaseModel]") -> Layer:
    """Read one `a.b=value`. Raises ConfigError without `=` or key."""
    from tinyllm.config.fields import accepts, field_at

    dotted, equals, raw = text.partition("=")
    if not equals or not dotted.strip():
        raise ConfigError(f"--set takes key=value, found {text!r}", "For example --set seed=7")
    keys = dotted.strip().split(".")
    try:
        value: Any = json.loads(raw)
    except (ValueError, RecursionError):  # no JSON, a number of thousands of digits, too deep
        value = raw
    found = field_at(schema, keys)
    if found is not None and not isinstance(value, str) and not accepts(found, value):
        value = raw if accepts(found, raw) else value
    values: dict[str, Any] = {}
    _put(values, keys, value)
    return Layer(values, f"--set {text}")


def placeholders(value: object, keys: Keys = ()) -> Iterator[Keys]:
    """Yield where a value still holds the placeholder of a fresh config file."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from placeholders(inner, (*keys, key))
    elif isinstance(value, tuple):
        for index, inner in enumerate(value):
            yield from placeholders(inner, (*keys, index))
    elif isinstance(value, FileString) and value == REQUIRED:
        yield keys


def merge(layers: Iterable[Layer]) -> dict[str, Any]:
    """Lay layers over each other: objects merge key by key, everything else is replaced."""
    merged: dict[str, Any] = {}
    for layer in layers:
        _merge_into(merged, layer.values)
    return merged


def _merge_into(target: dict[str, Any], values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        if isinstance(value, Mapping):
            inner = target.get(key)
            target[key] = dict(inner) if isinstance(inner, dict) else {}
            _merge_into(target[key], value)
        else:
            target[key] = _freeze(value)


def _freeze(value: Any) -> Any:
    """Make lists tuples, as the schemas want them."""
    return tuple(_freeze(item) for item in value) if isinstance(value, list | tuple) else value


def _locate(value: Any, folder: Path) -> Any:
    if isinstance(value, str):
        return FileString(value, folder)
    if isinstance(value, dict):
        return {key: _locate(item, folder) for key, item in value.items()}
    if isinstance(value, list):
        return [_locate(item, folder) for item in value]
    return value


def _put(values: dict[str, Any], keys: Sequence[str], value: object) -> None:
    for key in keys[:-1]:
        inner = values.setdefault(key, {})
        if not isinstance(inner, dict):
            inner = values[key] = {}
        values = inner
    values[keys[-1]] = value


def _kind(value: object) -> str:
    names = {list: "an array", str: "a string", bool: "a truth value", type(None): "null"}
    return names.get(type(value), "a number")
