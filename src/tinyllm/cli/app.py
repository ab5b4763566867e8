"""The `tinyllm` command: the table of subcommands and the one place where errors end.

A subcommand's module is imported when it is called, so that `tinyllm --help` loads neither
torch nor pydantic nor numpy.
"""

import difflib
import errno
import io
import json
import os
import signal
import sys
from importlib import import_module
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, get_args, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup

from tinyllm.errors import TinyLLMError, UsageError

if TYPE_CHECKING:
    from typer._click.core import Command, Context
    from typer._click.formatting import HelpFormatter


class Entry(NamedTuple):
    """One subcommand: where it lives and what it is for."""

    module: str
    attribute: str
    summary: str


COMMANDS: dict[str, dict[str, Entry]] = {
    "data": {
        "download": Entry("download", "download", "Get a dataset and put it in our text format."),
        "clean-data": Entry("clean_data", "clean_data", "Clean texts by named rules."),
        "mix-datasets": Entry("mix_datasets", "mix_datasets", "Mix texts by weight into one."),
        "extract-wiki": Entry("extract_wiki", "extract_wiki", "Make text of a MediaWiki dump."),
        "scan-contamination": Entry(
            "scan_contamination", "scan_contamination", "Look for a test's questions in texts."
        ),
        "tokenize": Entry("tokenize", "tokenize", "Train a tokenizer and cache a text as ids."),
    },
    "synthetic": {
        "gen-vocab": Entry("gen_vocab", "gen_vocab", "Make a list of simple words."),
        "gen-stories": Entry("gen_stories", "gen_stories", "Make a data set of stories."),
        "gen-instructions": Entry(
            "gen_instructions", "gen_instructions", "Turn stories into instructions."
        ),
        "revise-stories": Entry(
            "revise_stories", "revise_stories", "Make stories better by written principles."
        ),
    },
    "train": {
        "train": Entry("train", "train", "Pretrain or fine-tune a model."),
    },
    "evaluate": {
        "eval-loss": Entry("eval_loss", "eval_loss", "Measure perplexity and bits per byte."),
        "eval-openbookqa": Entry(
            "eval_openbookqa", "eval_openbookqa", "Answer OpenBookQA, with error bars."
        ),
        "eval-multiple-choice": Entry(
            "eval_multiple_choice",
            "eval_multiple_choice",
            "Answer ARC, HellaSwag, PIQA, WinoGrande or questions of your own.",
        ),
        "compare": Entry("compare", "compare", "Put models side by side, with error bars."),
        "eval-stories": Entry(
            "eval_stories", "eval_stories", "Write stories, measure them, let a judge grade them."
        ),
    },
    "use": {
        "infer": Entry("infer", "infer", "Complete or answer prompts."),
        "chat": Entry("chat", "chat", "Talk to a model."),
        "serve": Entry("serve", "serve", "Serve models over HTTP, with a web page to talk to."),
    },
    "models": {
        "models": Entry("models", "app", "List, inspect and verify models."),
        "export": Entry("export", "export", "Write a model for transformers, llama.cpp or Ollama."),
    },
    "help": {
        "quickstart": Entry(
            "quickstart", "quickstart", "Build a small chat model from nothing, offline."
        ),
        "config": Entry("config", "app", "Write, show and check config files."),
        "doctor": Entry("doctor", "doctor", "Show what this machine has and what is missing."),
        "bench": Entry("bench", "app", "Measure speed on this machine, beside its limits."),
    },
}


class Commands(TyperGroup):
    """A group that imports a subcommand when it is asked for, and lists them by theme."""

    def list_commands(self, ctx: "Context") -> list[str]:
        """Name the subcommands in the order of the table."""
        return [name for group in COMMANDS.values() for name in group]

    def get_command(self, ctx: "Context", cmd_name: str) -> "Command | None":
        """Import and build one subcommand."""
        for group in COMMANDS.values():
            if cmd_name in group:
                return _build(cmd_name, group[cmd_name])
        return None

    def resolve_command(
        self, ctx: "Context", args: list[str]
    ) -> "tuple[str | None, Command | None, list[str]]":
        """Find the subcommand that was typed. Raises UsageError with the nearest name."""
        names = self.list_commands(ctx)
        if args and args[0] not in names and not args[0].startswith("-"):
            close = difflib.get_close_matches(args[0], names, n=1)
            hint = f"Did you mean `{close[0]}`?" if close else "`tinyllm --help` lists them all."
            raise UsageError(f"there is no command {args[0]!r}", hint)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: "Context", formatter: "HelpFormatter") -> None:
        """Write the table, one section a theme."""
        for title, group in COMMANDS.items():
            with formatter.section(title):
                formatter.write_dl([(name, entry.summary) for name, entry in group.items()])


