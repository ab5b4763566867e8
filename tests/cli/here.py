"""Running a command in the test's own process, which spares it the start of Python and torch."""

import io
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tinyllm.cli.app import run


class Outcome(NamedTuple):
    """What a command left: exit code, standard output, standard error."""

    code: int
    out: str
    err: str


class Here:
    """Runs commands in one folder."""

    def __init__(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        self._folder, self._monkeypatch, self._capfd = folder, monkeypatch, capfd

    def __call__(self, *arguments: str | Path, stdin: str = "") -> Outcome:
        self._monkeypatch.chdir(self._folder)
        self._monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        self._capfd.readouterr()
        code = run([str(argument) for argument in arguments])
        return Outcome(code, *self._capfd.readouterr())
