"""A terminal as a person sees it: a program on a real pty, and the screen that it draws."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pexpect
import pyte

SECONDS = 60
_ROOM = 160  # columns of the screen: what is drawn wider than the pty says can be seen on it


class _Screen(pyte.HistoryScreen):
    """A screen that answers when it is asked where the cursor stands."""

    def __init__(self, columns: int, rows: int, answer: Callable[[str], object]) -> None:
        super().__init__(columns, rows, history=5000, ratio=0.5)
        self._answer = answer

    def write_process_input(self, data: str) -> None:
        self._answer(data)


class Terminal:
    """`tinyllm …` on a terminal of so many columns."""

    def __init__(
        self,
        *arguments: str | Path,
        folder: Path,
        state: Path,
        columns: int = 100,
        rows: int = 40,
        **variables: str,
    ) -> None:
        self.columns = columns
        self.raw = ""
        """Everything the program wrote, control characters included."""
        given = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLUMNS", "LINES")}
        self._child = pexpect.spawn(
            sys.executable,
            ["-m", "tinyllm", *map(str, arguments)],
            cwd=str(folder),
            env={**given, "TERM": "xterm-256color", "XDG_STATE_HOME": str(state), **variables},
            encoding="utf-8",
            codec_errors="replace",
            timeout=SECONDS,
            dimensions=(rows, columns),
        )
        self._child.delaybeforesend = None
        self._screen = _Screen(_ROOM, rows, self._child.send)
        self._stream = pyte.Stream(self._screen)
        self._n_seen = 0

    def type(self, text: str) -> None:
        """Press keys."""
        self._child.send(text)

    def say(self, line: str, expect: str = "") -> list[str]:
        """Type a line, and wait for the next prompt; return the lines in between.

        Fails when they do not hold `expect`, white space made single.
        """
        self.type(line)
        self.wait(lambda: self.typed() == "".join(line.split()))  # before Enter is pressed
        begin = self._here() - self._rows_typed() + 1
        self.type("\r")
        self.prompt()
        said = self.lines()[begin : self._here()]
        assert expect in " ".join(" ".join(said).split()), "\n".join(said)
        return said[1:]

    def lines(self) -> list[str]:
        """Return all lines so far, those that have left the screen first."""
        above = [self._text(line) for line in self._screen.history.top]
        return [*above, *(line.rstrip() for line in self._screen.display)]

    def n_lines(self) -> int:
        """Count the lines that have left the screen, and those on it."""
        return len(self._screen.history.top) + self._screen.lines

    def text(self) -> str:
        """Return all that can be read on the screen and above it, white space made single."""
        return " ".join(" ".join(self.lines()).split())

    def typed(self) -> str:
        """Return what stands behind the last prompt sign, up to the cursor, without white space."""
        rows = self.lines()[: self._here() + 1][-self._rows_typed() :]
        return "".join("".join(rows).partition("›")[2].replace("…", "").split())

    def prompt(self) -> None:
        """Wait until an empty prompt stands where the cursor is."""
        screen = self._screen
        self.wait(
            lambda: screen.cursor.x == 2 and self._text(screen.buffer[screen.cursor.y]) == "›"
        )

    def _here(self) -> int:
        """Return the number of the cursor's line among all lines."""
        return len(self._screen.history.top) + self._screen.cursor.y

    def _rows_typed(self) -> int:
        """Count the lines from the last prompt sign to the cursor."""
        above = self.lines()[: self._here() + 1][::-1]
        return next((n for n, row in enumerate(above, 1) if row.startswith("›")), 1)

    def wait(self, is_so: Callable[[], bool]) -> None:
        """Read until something is so; fail with the screen when it does not become so."""
        deadline = time.monotonic() + SECONDS
        while not is_so():
            assert time.monotonic() < deadline, "\n".join(self.lines())
            assert self._read(), "the program has ended:\n" + "\n".join(self.lines())

    def see(self, text: str) -> None:
        """Wait until a text has been written that was not seen before."""

        def is_there() -> bool:
            return text in self.text()[self._n_seen :]

        self.wait(is_there)
        self._n_seen = self.text().index(text, self._n_seen) + len(text)

    def end(self) -> int:
        """Wait until the program ends; return its exit code."""
        deadline = time.monotonic() + SECONDS
        while self._read():
            assert time.monotonic() < deadline, "\n".join(self.lines())
        self._child.close()
        return int(self._child.exitstatus if self._child.exitstatus is not None else -1)

    def close(self) -> None:
        """End the program, whatever it does."""
        self._child.close(force=True)

    def _read(self) -> bool:
        """Read what has come, waiting for it a while; return False when the program has ended."""
        try:
            data = self._child.read_nonblocking(65536, timeout=1)
        except pexpect.TIMEOUT:
            return True
        except pexpect.EOF:
            return False
        self.raw += data
        self._stream.feed(data)
        return True

    def _text(self, line: dict[int, pyte.screens.Char]) -> str:
        return "".join(line[x].data for x in range(_ROOM)).rstrip()
