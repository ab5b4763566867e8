"""What a report is made of. Text is plain; `code` between backticks is the only markup in it."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Heading:
    """The title of a section."""

    text: str


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Sentences."""

    text: str


@dataclass(frozen=True, slots=True)
class Bullets:
    """Sentences in a list."""

    items: Sequence[str]


@dataclass(frozen=True, slots=True)
class Code:
    """Lines to copy."""

    lines: Sequence[str]


@dataclass(frozen=True, slots=True)
class Table:
    """A table whose first column names the rows; the caption says what it holds."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Picture:
    """A PNG in the report's folder; `alt` says what it shows to who cannot see it."""

    file: str
    alt: str


@dataclass(frozen=True, slots=True)
class SideBySide:
    """What several models wrote after one prompt: (name, text) each."""

    prompt: str
    texts: Sequence[tuple[str, str]]


Block = Heading | Paragraph | Bullets | Code | Table | Picture | SideBySide
