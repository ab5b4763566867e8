"""Blocks as Markdown."""

from collections.abc import Sequence

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
from tinyllm.evaluation.report import markdown_table


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
            parts = [f"**{_one_line(prompt)}**"]
            for name, text in texts:
                parts += ["", f"{name}:", "", *_quoted(text)]
            return parts


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _quoted(text: str) -> list[str]:
    """Quote a model's text so that nothing in it is read as markup of the report."""
    return [f"    {line}".rstrip() for line in text.strip("\n").splitlines()] or ["    (nothing)"]
