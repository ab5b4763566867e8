"""What can be typed after a slash in `tinyllm chat`.

talk.py                 the loop, as a command sees it
settings.py             /set /params /system
turns.py                /retry /undo /edit /clear /history
conversation_files.py   /save /load /keep
models.py               /model /compare
stats.py                /stats
tokens.py               /tokens
"""

import difflib
from collections.abc import Callable
from typing import Literal, NamedTuple

from tinyllm.cli.chat_commands import conversation_files, models, settings, stats, tokens, turns
from tinyllm.cli.chat_commands.talk import Quit, Talk
from tinyllm.cli.text_layout import two_columns
from tinyllm.errors import UsageError

Argument = Literal["setting", "file", "model"]


class Command(NamedTuple):
    """One slash command. `takes` is what its argument is completed with."""

    run: Callable[[Talk, str], None]
    usage: str
    summary: str
    takes: Argument | None = None


def is_command(text: str) -> bool:
    """Tell a command from a message: one line behind a slash."""
    return text.startswith("/") and "\n" not in text.strip()


def run(talk: Talk, line: str) -> None:
    """Do what a line such as `/set temperature 0.5` says. Raises UsageError, or Quit."""
    name, _, argument = line.removeprefix("/").strip().partition(" ")
    name = _ALIASES.get(name, name)
    if name not in COMMANDS:
        close = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"Did you mean /{close[0]}?" if close else "/help lists what there is."
        raise UsageError(
            f"there is no /{name}.", f"{hint} A space before the slash makes it a message."
        )
    COMMANDS[name].run(talk, argument.strip())


def _help(talk: Talk, _argument: str) -> None:
    rows = [(command.usage, command.summary) for command in COMMANDS.values()]
    talk.reporter.note(two_columns(rows, talk.width()))
    talk.reporter.note(two_columns(_KEYS, talk.width()))


def _quit(_talk: Talk, _argument: str) -> None:
    raise Quit


_ALIASES = {"?": "help", "exit": "quit", "bye": "quit", "q": "quit"}

_KEYS = [
    ('"""', 'Lines between """ and """ are one message; so is a pasted text.'),
    ("Alt-Enter", "Begin a new line in a message."),
    ("Ctrl-X Ctrl-E", "Write the message in your editor."),
    ("Ctrl-C", "Stop a reply; on an empty line, twice: leave."),
]

COMMANDS = {
    "help": Command(_help, "/help", "List what can be typed."),
    "set": Command(
        settings.set_value, "/set NAME VALUE", "Change a setting; VALUE default undoes.", "setting"
    ),
    "params": Command(
        settings.params, "/params [NAME]", "Show the settings, or explain one.", "setting"
    ),
    "system": Command(settings.system, "/system [TEXT|clear]", "Show or change the system text."),
    "retry": Command(turns.retry, "/retry", "Draw the last reply anew."),
    "undo": Command(turns.undo, "/undo", "Take back the last exchange."),
    "edit": Command(turns.edit, "/edit [TEXT]", "Say the last message otherwise."),
    "history": Command(turns.history, "/history", "Show what was said."),
    "clear": Command(turns.clear, "/clear", "Start the conversation afresh."),
    "tokens": Command(tokens.tokens, "/tokens [N]", "Show how sure of each token the model was."),
    "stats": Command(stats.stats, "/stats", "Show what the last reply cost."),
    "save": Command(
        conversation_files.save, "/save [FILE]", "Save the conversation as training data.", "file"
    ),
    "load": Command(
        conversation_files.load, "/load FILE", "Go on with a saved conversation.", "file"
    ),
    "keep": Command(
        conversation_files.keep,
        "/keep [all|pair] [FILE]",
        "Append the last exchange (or all) to training data, or a pair.",
        "file",
    ),
    "compare": Command(
        models.compare, "/compare [NAME|off]", "Let a second model answer too.", "model"
    ),
    "model": Command(models.model, "/model [NAME]", "Go on with another model.", "model"),
    "quit": Command(_quit, "/quit", "Leave (so does Ctrl-D)."),
}