class CarefulCommand(TyperCommand):
    """A command that refuses an empty path, which would stand for the current folder."""

    def parse_args(self, ctx: "Context", args: list[str]) -> list[str]:
        """Read the arguments. Raises UsageError for a path of no letters (an unset variable)."""
        hints = get_type_hints(self.callback)
        takes_path = {name for name, hint in hints.items() if Path in (hint, *get_args(hint))}
        flags = {flag for p in self.params if p.name in takes_path for flag in p.opts}
        for argument, following in zip_longest(args, args[1:], fillvalue="-"):
            flag, equals, value = argument.partition("=")
            if flag in flags and not (value if equals else following).strip():
                raise UsageError(
                    f"{flag}: a path is empty", f"Give a path, or leave {flag} out altogether."
                )
        return super().parse_args(ctx, args)


def _build(name: str, entry: Entry) -> "Command":
    attribute = getattr(import_module(f"tinyllm.cli.{entry.module}"), entry.attribute)
    if isinstance(attribute, typer.Typer):
        group = typer.main.get_command(attribute)
        group.name = name
        return group
    holder = typer.Typer(rich_markup_mode=None, add_completion=False)
    holder.command(name, cls=CarefulCommand)(attribute)
    command = typer.main.get_command(holder)
    command.name = name
    return command


_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_INTERRUPTED = 130  # what typer makes of Ctrl-C where no command catches it
_TERMINATED = 143
_STOPPED = ("interrupted", "The same command goes on from what was saved, or begins again.")

app = typer.Typer(
    cls=Commands, rich_markup_mode=None, no_args_is_help=True, pretty_exceptions_enable=False
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from tinyllm import __version__

        sys.stdout.write(f"tinyllm {__version__}\n")
        raise typer.Exit


@app.callback(
    epilog="Start here: `tinyllm quickstart`. Every command takes --config FILE.json and --help."
)
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Make a small language model of your own: from a text to a model you can talk to."""


class _Terminated(BaseException):
    """SIGTERM came where nothing was there to be saved."""


def main() -> None:
    """Run the command line and end the process with the exit code of what happened."""
    _open_closed_streams()
    log = io.BufferedWriter(_LossyFile(2, "wb", closefd=False))
    sys.stderr = io.TextIOWrapper(log, encoding=sys.stderr.encoding, line_buffering=True)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that lacks a letter shows a ?
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(run(sys.argv[1:]))


def _open_closed_streams() -> None:
    """Let nothing take the place of a stream that the caller closed, as a shell's `>&-` does."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  (stays)
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  (stays)


class _LossyFile(io.FileIO):
    """A file that drops what finds no room: a full disk under a log must not cost the answer."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data) or 0
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            return memoryview(data).nbytes


def _terminate(*_: object) -> None:
    raise _Terminated


def run(arguments: list[str]) -> int:
    """Run one command line; return the exit code. A user's mistake prints no traceback."""
    as_json = "--json" in arguments
    try:
        result: Any = app(arguments, prog_name="tinyllm", standalone_mode=False)
        code = result if isinstance(result, int) else 0
        return _end(*_STOPPED, code, as_json) if code == _INTERRUPTED else code
    except TinyLLMError as error:
        return _end(error.message, error.hint, error.exit_code, as_json)
    except typer.TyperException as error:
        return _usage_error(error, as_json)
    except (KeyboardInterrupt, typer.Abort):
        return _end(*_STOPPED, _INTERRUPTED, as_json)
    except _Terminated:
        return _end(*_STOPPED, _TERMINATED, as_json)
    except (BrokenPipeError, SystemExit):  # typer exits by itself when a pipe is closed
        _drop_output()
        return 0
    except Exception as error:  # here all errors end
        import traceback

        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            from tinyllm.files import os_error

            _drop_output()
            full = os_error(error, "write the output")
            return _end(full.message, full.hint, full.exit_code, as_json)
        traceback.print_exc()
        hint = "Please report it with the lines above."
        return _end("this is a bug in tinyllm", hint, 1, as_json)


def _drop_output() -> None:
    """Send what is left in the buffer of standard output nowhere: its reader or disk is gone."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _usage_error(error: typer.TyperException, as_json: bool) -> int:
    context = getattr(error, "ctx", None)
    message = error.format_message()
    if context is not None and message == context.get_help():  # a group without a subcommand
        sys.stdout.write(message.rstrip("\n") + "\n")
        return 0
    path = context.command_path if context is not None else "tinyllm"
    hint = f"`{path} --help` lists what it takes."
    if context is not None and message.startswith("Got unexpected extra argument"):
        known = {option for parameter in context.command.params for option in parameter.opts}
        meant = next((option for option in ("--data", "--prompt") if option in known), None)
        hint = f"Perhaps `{meant}` belongs before it. {hint}" if meant else hint
    return _end(message.rstrip("."), hint, 2, as_json)


def _end(message: str, hint: str | None, exit_code: int, as_json: bool) -> int:
    """Say why a command failed, with --json on standard output too; return the exit code."""
    sys.stderr.write(f"error: {message}\n")
    if hint:
        sys.stderr.write(f"hint: {hint}\n")
    if as_json:
        failure = {"error": message, "hint": hint, "exit_code": exit_code}
        try:
            sys.stdout.write(json.dumps(failure, ensure_ascii=False) + "\n")
            sys.stdout.flush()
        except OSError:  # the exit code tells
            _drop_output()
    return exit_code
