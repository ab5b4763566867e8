"""What can be typed after a slash in `tinyllm chat`."""

import difflib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from tinyllm.config.base import load_config
from tinyllm.config.generation import Sampling
from tinyllm.errors import UsageError
from tinyllm.files import write_text
from tinyllm.generation.chat_session import ChatSession
from tinyllm.records import END_OF_TEXT
from tinyllm.reporting import Reporter


class Quit(Exception):
    """The user wants to leave."""


class Talk(Protocol):
    """What a command may use of the loop it was typed in."""

    session: ChatSession
    reporter: Reporter

    def show(self, reply: Iterator[str]) -> None:
        """Write a reply as it comes."""


class Command(NamedTuple):
    """One slash command."""

    run: Callable[[Talk, str], None]
    usage: str
    summary: str


def run(talk: Talk, line: str) -> None:
    """Do what a line such as `/set temperature 0.5` says. Raises UsageError, or Quit."""
    name, _, argument = line.removeprefix("/").strip().partition(" ")
    if name not in COMMANDS:
        close = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"Did you mean /{close[0]}?" if close else "/help lists what there is."
        raise UsageError(f"there is no /{name}.", hint)
    COMMANDS[name].run(talk, argument.strip())


def _help(talk: Talk, _argument: str) -> None:
    width = max(len(command.usage) for command in COMMANDS.values())
    lines = [f"{command.usage:{width}}  {command.summary}" for command in COMMANDS.values()]
    talk.reporter.note("\n".join(lines))
    talk.reporter.note('Lines between """ and """ are one message. Ctrl-C stops a reply.')


def _set(talk: Talk, argument: str) -> None:
    name, _, value = argument.replace("=", " ", 1).partition(" ")
    if name and not value.strip():
        raise UsageError(f"/set {name} needs a value.", f"For example: /set {name or 'top_k'} 1")
    if name:
        talk.session.set(load_config(Sampling, sets=[f"{name}={value.strip()}"]))
    values = talk.session.sampling.model_dump()
    shown = [name] if name else list(values)
    talk.reporter.note("\n".join(f"{key} = {json.dumps(values[key])}" for key in shown))


def _system(talk: Talk, argument: str) -> None:
    if argument:
        talk.session.system = None if argument == "clear" else argument
    talk.reporter.note(f"system text: {talk.session.system or '(none)'}")


def _retry(talk: Talk, _argument: str) -> None:
    talk.show(talk.session.retry())


def _undo(talk: Talk, _argument: str) -> None:
    exchange = talk.session.undo()
    talk.reporter.note(f"taken back: {exchange.user}")


def _clear(talk: Talk, _argument: str) -> None:
    talk.session.clear()
    talk.reporter.note("the conversation starts afresh")


def _save(talk: Talk, argument: str) -> None:
    session = talk.session
    if not any(exchange.reply for exchange in session.history):
        raise UsageError("there is nothing to save yet.")
    suffix = ".jsonl" if session.is_chat_tuned else ".txt"
    path = Path(argument or f"chat-{time.strftime('%Y%m%d-%H%M%S')}{suffix}").expanduser()
    if path.exists():
        raise UsageError(f"{path} exists already.", "Choose another name.")
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder {path.parent}.", "Make it first, or choose another.")
    write_text(path, _as_conversation(session) if session.is_chat_tuned else _as_text(session))
    talk.reporter.note(f"saved as {path}; `tinyllm train` takes it as data")


def _as_conversation(session: ChatSession) -> str:
    conversation = session.conversation()
    messages = [{"role": m.role, "content": m.content} for m in conversation.messages]
    record = {"id": conversation.id, "messages": messages}
    return json.dumps(record, ensure_ascii=False) + "\n"


def _as_text(session: ChatSession) -> str:
    return "".join(f"{e.user}{e.reply}\n{END_OF_TEXT}\n" for e in session.history)


def _quit(_talk: Talk, _argument: str) -> None:
    raise Quit


COMMANDS = {
    "help": Command(_help, "/help", "List what can be typed."),
    "set": Command(_set, "/set [NAME VALUE]", "Show the settings, or change one."),
    "system": Command(_system, "/system [TEXT|clear]", "Show or change the system text."),
    "retry": Command(_retry, "/retry", "Draw the last reply anew."),
    "undo": Command(_undo, "/undo", "Take back the last exchange."),
    "clear": Command(_clear, "/clear", "Start the conversation afresh."),
    "save": Command(_save, "/save [FILE]", "Save the conversation as training data."),
    "quit": Command(_quit, "/quit", "Leave (so does Ctrl-D)."),
}
