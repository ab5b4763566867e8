"""Stories as they lie in sources: with a prompt where there is one."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tinyllm.data.hub import is_hub_source, read_hub_rows
from tinyllm.data.published import read_prompt_rows
from tinyllm.data.rows import Row, format_of, read_rows
from tinyllm.data.source_files import expand_source
from tinyllm.data.sources import read_documents
from tinyllm.reporting import Reporter

_BATCH = 256
_PROMPT, _STORY = "prompt", "story"


@dataclass(frozen=True, slots=True)
class RawStory:
    """A text as it was read. `source` counts the config's sources."""

    id: str
    source: int
    prompt: str | None
    text: str


def read_stories(sources: Sequence[str], reporter: Reporter) -> Iterator[RawStory]:
    """Yield the stories of all sources, in order. Raises DataError for what cannot be read."""
    for number, source in enumerate(sources):
        names = [source] if is_hub_source(source) else map(str, expand_source(source))
        for name in names:
            yield from _stories_of(name, number, reporter)


def in_batches(stories: Iterator[RawStory]) -> Iterator[list[RawStory]]:
    """Yield stories in lists, to be sent to other processes."""
    while batch := list(itertools.islice(stories, _BATCH)):
        yield batch


def _stories_of(name: str, source: int, reporter: Reporter) -> Iterator[RawStory]:
    rows = _rows_with_prompts(name, reporter)
    short = name if is_hub_source(name) else Path(name).name
    if rows is None:
        for document in read_documents(name, reporter=reporter):
            yield RawStory(document.id, source, None, document.text)
        return
    for index, row in enumerate(rows):
        found = row.get("id")
        key = found if isinstance(found, str) and found else f"{short}:{index}"
        yield RawStory(key, source, str(row.get(_PROMPT) or ""), str(row.get(_STORY) or ""))


def _rows_with_prompts(name: str, reporter: Reporter) -> Iterator[Row] | None:
    """Return rows of prompt and story, None for a source of another kind."""
    if is_hub_source(name):
        rows: Iterator[Row] = read_hub_rows(name, reporter)
    elif Path(name).suffix == ".wp_source":
        return read_prompt_rows(name, reporter)
    elif format_of(Path(name)) == "text":
        return None
    else:
        rows = read_rows(Path(name), reporter)
    first = next(rows, None)
    if first is None or not {_PROMPT, _STORY} <= first.keys():
        return None
    return itertools.chain([first], rows)
