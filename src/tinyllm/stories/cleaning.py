"""What surrounds a story in an answer is taken off by rule: a polite beginning, a title, a second
story, an offer of more. Letters are made plain. What was done is named, never silent.
"""

import json
import re
import unicodedata
from functools import cache
from importlib.resources import files
from typing import Any

_PLAIN = str.maketrans(
    {
        "“": '"',
        "”": '"',
        "„": '"',
        "«": '"',
        "»": '"',
        "‘": "'",
        "’": "'",
        "‚": "'",
        "–": "-",
        "—": "-",
        "−": "-",
        "‑": "-",
        "…": "...",
        "\u00a0": " ",
        "\u2028": "\n",
        "\u2029": "\n\n",
        "\u200b": "",
        "\ufeff": "",
        "\t": " ",
    }
)
_SPACES = re.compile(r" {2,}")
_NEWLINES = re.compile(r"\n{3,}")


@cache
def patterns() -> dict[str, Any]:
    """Return the lists of filters.json, those of patterns compiled into one pattern each."""
    content = json.loads(
        files("tinyllm.stories").joinpath("filters.json").read_text(encoding="utf-8")
    )
    compiled: dict[str, Any] = {
        name: re.compile("|".join(content[name]), re.IGNORECASE | re.MULTILINE)
        for name in ("special_token", "markup", "refusal", "meta")
    }
    for name in ("preamble", "title"):
        compiled[name] = re.compile(rf"\s*(?:{'|'.join(content[name])})\s*", re.IGNORECASE)
    compiled["postamble"] = re.compile(
        rf"\n\s*(?:{'|'.join(content['postamble'])})\s*\Z", re.IGNORECASE
    )
    for name in ("separator", "first_heading"):
        compiled[name] = re.compile(content[name], re.IGNORECASE | re.MULTILINE)
    for name in ("profanity", "commonest", "function_words"):
        compiled[name] = frozenset(content[name])
    return compiled


def clean(answer: str) -> tuple[str, list[str]]:
    """Return the story inside an answer, and the names of the rules that changed it."""
    changed: list[str] = []

    def note(name: str, before: str, after: str) -> str:
        if after != before:
            changed.append(name)
        return after

    text = answer.replace("\r\n", "\n").replace("\r", "\n").strip()
    text = note("plain_letters", text, _plain(text))
    found = patterns()
    text = note("preamble", text, _without_start(found["preamble"], text))
    text = note("first_heading", text, _without_start(found["first_heading"], text))
    text = note("title", text, _without_start(found["title"], text))
    text = note("second_story", text, _first_story(found["separator"], text))
    text = note("postamble", text, found["postamble"].sub("", text))
    return _NEWLINES.sub("\n\n", _SPACES.sub(" ", text)).strip(), changed


def _plain(text: str) -> str:
    """Write typographic signs and accents in ASCII, where there is a plain form."""
    if text.isascii():
        return text.replace("\t", " ")
    text = text.translate(_PLAIN)
    if text.isascii():
        return text
    letters = (c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return unicodedata.normalize("NFC", "".join(letters))


def _without_start(pattern: re.Pattern[str], text: str) -> str:
    """Take what the pattern finds at the beginning off, when something is left after it."""
    found = pattern.match(text)
    return text[found.end() :] if found is not None and text[found.end() :].strip() else text


def _first_story(separator: re.Pattern[str], text: str) -> str:
    """Return what stands before a line that separates stories."""
    found = separator.search(text)
    return text[: found.start()].rstrip() if found is not None and found.start() > 0 else text
