"""What a reply only copies from the story that it grades: a story can hold grades, too."""

import re
from collections.abc import Callable
from difflib import SequenceMatcher

_SHORTEST = 6
_LONGEST = 20_000
_MAY_BE_A_GRADE = re.compile(r"\d|\[\[|\{")


def without_copies(reply: str, story: str, holds_grades: Callable[[str], bool]) -> str:
    """Take every passage out that stands in the story word by word and holds grades there.

    `holds_grades` tells whether a text names a category with a number.
    """
    if len(story) > _LONGEST or not _MAY_BE_A_GRADE.search(story) or not holds_grades(story):
        return reply
    reply = reply[:_LONGEST]
    blocks = SequenceMatcher(None, reply, story, autojunk=False).get_matching_blocks()
    for block in reversed(blocks):
        begin, end = block.a, block.a + block.size
        passage = reply[begin:end]
        is_whole = _is_bounded(reply, begin, end) and _is_bounded(
            story, block.b, block.b + block.size
        )
        if block.size >= _SHORTEST and is_whole and holds_grades(passage):
            reply = f"{reply[:begin]} {reply[end:]}"
    return reply


def _is_bounded(text: str, begin: int, end: int) -> bool:
    """Whether a passage begins and ends at the ends of words."""
    around = text[begin - 1 : begin + 1] if begin else ""
    behind = text[end - 1 : end + 1]
    return not re.fullmatch(r"\w\w", around) and not re.fullmatch(r"\w\w", behind)
