"""Writing replies to standard output as they come: one, or two beside or below each other."""

import sys
from collections.abc import Callable, Iterator
from itertools import zip_longest

from tinyllm.cli.text_layout import Lines, WordWrap, pad, printable

LEAST_COLUMN = 44
"""Two replies stand side by side where each has so many columns."""
_GAP = " │ "

Replies = dict[str, Iterator[str]]
"""The pieces of every reply, by its speaker's name."""


def write_replies(replies: Replies, width: int | None, is_stopped: Callable[[], bool]) -> None:
    """Write replies until they end or `is_stopped`; `width` is the terminal's, None for a pipe."""
    if len(replies) == 1:
        (reply,) = replies.values()
        _stream(reply, width, is_stopped)
    elif width is not None and width >= 2 * LEAST_COLUMN + len(_GAP):
        _side_by_side(replies, width, is_stopped)
    else:
        for name, reply in replies.items():
            if not is_stopped():
                _write(f"[{name}]\n")
                _stream(reply, width, is_stopped)


def _stream(reply: Iterator[str], width: int | None, is_stopped: Callable[[], bool]) -> None:
    wrap = WordWrap(width)
    for piece in _until(reply, is_stopped):
        _write(wrap.push(printable(piece)))
    _write(wrap.flush() + "\n")


def _side_by_side(replies: Replies, width: int, is_stopped: Callable[[], bool]) -> None:
    """Write a row when both of its lines are whole: nothing is ever drawn over."""
    column = (width - len(_GAP)) // 2
    _write(_row(list(replies), column))
    sides = [_lines(reply, column, is_stopped) for reply in replies.values()]
    pending: list[list[str]] = [[] for _ in sides]
    for parts in zip_longest(*sides):
        for lines, part in zip(pending, parts, strict=True):
            lines.extend(part or [])
        while all(lines or part is None for lines, part in zip(pending, parts, strict=True)):
            if not any(pending):
                break
            _write(_row([lines.pop(0) if lines else "" for lines in pending], column))
    for row in zip_longest(*pending, fillvalue=""):
        _write(_row(list(row), column))


def _lines(reply: Iterator[str], width: int, is_stopped: Callable[[], bool]) -> Iterator[list[str]]:
    """Yield, for every piece, the lines that are whole with it."""
    lines = Lines(width)
    for piece in _until(reply, is_stopped):
        yield lines.push(printable(piece))
    yield lines.flush()


def _until(reply: Iterator[str], is_stopped: Callable[[], bool]) -> Iterator[str]:
    """Yield pieces; when it is stopped, close the reply, so that what was drawn is kept."""
    try:
        for piece in reply:
            yield piece
            if is_stopped():
                return
    finally:
        close = getattr(reply, "close", None)
        if close is not None:
            close()


def _row(cells: list[str], width: int) -> str:
    return _GAP.join([pad(cells[0], width), cells[1]]).rstrip() + "\n"


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
