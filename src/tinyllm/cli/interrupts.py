"""Ctrl-C as a question that is asked between two tokens, so that no reply is torn."""

import signal
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
