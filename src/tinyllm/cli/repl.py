"""The loop of `tinyllm chat`: read a message, do a command or show the replies.

Replies go to standard output, everything else to standard error. On a terminal, prompt_toolkit
edits the message (repl_terminal.py); elsewhere every line of standard input is one.
"""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from tinyllm.cli import chat_commands
from tinyllm.cli.chat_commands.models import tell_kind
from tinyllm.cli.chat_commands.stats import context_use
from tinyllm.cli.chat_commands.talk import Draw, Quit, Speaker, rename
from tinyllm.cli.interrupts import Interrupt, held_interrupts, no_echo
from tinyllm.cli.message_input import LineCleared, MessageInput, Typed
from tinyllm.cli.reply_view import Replies, write_replies
from tinyllm.errors import TinyLLMError, UsageError
from tinyllm.generation.chat_session import ChatSession
from tinyllm.generation.engine import Engine
from tinyllm.reporting import Reporter, counted

OpenEngine = Callable[[str], Engine]


class Repl:
    """A session with a person, or with a pipe."""

    def __init__(
        self,
        session: ChatSession,
        reporter: Reporter,
        open_engine: OpenEngine,
        messages: MessageInput,
    ) -> None:
        self.speakers = [Speaker(session)]
        rename(self.speakers)
        self.reporter = reporter
        self.keep_path: Path | None = None
        self._open_engine = open_engine
        self._messages = messages
        self._is_leaving = False

    def run(self) -> None:
        """Talk until the input ends or /quit is typed."""
        path = self.speakers[0].session.engine.loaded.info.path
        self.reporter.note(f"talking to {path}; /help lists what can be typed")
        tell_kind(self, self.speakers[0])
        while True:
            try:
                typed = self._messages.read(self._status())
            except EOFError:
                return
            except LineCleared:
                self._is_leaving = False
                continue
            except KeyboardInterrupt:
                if not self._messages.is_terminal:
                    raise
                if self._is_leaving:
                    return
                self._is_leaving = True
                self.reporter.note("Ctrl-C again, Ctrl-D or /quit leaves.")
                continue
            self._is_leaving = False
            try:
                self.handle(typed)
            except Quit:
                return
            except KeyboardInterrupt:  # while a model was opened, or by pressing twice
                if not self._messages.is_terminal:
                    raise
                self.reporter.note("stopped")
            except TinyLLMError as error:
                self._warn(error)

    def handle(self, typed: Typed) -> None:
        """Do what was typed. Raises TinyLLMError for what cannot be done, and Quit."""
        if not typed.is_quoted and chat_commands.is_command(typed.text):
            chat_commands.run(self, typed.text)
        elif typed.text.strip():
            self.show(lambda session: session.send(typed.text))

    def show(self, draw: Draw) -> None:
        """Write the next reply of every speaker as it comes; Ctrl-C ends it, what was said stays.

        Raises TinyLLMError where the model that is talked to cannot answer.
        """
        replies: Replies = {}
        for speaker in self.speakers:
            try:
                replies[speaker.name] = draw(speaker.session)
            except TinyLLMError as error:
                if speaker is self.speakers[0]:
                    raise
                self._warn(error, speaker)
        if not self._messages.is_terminal:
            write_replies(replies, None, lambda: False)
            self._tell_ends(replies, Interrupt())
            return
        width = shutil.get_terminal_size().columns
        with no_echo(), held_interrupts() as interrupt:
            write_replies(replies, width, lambda: interrupt.was_pressed)
        self._tell_ends(replies, interrupt)

    def ask(self, text: str) -> str | None:
        """Let the user change a text; see `Talk`."""
        if not self._messages.is_terminal:
            raise UsageError("there is no terminal to edit on.", "Give the text: /edit TEXT")
        try:
            return self._messages.read(self._status(), text).text
        except (EOFError, LineCleared, KeyboardInterrupt):
            return None

    def open(self, name: str) -> Engine:
        """Make another checkpoint ready to speak; see `Talk`."""
        return self._open_engine(name)

    def width(self) -> int | None:
        """Return the columns of the terminal behind standard error; see `Talk`."""
        return shutil.get_terminal_size().columns if sys.stderr.isatty() else None

    def _status(self) -> str:
        names = " and ".join(speaker.name for speaker in self.speakers)
        return f"{names} · context {context_use(self.speakers[0])}"

    def _tell_ends(self, replies: Replies, interrupt: Interrupt) -> None:
        if interrupt.was_pressed:
            self.reporter.note("stopped; what was said is kept: /retry draws it anew")
        for speaker in self.speakers:
            if speaker.name in replies:
                self._tell_end(speaker)

    def _tell_end(self, speaker: Speaker) -> None:
        """Say once what changes the model's sight, and why a reply did not end by itself."""
        session, who = speaker.session, self._who(speaker)
        if session.n_forgotten and not speaker.knows_of_overflow:
            self.reporter.note(
                f"{who}the context is full: the model no longer sees the oldest "
                f"{_exchanges(session.n_forgotten)}, and will forget more as the talk goes on; "
                "/clear starts afresh"
            )
        speaker.knows_of_overflow = bool(session.n_forgotten)
        if session.finish_reason == "loop":
            self.reporter.note(
                f"{who}stopped: it began to repeat itself; /retry, or /set temperature "
                f"{_livelier(session.sampling.temperature)}"
            )
        elif session.finish_reason == "length" and not speaker.knows_of_cuts:
            self.reporter.note(f"{who}{_why_cut(session)}")
            speaker.knows_of_cuts = not session.is_chat_tuned  # which seldom ends by itself

    def _warn(self, error: TinyLLMError, speaker: Speaker | None = None) -> None:
        sentences = [error.message.rstrip("."), *([error.hint] if error.hint else [])]
        self.reporter.warn((self._who(speaker) if speaker else "") + ". ".join(sentences))

    def _who(self, speaker: Speaker) -> str:
        return f"{speaker.name}: " if len(self.speakers) > 1 else ""


def _exchanges(n: int) -> str:
    return "exchange" if n == 1 else counted(n, "exchange")


def _livelier(temperature: float) -> str:
    return f"{max(0.8, round(temperature + 0.2, 1)):g}"


def _why_cut(session: ChatSession) -> str:
    limit = session.sampling.max_new_tokens
    if session.last is not None and session.last.is_cut_by_limit and limit is not None:
        return f"cut off after {counted(limit, 'token')}; /set max_new_tokens {2 * limit}"
    return "cut off: the context is full"
