"""Blocks as one HTML page that needs nothing else: styles and pictures are inside it."""

import base64
import html
import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

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
from tinyllm.evaluation.report import figure_columns

_CODE = re.compile(r"`([^`]+)`")


def as_html(title: str, blocks: Sequence[Block], folder: Path) -> str:
    """Return the page; pictures are read from `folder`."""
    style = (files("tinyllm.evaluation.pages") / "page.css").read_text(encoding="utf-8")
    body = "\n".join(_element(block, folder) for block in blocks)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{_text(title)}</title>\n<style>\n{style}</style>\n</head>\n"
        f"<body>\n<main>\n<h1>{_text(title)}</h1>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _element(block: Block, folder: Path) -> str:
    match block:
        case Heading(text):
            return f"<h2>{_text(text)}</h2>"
        case Paragraph(text):
            return f"<p>{_text(text)}</p>"
        case Bullets(items):
            return f"<ul>{''.join(f'<li>{_text(item)}</li>' for item in items)}</ul>"
        case Code(lines):
            return f'<pre tabindex="0"><code>{html.escape(chr(10).join(lines))}</code></pre>'
        case Table():
            return _table(block)
        case Picture(file, alt):
            data = base64.b64encode((folder / file).read_bytes()).decode()
            source = f"data:image/png;base64,{data}"
            return f'<figure><img src="{source}" alt="{html.escape(alt)}"></figure>'
        case SideBySide():
            return _side_by_side(block)


def _table(table: Table) -> str:
    """Return a table with a caption and named rows, which scrolls by itself where it is wide."""
    to_the_right = figure_columns(table.header, table.rows)
    classes = [' class="figure"' if right else "" for right in to_the_right]
    heads = "".join(
        f'<th scope="col"{kind}>{_text(name)}</th>'
        for kind, name in zip(classes, table.header, strict=True)
    )
    rows = "\n".join(f"<tr>{_row(row, classes)}</tr>" for row in table.rows)
    caption = _text(table.caption)
    return (
        f'<div class="wide" role="region" tabindex="0" aria-label="{html.escape(table.caption)}">'
        f"<table><caption>{caption}</caption>\n<thead><tr>{heads}</tr></thead>\n"
        f"<tbody>\n{rows}\n</tbody></table></div>"
    )


def _row(row: Sequence[str], classes: Sequence[str]) -> str:
    first, *rest = (_text(str(cell)) for cell in row)
    cells = (f"<td{kind}>{cell}</td>" for kind, cell in zip(classes[1:], rest, strict=True))
    return f'<th scope="row"{classes[0]}>{first}</th>{"".join(cells)}'


def _side_by_side(block: SideBySide) -> str:
    texts = "".join(
        f"<article><h4>{_text(name)}</h4>"
        f'<p class="text">{html.escape(text.strip(chr(10))) or "<em>(nothing)</em>"}</p></article>'
        for name, text in block.texts
    )
    prompt = html.escape(" ".join(block.prompt.split()))
    return f'<section class="sample"><h3>{prompt}</h3><div class="columns">{texts}</div></section>'


def _text(text: str) -> str:
    return _CODE.sub(r"<code>\1</code>", html.escape(text))
