"""Where messages come from: a pipe, line by line, or what repl_terminal.py reads."""

import io
import sys
from typing import NamedTuple, Protocol

from tinyllm.byte_level import without_surrogates

FENCE = '"""'
"""Lines between two of these are one message."""


class LineCleared(Exception):
    """The user gave up what was being typed."""


class Typed(NamedTuple):
    """What was typed; a quoted text is a message even where it begins with a slash."""

    text: str
    is_quoted: bool = False


class MessageInput(Protocol):
    """A source of messages."""

    is_terminal: bool

    def read(self, status: str, text: str = "") -> Typed:
        """Return the next message, which the user makes of `text`; `status` is shown beside it.

        Raises EOFError at the end, LineCleared and KeyboardInterrupt by Ctrl-C, the latter where
        nothing was typed.
        """


class PipedInput:
    """Every line of standard input is a message; what lies between two \"\"\" is one."""

    is_terminal = False

    def __init__(self) -> None:
        if isinstance(sys.stdin, io.TextIOWrapper):
            sys.stdin.reconfigure(errors="replace")

    def read(self, status: str, text: str = "") -> Typed:
        """Return the next message; see `MessageInput`. A fence may be left open at the end."""
        lines = [self._line()]
        try:
            while not is_whole("\n".join(lines)):
                lines.append(self._line())
        except EOFError:
            pass
        return unquoted("\n".join(lines))

    def _line(self) -> str:
        if sys.stdin is not None and sys.stdin.isatty():  # only the output is redirected
            sys.stderr.write("› ")
            sys.stderr.flush()
        line = sys.stdin.readline() if sys.stdin is not None else ""
        if not line:
            raise EOFError
        return line.rstrip("\r\n")


def is_whole(text: str) -> bool:
    """Whether a text holds the fence that ends it, where it begins with one."""
    if not text.startswith(FENCE):
        return True
    return len(text.rstrip()) >= 2 * len(FENCE) and text.rstrip().endswith(FENCE)


def unquoted(text: str) -> Typed:
    """Take the fences off a text that begins with one; bytes that are no text become U+FFFD."""
    text = without_surrogates(text)
    if not text.startswith(FENCE):
        return Typed(text)
    inner = text.removeprefix(FENCE).rstrip().removesuffix(FENCE)
    return Typed(inner.strip("\n"), is_quoted=True)
