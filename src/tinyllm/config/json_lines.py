"""JSON with the line of every key, for messages that point at the place.

The standard parser decides what is valid; this room then walks the valid text a second time
and notes where each key and array item begins.
"""

import json
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import Any

Keys = tuple[str | int, ...]


def parse_with_lines(text: str) -> tuple[Any, dict[Keys, int]]:
    """Return the parsed value and the line (from 1) of each key path.

    Raises json.JSONDecodeError for invalid text and for a key that stands twice in one object.
    """
    value = json.loads(text)
    walker = _Walker(text)
    walker.value(0, ())
    return value, walker.lines


class _Walker:
    """Walk JSON text that is known to be valid."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.lines: dict[Keys, int] = {}

    def value(self, position: int, keys: Keys) -> int:
        """Skip one value that begins at or after `position`; return where it ends."""
        position = self._skip_space(position)
        self.lines.setdefault(keys, self._line(position))
        opening = self.text[position]
        if opening == "{":
            return self._object(position + 1, keys)
        if opening == "[":
            return self._array(position + 1, keys)
        if opening == '"':
            return int(scanstring(self.text, position + 1, True)[1])
        while position < len(self.text) and self.text[position] not in ",]} \t\r\n":
            position += 1
        return position

    def _object(self, position: int, keys: Keys) -> int:
        seen: set[str] = set()
        position = self._skip_space(position)
        while self.text[position] != "}":
            start = position
            key, position = scanstring(self.text, position + 1, True)
            if key in seen:
                raise json.JSONDecodeError(f"the key {key!r} stands here twice", self.text, start)
            seen.add(key)
            self.lines[(*keys, key)] = self._line(start)
            position = self._skip_space(position) + 1  # the colon
            position = self._skip_comma(self.value(position, (*keys, key)))
        return position + 1

    def _array(self, position: int, keys: Keys) -> int:
        position = self._skip_space(position)
        index = 0
        while self.text[position] != "]":
            position = self._skip_comma(self.value(position, (*keys, index)))
            index += 1
        return position + 1

    def _skip_space(self, position: int) -> int:
        while self.text[position] in " \t\r\n":
            position += 1
        return position

    def _skip_comma(self, position: int) -> int:
        position = self._skip_space(position)
        return self._skip_space(position + 1) if self.text[position] == "," else position

    def _line(self, position: int) -> int:
        return self.text.count("\n", 0, position) + 1
