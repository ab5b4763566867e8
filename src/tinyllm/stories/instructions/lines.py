"""The line format of TinyStoriesInstruct: header lines in any order, then the story.

    Features: Dialogue
    Words: quit, oak, gloomy
    Summary: An oak tree …
    Random sentence: It was a big, old oak tree.
    Story:

    Once upon a time …
    <|endoftext|>

Read line by line it teaches nothing: a record is all lines up to the separator, with exactly one
`Story:`.
"""

import re

from tinyllm.stories.instructions.record import SourceStory

NO_STORY_LINE = "no_story_line"
SEVERAL_STORY_LINES = "several_story_lines"

_HEADER = re.compile(r"^(Features|Words|Summary|Random sentence|Story):[ \t]*", re.MULTILINE)


def is_instruct(document: str) -> bool:
    """Whether a document begins with one of the header lines."""
    return _HEADER.match(document.lstrip()) is not None


def parse_document(document: str) -> SourceStory | str:
    """Return the record of one document, or the reason why it is none.

    What stands behind `Story:` is the story, also where it holds a line like a header.
    """
    heads = list(_HEADER.finditer(document))
    n_stories = sum(head[1] == "Story" for head in heads)
    if n_stories != 1:
        return SEVERAL_STORY_LINES if n_stories else NO_STORY_LINE
    values: dict[str, str] = {}
    for head, following in zip(heads, [*heads[1:], None], strict=True):
        if head[1] == "Story":
            values["Story"] = document[head.end() :].strip()
            break
        end = following.start() if following is not None else len(document)
        values.setdefault(head[1], document[head.end() : end].strip())
    return SourceStory(
        values["Story"],
        _split(values.get("Words")),
        _split(values.get("Features")),
        values.get("Random sentence") or None,
        " ".join(values.get("Summary", "").split()) or None,
    )


def _split(value: str | None) -> tuple[str, ...] | None:
    return None if value is None else tuple(p.strip() for p in value.split(",") if p.strip())
