"""What a slash command may use of the loop it was typed in."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tinyllm.errors import UsageError
from tinyllm.generation.chat_session import ChatSession, Exchange
from tinyllm.generation.engine import Engine
from tinyllm.generation.reply import Reply
from tinyllm.reporting import Reporter

Draw = Callable[[ChatSession], Iterator[str]]
"""How a session comes to its next reply: by a message, by drawing anew, …"""


class Quit(Exception):
    """The user wants to leave."""


@dataclass
class Speaker:
    """One model that answers, with its conversation, and what it was said of it already."""

    session: ChatSession
    name: str = ""
    knows_of_overflow: bool = False
    knows_of_cuts: bool = False
    replaced: list[Exchange] = field(default_factory=list)
    """What /retry drew anew: the replies that were not good enough."""
    kept: set[tuple[Path, Exchange]] = field(default_factory=set)
    """What /keep wrote, and to which file."""


class Talk(Protocol):
    """The loop, as a command sees it."""

    speakers: list[Speaker]
    """The model that is talked to and, with /compare, the other one."""
    reporter: Reporter
    keep_path: Path | None
    """The file that /keep wrote to last."""

    def show(self, draw: Draw) -> None:
        """Write the next reply of every speaker as it comes."""

    def ask(self, text: str) -> str | None:
        """Let the user change a text; None when they leave it. Raises UsageError on a pipe."""

    def open(self, name: str) -> Engine:
        """Find a checkpoint by file, folder or name, and make it ready to speak."""

    def width(self) -> int | None:
        """Return the number of columns for what is not a reply; None where lines have no end."""


def session_of(talk: Talk) -> ChatSession:
    """Return the conversation with the model that is talked to."""
    return talk.speakers[0].session


def rename(speakers: list[Speaker]) -> None:
    """Name every speaker by its file, and by as many folders as tell them apart."""
    paths = [speaker.session.engine.loaded.info.path.absolute() for speaker in speakers]
    for speaker, name in zip(speakers, _names(paths), strict=True):
        speaker.name = name


def _names(paths: list[Path]) -> list[str]:
    for n_parts in range(1, 1 + max(len(path.parts) for path in paths)):
        names = ["/".join(path.with_suffix("").parts[-n_parts:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [f"{path.stem} ({number})" for number, path in enumerate(paths, 1)]  # the same twice


def require_chat_tuned(session: ChatSession, what: str, hint: str | None = None) -> None:
    """Raise UsageError for a base model, which has no turns."""
    if not session.is_chat_tuned:
        raise UsageError(f"this model is not chat-tuned, so {what}", hint)


def last_reply(speaker: Speaker) -> Reply:
    """Return the reply that was drawn last. Raises UsageError when the talk has moved on."""
    reply = speaker.session.last
    if reply is None or not reply.ids:
        raise UsageError("there is no last reply to look at.")
    return reply


def title(talk: Talk, speaker: Speaker) -> None:
    """Name a speaker, where there are two."""
    if len(talk.speakers) > 1:
        talk.reporter.note(f"[{speaker.name}]")
