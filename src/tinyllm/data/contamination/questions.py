"""Which questions are looked for: the files a user names, or the test that lies at hand."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinyllm.data.contamination.matching import Matcher
from tinyllm.data.contamination.probes import Item, items_of, question_key
from tinyllm.data.hub import is_hub_source
from tinyllm.data.multiple_choice import read_multiple_choice
from tinyllm.data.rows import format_of
from tinyllm.data.source_files import expand_source
from tinyllm.errors import DataError
from tinyllm.files import sha256_file
from tinyllm.records import MultipleChoice
from tinyllm.reporting import Reporter

N_WORDS = 8
"""The longest run that is looked for as a whole: between 8 and 13 this finds most and accuses no
more (docs/contamination.md)."""
DEFAULT_FOLDERS = (Path("datasets/260207-openbook-qa"), Path("datasets/openbookqa"))
"""Where its download.sh, and `tinyllm download openbookqa`, put the test that is at hand."""


@dataclass(frozen=True)
class Wanted:
    """The questions that are looked for, ready for any number of texts."""

    items: Sequence[Item]
    sources: Sequence[dict[str, Any]]
    """Each file they came from: its name, SHA-256 and number of items."""
    n_words: int
    matcher: Matcher


def default_questions() -> list[str]:
    """Return the files of questions that lie in the default folders, if any."""
    return [str(path) for folder in DEFAULT_FOLDERS for path in sorted(folder.glob("*.jsonl"))]


def read_wanted(
    sources: Sequence[str] | None, reporter: Reporter, n_words: int = N_WORDS
) -> Wanted:
    """Read the questions to look for; None takes those of the default folders.

    Raises DataError when there are none, or a file holds something else.
    """
    chosen = default_questions() if sources is None else list(sources)
    if not chosen:
        raise DataError(
            f"there are no questions in {' or '.join(map(str, DEFAULT_FOLDERS))}",
            "Name a file with --questions, or get them with `tinyllm download openbookqa`.",
        )
    questions: dict[str, MultipleChoice] = {}
    described = []
    for source in chosen:
        for file in _files_of(source, reporter):
            found = list(read_multiple_choice(file, reporter))
            path = None if is_hub_source(file) else Path(file)
            described.append(
                {
                    "source": file if path is None else path.name,
                    "sha256": None if path is None else sha256_file(path),
                    "items": len(found),
                }
            )
            for question in found:
                questions.setdefault(question_key(question), question)
    items = items_of(questions.values())
    return Wanted(items, described, n_words, Matcher(items, n_words))


def _files_of(source: str, reporter: Reporter) -> list[str]:
    """Return the files of a source; the texts among them, such as a test's facts, are left out."""
    if is_hub_source(source):
        return [source]
    paths = expand_source(source)
    texts = [path for path in paths if format_of(path) == "text"]
    if not texts or len(texts) == len(paths):
        return list(map(str, paths))
    names = ", ".join(path.name for path in texts)
    reporter.note(f"{source}: no questions are taken from running text ({names})")
    return [str(path) for path in paths if path not in texts]
