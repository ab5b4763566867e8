"""Blocks as Markdown."""

from collections.abc import Sequence
from textwrap import wrap

from tinyllm.evaluation.pages.blocks import (
    Block,
    Bullets,
    Code,
    Heading,
    Paragraph,
    Picture,
    SideBySide,
    Table,
)
from tinyllm.evaluation.report import markdown_table, plain_markdown

_WIDTH = 96
"""Letters in a line of a model's text, which a reader's screen does not break."""


def as_markdown(title: str, blocks: Sequence[Block]) -> str:
    """Return the whole report; pictures are links to the files beside it."""
    lines = [f"# {title}"]
    for block in blocks:
        lines += ["", *_lines(block)]
    return "\n".join(lines) + "\n"


def _lines(block: Block) -> list[str]:
    match block:
        case Heading(text):
            return [f"## {text}"]
        case Paragraph(text):
            return [text]
        case Bullets(items):
            return [f"- {item}" for item in items]
        case Code(lines):
            return ["```", *lines, "```"]
        case Table(caption, header, rows):
            return [f"{caption}:", "", *markdown_table(header, rows)]
        case Picture(file, alt):
            return [f"![{alt}]({file})"]
        case SideBySide(prompt, texts):
            parts = [f"**{plain_markdown(prompt)}**"]
            for name, text in texts:
                parts += ["", f"{name}:", "", *_quoted(text)]
            return parts


def _quoted(text: str) -> list[str]:
    """Set a model's text so that nothing in it is read as markup of the report."""
    lines = [part for line in text.strip("\n").splitlines() for part in wrap(line, _WIDTH) or [""]]
    return [f"    {line}".rstrip() for line in lines] or ["    (nothing)"]
