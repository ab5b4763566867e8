"""Ctrl-C as a question that is asked between two tokens, so that no reply is torn."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass
class Interrupt:
    """Whether Ctrl-C was pressed."""

    was_pressed: bool = False


@contextmanager
def held_interrupts() -> Iterator[Interrupt]:
    """Note Ctrl-C instead of raising KeyboardInterrupt; a second press raises it."""
    interrupt = Interrupt()

    def note(_number: int, _frame: FrameType | None) -> None:
        if interrupt.was_pressed:
            raise KeyboardInterrupt
        interrupt.was_pressed = True

    before = signal.signal(signal.SIGINT, note)
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def no_echo() -> Iterator[None]:
    """Keep what is typed meanwhile off the screen; it waits for whoever reads next."""
    try:
        import termios
    except ImportError:  # not POSIX
        yield
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    quiet = [*before]
    quiet[3] &= ~termios.ECHO
    termios.tcsetattr(descriptor, termios.TCSANOW, quiet)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSANOW, before)
