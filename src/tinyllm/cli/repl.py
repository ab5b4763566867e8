"""The loop of `tinyllm chat`: read a line, do a command or show a reply.

Replies go to standard output, everything else to standard error. On a terminal, prompt_toolkit
edits the line; elsewhere every line of standard input is a message.
"""

import sys
from collections.abc import Callable, Iterator

from tinyllm.cli import chat_commands
from tinyllm.errors import TinyLLMError
from tinyllm.generation.chat_session import ChatSession
from tinyllm.reporting import Reporter

_FENCE = '"""'
_PROMPT = "› "


class Repl:
    """A session with a person, or with a pipe."""

    def __init__(self, session: ChatSession, reporter: Reporter) -> None:
        self.session = session
        self.reporter = reporter
        self._is_terminal = sys.stdin.isatty() and sys.stdout.isatty()
        self._knows_of_cuts = False

    def run(self) -> None:
        """Talk until the input ends or /quit is typed."""
        self._greet()
        read = _terminal_reader() if self._is_terminal else _read_piped
        while True:
            try:
                message = _whole_message(read)
            except EOFError:
                return
            except KeyboardInterrupt:
                self.reporter.note("Ctrl-D or /quit leaves.")
                continue
            try:
                self._handle(message)
            except chat_commands.Quit:
                return
            except KeyboardInterrupt:
                self.reporter.note("stopped")
            except TinyLLMError as error:
                sentences = [error.message.rstrip("."), *([error.hint] if error.hint else [])]
                self.reporter.warn(". ".join(sentences))

    def show(self, reply: Iterator[str]) -> None:
        """Write a reply as it comes; Ctrl-C ends it, and what was said stays said."""
        if self.session.n_forgotten:
            self.reporter.note(
                f"the context is full: the model no longer sees the {self.session.n_forgotten} "
                "oldest exchanges"
            )
        is_broken_off = False
        try:
            for piece in reply:
                sys.stdout.write(piece)
                sys.stdout.flush()
        except KeyboardInterrupt:
            is_broken_off = True
            close = getattr(reply, "close", None)
            if close is not None:
                close()
        sys.stdout.write("\n")
        sys.stdout.flush()
        if is_broken_off:
            self.reporter.note("stopped; /retry draws it anew")
        elif self.session.finish_reason == "length" and not self._knows_of_cuts:
            self.reporter.note("cut off: no tokens are left (context or max_new_tokens)")
            self._knows_of_cuts = not self.session.is_chat_tuned  # which seldom ends by itself

    def _handle(self, message: str) -> None:
        if message.startswith("/"):
            chat_commands.run(self, message)
        elif message.strip():
            self.show(self.session.send(message))

    def _greet(self) -> None:
        info = self.session.engine.loaded.info
        self.reporter.note(f"talking to {info.path}; /help lists what can be typed")
        if not self.session.is_chat_tuned:
            self.reporter.note(
                "this model is not chat-tuned: it continues each text you type, and does not "
                "remember the ones before"
            )


def _whole_message(read: Callable[[str], str]) -> str:
    """Read one message; lines between two \"\"\" are one message."""
    line = read(_PROMPT)
    if not line.startswith(_FENCE):
        return line
    lines = [line.removeprefix(_FENCE)]
    while not lines[-1].endswith(_FENCE):
        lines.append(read(". "))
    lines[-1] = lines[-1].removesuffix(_FENCE)
    return "\n".join(lines).strip("\n")


def _read_piped(_prompt: str) -> str:
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line.removesuffix("\n")


def _terminal_reader() -> Callable[[str], str]:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import WordCompleter

    words = [f"/{name}" for name in chat_commands.COMMANDS]
    session: PromptSession[str] = PromptSession(
        completer=WordCompleter(words, sentence=True), complete_while_typing=False
    )
    return lambda prompt: session.prompt(prompt)
