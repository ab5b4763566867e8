"""Text laid out in cells of a terminal: tables, help, words wrapped as they stream in."""

import textwrap
from collections.abc import Iterator, Sequence
from itertools import chain, zip_longest

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


def broken(line: str, width: int | None) -> str:
    """Break a line between words into lines of `width` cells; what follows is set in."""
    return line if width is None or len(line) <= width else _filled(line, width, "", " " * 4)


def _filled(text: str, width: int, first: str, rest: str) -> str:
    return textwrap.fill(
        text,
        width,
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,  # a path can be copied whole
        break_on_hyphens=False,
    )


_Row = tuple[str, ...]


def fitted_table(rows: Sequence[_Row], header: _Row | None, width: int | None) -> str:
    """Lay rows out in columns, the first to the left, the others to the right.

    Where that is wider than `width` cells, the header takes several lines; where it still is, each
    row's first cell stands on a line of its own; at last every cell stands beside its name.
    """
    lines: list[str] = []
    for lines in _layouts(rows, header):
        if width is None or max(map(_cells, lines)) <= width:
            break
    return "\n".join(line.rstrip() for line in lines)


def _layouts(rows: Sequence[_Row], header: _Row | None) -> Iterator[list[str]]:
    """Yield a table as lines, in one way after another, each narrower than the one before."""
    yield _aligned([header, *rows] if header else rows)
    if header is None:
        yield [line for first, *rest in rows for line in (first, *(f"  {cell}" for cell in rest))]
        return
    yield _aligned([*_broken(header, rows), *rows])
    bodies = [("", *row[1:]) for row in rows]
    names = _broken(("", *header[1:]), bodies)
    lines = _aligned([*names, *bodies])
    rows_below = zip((row[0] for row in rows), lines[len(names) :], strict=True)
    yield [header[0], *lines[: len(names)], *chain.from_iterable(rows_below)]
    left = max(map(_cells, header[1:]))
    yield [
        line
        for first, *rest in rows
        for line in (
            first,
            *(f"  {pad(name, left)}  {cell}" for name, cell in zip(header[1:], rest, strict=True)),
        )
    ]


def _aligned(rows: Sequence[_Row]) -> list[str]:
    widths = [max(map(_cells, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            [
                pad(row[0], widths[0]),
                *(_pad_left(cell, n) for cell, n in zip(row[1:], widths[1:], strict=True)),
            ]
        )
        for row in rows
    ]


def _broken(header: _Row, rows: Sequence[_Row]) -> list[_Row]:
    """Return a header as rows no wider than their columns' cells, where words allow it."""
    columns = zip(*rows, strict=True) if rows else ((name,) for name in header)
    parts = [
        textwrap.wrap(name, max(map(_cells, (*name.split(), *column))) or 1)[::-1]
        for name, column in zip(header, columns, strict=True)
    ]
    return list(zip_longest(*parts, fillvalue=""))[::-1]


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


def _pad_left(text: str, width: int) -> str:
    return " " * (width - _cells(text)) + text


def _cells(text: str) -> int:
    from rich.cells import cell_len

    return cell_len(text)
