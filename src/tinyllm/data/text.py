"""TEXT: documents separated by a line that holds only `<|endoftext|>`, split as a stream."""

import re
from collections.abc import Iterable, Iterator

from tinyllm.records import END_OF_TEXT
from tinyllm.reporting import Reporter, SilentReporter, counted, format_bytes

MAX_DOCUMENT_CHARACTERS = 16 << 20
"""A longer document is cut at a line end, so that memory stays flat on text with no separators."""

_PLAIN_SEPARATOR = f"{END_OF_TEXT}\n"
_SEPARATOR = re.compile(rf"^{re.escape(END_OF_TEXT)}[ \t]*\n", re.MULTILINE)


def split_documents(blocks: Iterable[str], reporter: Reporter | None = None) -> Iterator[str]:
    """Yield the documents of a TEXT that comes in blocks, without outer newlines.

    Blank documents are left out. A separator inside a line is text, and is warned about once.
    A document of more than 16 million characters is cut at a line end.
    """
    reporter = reporter or SilentReporter()
    n_inline = n_cut = n_held = 0
    held: list[str] = []
    rest = ""
    for block in _with_final_newline(blocks):
        text = rest + block
        cut = text.rfind("\n") + 1
        lines, rest = text[:cut], text[cut:]
        first, *others = _split_lines(lines)
        n_inline += lines.count(END_OF_TEXT) - len(others)
        held.append(first)
        n_held += len(first)
        for piece in others:
            yield from _whole(held)
            held, n_held = [piece], len(piece)
        if n_held > MAX_DOCUMENT_CHARACTERS:
            n_cut += 1
            yield from _whole(held)
            held, n_held = [], 0
    yield from _whole(held)
    if n_inline > 0:
        reporter.warn(
            f"{END_OF_TEXT} stands inside a line {counted(n_inline, 'time')}; only a line of its "
            "own separates documents"
        )
    if n_cut:
        reporter.note(
            f"a document of more than {format_bytes(MAX_DOCUMENT_CHARACTERS)} was cut into pieces"
        )


def _with_final_newline(blocks: Iterable[str]) -> Iterator[str]:
    yield from blocks
    yield "\n"


def _split_lines(lines: str) -> list[str]:
    """Split whole lines at separator lines; the slow pattern runs only where it is needed."""
    pieces = lines.split(_PLAIN_SEPARATOR)
    is_plain = all(not piece or piece.endswith("\n") for piece in pieces[:-1])
    if is_plain and not any(END_OF_TEXT in piece for piece in pieces):
        return pieces
    return _SEPARATOR.split(lines)


def _whole(held: list[str]) -> Iterator[str]:
    document = "".join(held).strip("\n")
    if document and not document.isspace():
        yield document
