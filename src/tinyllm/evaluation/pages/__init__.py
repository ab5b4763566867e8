"""A report as a row of blocks, written as Markdown or as one self-contained page.

blocks.py     headings, sentences, tables, pictures, texts side by side
markdown.py   blocks -> results.md, pictures as links
html.py       blocks -> a page without network: pictures inside, light and dark, phone and desktop
page.css      how that page looks
"""

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
from tinyllm.evaluation.pages.html import as_html
from tinyllm.evaluation.pages.markdown import as_markdown

__all__ = [
    "Block",
    "Bullets",
    "Code",
    "Heading",
    "Paragraph",
    "Picture",
    "SideBySide",
    "Table",
    "as_html",
    "as_markdown",
]
