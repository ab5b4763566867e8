"""/tokens: how sure the model was of every token of its last reply, and what else it thought of."""

import math
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from tinyllm.cli.chat_commands.talk import Talk, last_reply, title
from tinyllm.errors import UsageError
from tinyllm.generation.odds import TokenOdds
from tinyllm.tokenizer import Tokenizer

if TYPE_CHECKING:
    from rich.console import Console

_N_OTHERS = 3
_MOST_OTHERS = 20
_LEAST_SHARE = 0.001
"""Alternatives less likely than this are not worth showing."""
_N_SURPRISING = 5


class _Shade(NamedTuple):
    """How tokens look that have at least this probability."""

    least: float
    look: str
    name: str


_SHADES = (
    _Shade(0.5, "green", "50 % and more"),
    _Shade(0.1, "yellow", "10 to 50 %"),
    _Shade(0.01, "magenta", "1 to 10 %"),
    _Shade(0.0, "bold underline red", "below 1 %"),
)


def tokens(talk: Talk, argument: str) -> None:
    """Show the last reply coloured by probability, or with N a line per token and alternatives."""
    is_number = argument.isdecimal() and len(argument) <= 2
    if argument and not (is_number and int(argument) <= _MOST_OTHERS):
        raise UsageError(f"/tokens takes a number up to {_MOST_OTHERS}, found {argument:.40}.")
    n_others = int(argument) if argument else _N_OTHERS
    for speaker in talk.speakers:
        title(talk, speaker)
        odds = last_reply(speaker).odds(min(n_others + 1, _MOST_OTHERS))  # its own may be there
        table = _Table(speaker.session.engine.tokenizer, n_others, talk.width())
        numbered = list(enumerate(odds, 1))
        console = _colours() if not argument else None
        if console is not None:
            _show_coloured(odds, table, console)
            numbered = _surprising(numbered)
            talk.reporter.note("/tokens 3 lists all, with 3 others each; the most surprising:")
        talk.reporter.note("\n".join(table.row(number, token) for number, token in numbered))
        nats = -math.fsum(token.logprob for token in odds) / len(odds)
        talk.reporter.note(f"{nats:.2f} nats a token: perplexity {math.exp(nats):.1f}")


def _colours() -> "Console | None":
    """Return the terminal behind standard error; None where it shows no colours (NO_COLOR)."""
    if not sys.stderr.isatty():
        return None
    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    return None if console.no_color or console.color_system is None else console


def _show_coloured(odds: Sequence[TokenOdds], table: "_Table", console: "Console") -> None:
    from rich.text import Text

    text = Text()
    for token in odds:
        piece = table.readable(token.token_id)
        look = next(shade.look for shade in _SHADES if math.exp(token.logprob) >= shade.least)
        text.append(piece + ("\n" if "⏎" in piece else ""), look)
    console.print(text)
    console.print(Text("  ").join(Text(shade.name, shade.look) for shade in _SHADES))


def _surprising(numbered: list[tuple[int, TokenOdds]]) -> list[tuple[int, TokenOdds]]:
    least = sorted(numbered, key=lambda pair: pair[1].logprob)[:_N_SURPRISING]
    return sorted(least, key=lambda pair: pair[0])


class _Table(NamedTuple):
    """How tokens are written in lines of at most `width` columns."""

    tokenizer: Tokenizer
    n_others: int
    width: int | None

    def row(self, number: int, token: TokenOdds) -> str:
        """Write a token's number, itself, its probability, and the likeliest in its place."""
        row = f"{number:4}  {self.quoted(token.token_id):14} {_percent(token.logprob)}"
        others = [pair for pair in token.top if pair[0] != token.token_id][: self.n_others]
        separator = "   or "
        for other, logprob in others:
            more = f"{separator}{self.quoted(other)} {_percent(logprob).strip()}"
            is_long = self.width is not None and len(row) + len(more) > self.width
            if is_long or math.exp(logprob) < _LEAST_SHARE:
                break
            row, separator = row + more, ", "
        return row

    def quoted(self, token_id: int) -> str:
        """Return a token's text in quotes."""
        text = self.readable(token_id)
        return text if token_id == self.tokenizer.end_of_text_id else f'"{text}"'

    def readable(self, token_id: int) -> str:
        """Return a token's text in visible letters; bytes that are no character by number."""
        if token_id == self.tokenizer.end_of_text_id:
            return "(end)"
        try:
            text = self.tokenizer.token_bytes(token_id).decode()
        except UnicodeDecodeError:
            return "".join(f"<{byte:02X}>" for byte in self.tokenizer.token_bytes(token_id))
        shown = text.replace("\n", "⏎").replace("\t", "⇥")
        return "".join(c if c.isprintable() else f"<{ord(c):02X}>" for c in shown)


def _percent(logprob: float) -> str:
    share = math.exp(logprob)
    return f"{100 * share:5.1f} %" if share >= _LEAST_SHARE else " <0.1 %"
