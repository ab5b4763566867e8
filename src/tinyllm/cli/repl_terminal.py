"""Typing a message on a terminal: keys, completion, the status line (prompt_toolkit)."""

from collections.abc import Iterable, Iterator

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document
from prompt_toolkit.filters import Condition
from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.history import History
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.shortcuts import CompleteStyle
from prompt_toolkit.styles import Style

from tinyllm.cli.chat_commands import COMMANDS
from tinyllm.cli.message_input import LineCleared, Typed, is_whole, unquoted
from tinyllm.config.generation import Sampling

PROMPT = "› "
_STYLE = Style.from_dict({"bottom-toolbar": "noreverse ansibrightblack"})


class TerminalInput:
    """Messages that are typed, with history and completion."""

    is_terminal = True

    def __init__(self, history: History) -> None:
        self._status = ""
        self._completer = CommandCompleter()
        self._session: PromptSession[str] = PromptSession(
            PROMPT,
            multiline=True,
            prompt_continuation=_continuation,
            history=history,
            completer=self._completer,
            complete_while_typing=Condition(self._is_command),
            complete_style=CompleteStyle.MULTI_COLUMN,
            reserve_space_for_menu=4,
            key_bindings=_keys(),
            bottom_toolbar=lambda: FormattedText([("", self._fitting_status())]),
            style=_STYLE,
            enable_open_in_editor=True,
            enable_suspend=True,
            tempfile_suffix=".txt",
        )

    def read(self, status: str, text: str = "") -> Typed:
        """Return the next message; see `MessageInput`."""
        self._status = status
        self._completer.look_again()
        return unquoted(self._session.prompt(default=text))

    def _is_command(self) -> bool:
        return self._session.default_buffer.text.startswith("/")

    def _fitting_status(self) -> str:
        width = self._session.app.output.get_size().columns
        return self._status if len(self._status) <= width else self._status[: width - 1] + "…"


def _continuation(width: int, _line_number: int, wrap_count: int) -> str:
    """Return what stands before a line that is not the first; one that is only wrapped has none."""
    return " " * width if wrap_count else "… "


def _keys() -> KeyBindings:
    keys = KeyBindings()

    @keys.add("enter")
    def _send(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if is_whole(buffer.text):
            buffer.validate_and_handle()
        else:
            buffer.insert_text("\n")

    @keys.add("escape", "enter")
    def _new_line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    @keys.add("c-c")
    @keys.add("<sigint>")
    def _give_up(event: KeyPressEvent) -> None:
        has_text = bool(event.current_buffer.text)
        event.app.exit(exception=LineCleared() if has_text else KeyboardInterrupt())

    return keys


class CommandCompleter(Completer):
    """Completes commands, and what each of them takes."""

    def __init__(self) -> None:
        self._models: list[str] | None = None

    def look_again(self) -> None:
        """Forget which checkpoints there are."""
        self._models = None

    def get_completions(
        self, document: Document, complete_event: CompleteEvent
    ) -> Iterable[Completion]:
        """Yield what may follow the cursor."""
        line = document.text_before_cursor
        if not line.startswith("/") or "\n" in line:
            return
        name, space, argument = line[1:].partition(" ")
        argument = argument.lstrip()
        takes = COMMANDS[name].takes if name in COMMANDS else None
        if not space:
            yield from _starting(name, COMMANDS, "/")
        elif takes == "setting" and " " not in argument:
            yield from _starting(argument, Sampling.model_fields)
        elif takes == "model":
            yield from _starting(argument, self._known_models())
        if space and takes in ("file", "model"):
            paths = PathCompleter(expanduser=True)
            yield from paths.get_completions(Document(argument), complete_event)

    def _known_models(self) -> list[str]:
        """Return the names of checkpoints, and the paths of those that share one."""
        if self._models is None:
            from tinyllm.checkpoint.search import checkpoints_here

            paths = checkpoints_here()
            stems = [path.stem for path in paths]
            self._models = [p.stem if stems.count(p.stem) == 1 else str(p) for p in paths]
        return self._models


def _starting(begun: str, names: Iterable[str], before: str = "") -> Iterator[Completion]:
    for name in names:
        if name.startswith(begun):
            yield Completion(name, start_position=-len(begun), display=before + name)
