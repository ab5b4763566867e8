"""From a data set's published form to ours, one small function per data set.

Each takes rows, documents or lines as a stream and a `Tally`, and yields documents, conversations,
questions or records. Only what is broken is dropped or changed here, and every rule is counted;
cleaning by taste is a later command.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from tinyllm.data.conversations import join_instruction
from tinyllm.data.rows import Row
from tinyllm.data.tally import Tally
from tinyllm.records import END_OF_TEXT, Conversation, Document, Message

_MOJIBAKE = re.compile("[\u00c2-\u00f4][\u0080-\u00bfŒœŠšŸŽžƒˆ˜–—‘’‚“”„†‡•…‰‹›€™�]|â€")
_TORN_QUOTE = re.compile(r"â€(?=[\sA-Za-z.,!?;:]|$)")
_FINISHED = re.compile(r"[.!?…][\"'”’\)\]]*\s*$|[\"”]\s*$")
_NO_OUTPUT = re.compile(r"\W*no[\s_-]?output", re.IGNORECASE)
_NO_INPUT = re.compile(
    r"[\W_]*no[\s_-]?input[\W_]*(?:(?:is |was )?(?:required|needed|necessary|given|provided)\W*)?",
    re.IGNORECASE,
)


def tinystories(documents: Iterable[Document], tally: Tally) -> Iterator[Document]:
    """Yield stories with their encoding repaired; curly quotes and line breaks stay.

    The published validation file starts and ends in the middle of a story, so a first document
    that starts in lower case and a last one without an end are dropped and counted.
    """
    held: Document | None = None
    for index, document in enumerate(_split_inline(documents)):
        if held is not None:
            yield held
            held = None
        text = repair_encoding(document.text.strip())
        if text != document.text.strip():
            tally.change("mojibake")
        if not text:
            tally.drop("empty")
        elif index == 0 and text[0].islower():
            tally.drop("broken_start")
        else:
            held = Document(document.id, text, document.source)
    if held is None:
        return
    if _FINISHED.search(held.text):
        yield held
    else:
        tally.drop("broken_end")


def _split_inline(documents: Iterable[Document]) -> Iterator[Document]:
    """Split at separators inside a line too: in stories they are never meant as text."""
    for document in documents:
        pieces = document.text.split(END_OF_TEXT) if END_OF_TEXT in document.text else None
        if pieces is None:
            yield document
            continue
        for index, piece in enumerate(pieces):
            yield Document(f"{document.id}.{index}", piece, document.source)


def repair_encoding(text: str) -> str:
    """Undo UTF-8 that was read as Windows-1252 (`â€œ` is `“`), and change nothing else.

    ftfy judges what is broken; it is slow, so only text that holds a lead byte and its follower,
    read as two characters, is shown to it. The `â€` that is left of a closing quotation mark (its
    last byte has no character in Windows-1252) is mended first: ftfy would take the space after it.
    """
    if text.isascii() or not _MOJIBAKE.search(text):
        return text
    import ftfy

    repaired: str = ftfy.fix_encoding(_TORN_QUOTE.sub("”", text))
    return repaired


def alpaca(rows: Iterable[Row], tally: Tally) -> Iterator[Conversation]:
    """Yield instruction, input and output as a conversation of two turns.

    Examples with an empty output, or one that says there is none, are dropped; an input that says
    there is none is left out.
    """
    for index, row in enumerate(rows):
        instruction, context, output = (
            str(row.get(key) or "").strip() for key in ("instruction", "input", "output")
        )
        if not instruction:
            tally.drop("empty_instruction")
        elif not output:
            tally.drop("empty_output")
        elif _NO_OUTPUT.match(output):
            tally.drop("no_output")
        else:
            if context and _NO_INPUT.fullmatch(context):
                tally.change("no_input")
                context = ""
            ask = Message("user", join_instruction(instruction, context))
            yield Conversation(f"alpaca-{index}", (ask, Message("assistant", output)))


def writingprompts(rows: Iterable[Row], tally: Tally) -> Iterator[dict[str, Any]]:
    """Yield prompt and story as they were published, tags and spacing included."""
    for index, row in enumerate(rows):
        prompt, story = (str(row.get(key) or "").strip() for key in ("prompt", "story"))
        if not prompt or not story:
            tally.drop("empty_prompt" if not prompt else "empty_story")
            continue
        yield {"id": f"writingprompts-{index}", "prompt": prompt, "story": story}
