"""The layouts that stories come in, read as a stream.

our data set        {"story", "words": {"noun", "verb", "adjective"}, "features": […]}
TinyStories         {"story", "summary", "instruction": {"prompt:", "words", "features"}}
TinyStoriesInstruct documents of header lines (lines.py), as a text or as one row a line
anything else       running text, or a table with a column of texts: the story alone
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tinyllm.data.encoding import read_text
from tinyllm.data.hub import is_hub_source, read_hub_rows
from tinyllm.data.rows import Row, format_of, read_rows
from tinyllm.data.source_files import expand_source
from tinyllm.data.text import split_documents
from tinyllm.data.text_field import find_text_field
from tinyllm.records import END_OF_TEXT
from tinyllm.reporting import Reporter
from tinyllm.stories.instructions.lines import is_instruct, parse_document
from tinyllm.stories.instructions.record import FEATURES, SourceStory

NO_STORY = "no_story"
_N_JUDGED = 200
_FEATURE_NAMES = {"twist": "plot_twist", "moral": "moral_value"}


def read_stories(source: str, reporter: Reporter) -> Iterator[SourceStory | str]:
    """Yield the stories of a source in order, and a reason in place of each that cannot be used.

    Raises DataError for what cannot be read.
    """
    if is_hub_source(source):
        yield from _from_rows(source, iter(read_hub_rows(source, reporter)), reporter)
        return
    for path in expand_source(source):
        if format_of(path) == "text":
            yield from _from_documents(split_documents(read_text(path, reporter), reporter))
        else:
            yield from _from_rows(path.name, read_rows(path, reporter), reporter)


def feature_name(name: str) -> str | None:
    """Return our name of a feature (`BadEnding` is `bad_ending`), or None for an unknown one."""
    flat = name.replace(" ", "").replace("_", "").replace("-", "").lower()
    if flat in _FEATURE_NAMES:
        return _FEATURE_NAMES[flat]
    return next((known for known in FEATURES if known.replace("_", "") == flat), None)


def _from_documents(documents: Iterable[str]) -> Iterator[SourceStory | str]:
    for document in documents:
        yield parse_document(document) if is_instruct(document) else SourceStory(document.strip())


def _from_rows(name: str, rows: Iterator[Row], reporter: Reporter) -> Iterator[SourceStory | str]:
    first = list(itertools.islice(rows, _N_JUDGED))
    rows = itertools.chain(first, rows)
    if not first:
        return
    if any(isinstance(row.get("story"), str) for row in first[:5]):
        for row in rows:
            yield _from_record(row)
        return
    field = find_text_field(name, first)
    texts = (text for row in rows if isinstance(text := row.get(field), str))
    if any(str(row.get(field)).strip() == END_OF_TEXT for row in first):
        reporter.note(f"{name} holds one line a row; lines are joined up to {END_OF_TEXT}")
        yield from _from_documents(split_documents(f"{text}\n" for text in texts))
    else:
        yield from _from_documents(texts)


def _from_record(row: Mapping[str, Any]) -> SourceStory | str:
    story = row.get("story")
    if not isinstance(story, str) or not story.strip():
        return NO_STORY
    asked = row.get("instruction")
    asked = asked if isinstance(asked, Mapping) else row
    words, features = asked.get("words"), asked.get("features")
    if isinstance(words, Mapping):
        words = list(words.values())
    return SourceStory(
        story.strip(),
        _texts(words),
        _texts(features),
        _text(row.get("sentence")),
        _text(row.get("summary")),
    )


def _texts(value: object) -> tuple[str, ...] | None:
    if not isinstance(value, list):
        return None
    return tuple(text.strip() for text in value if isinstance(text, str) and text.strip())


def _text(value: object) -> str | None:
    return " ".join(value.split()) or None if isinstance(value, str) else None
