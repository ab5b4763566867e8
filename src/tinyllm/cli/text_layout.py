"""Text laid out in cells of a terminal: two columns of help, words wrapped as they stream in."""

import textwrap

_LEAST_SUMMARY = 28
"""Where a second column would be narrower, it stands below the first."""


def two_columns(rows: list[tuple[str, str]], width: int | None) -> str:
    """Lay names and summaries out in at most `width` columns; None: one line each."""
    left = max(len(name) for name, _ in rows) + 2
    if width is None:
        return "\n".join(f"{name:{left}}{summary}" for name, summary in rows)
    if width - left >= _LEAST_SUMMARY:
        return "\n".join(
            _filled(summary, width, f"{name:{left}}", " " * left) for name, summary in rows
        )
    return "\n".join(f"{name}\n{_filled(summary, width, '    ', '    ')}" for name, summary in rows)


def _filled(text: str, width: int, first: str, rest: str) -> str:
    return textwrap.fill(text, width, initial_indent=first, subsequent_indent=rest)


def printable(text: str) -> str:
    """Show control characters by their pictures, so that a model's text cannot steer a terminal.

    Line ends and tabs stay.
    """
    return text.translate(_PICTURES)


_PICTURES = {
    **{code: chr(0x2400 + code) for code in range(32) if chr(code) not in "\n\t"},
    0x7F: "\u2421",
    **dict.fromkeys(range(0x80, 0xA0), "\N{REPLACEMENT CHARACTER}"),
}


class WordWrap:
    """Put line ends between words that come in pieces; `width` cells a line, None for no limit.

    A word is held back until it is whole. One that is longer than a line is cut.
    """

    def __init__(self, width: int | None) -> None:
        self._width = width
        self._column = 0
        self._space = ""
        self._word = ""

    def push(self, text: str) -> str:
        """Take the next piece; return what can be written now."""
        if self._width is None:
            return text
        return "".join(self._take(character) for character in text.expandtabs(4))

    def flush(self) -> str:
        """Return the word that is held back, when no more text comes."""
        return self._end_word()

    def _take(self, character: str) -> str:
        if character == "\n":
            ended = self._end_word()
            self._column, self._space = 0, ""
            return ended + "\n"
        if character.isspace():
            ended = self._end_word()
            self._space += character
            return ended
        n_cells = _cells(character)
        is_joined = self._word.endswith("\N{ZERO WIDTH JOINER}")
        if not is_joined and (n_cells > 1 or _cells(self._word) + n_cells > (self._width or 0)):
            ended = self._end_word()  # before a wide character a line may end anywhere
            self._word = character
            return ended
        self._word += character
        return ""

    def _end_word(self) -> str:
        if not self._word:
            return ""
        word, n_cells = self._word, _cells(self._word)
        self._word = ""
        space, self._space = self._space, ""
        if self._column + len(space) + n_cells > (self._width or 0):
            self._column = n_cells
            return "\n" + word
        self._column += len(space) + n_cells
        return space + word


class Lines:
    """Text that comes in pieces as whole lines of at most `width` cells."""

    def __init__(self, width: int) -> None:
        self._wrap = WordWrap(width)
        self._open = ""

    def push(self, text: str) -> list[str]:
        """Take the next piece; return the lines that are whole with it."""
        *whole, self._open = (self._open + self._wrap.push(text)).split("\n")
        return whole

    def flush(self) -> list[str]:
        """Return what is left, at least one line."""
        return (self._open + self._wrap.flush()).split("\n")


def pad(text: str, width: int) -> str:
    """Fill a line with spaces up to `width` cells."""
    return text + " " * (width - _cells(text))


def _cells(text: str) -> int:
    from rich.cells import cell_len

    return cell_len(text)
