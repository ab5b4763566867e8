"""The prompts that stories are written for, with the stories where the sources hold them.

They are written to `tasks.jsonl` once per start, in the order of the sources; a run keeps its hash.
Reading them back by number holds eight bytes of each in memory.
"""

import hashlib
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinyllm import journal
from tinyllm.config.revision import ReviseStoriesConfig
from tinyllm.data.conversations import conversation_from_row
from tinyllm.data.hub import is_hub_source, read_hub_rows
from tinyllm.data.rows import Row, format_of, read_rows
from tinyllm.data.source_files import expand_source
from tinyllm.data.sources import read_documents
from tinyllm.data.writers import open_writer
from tinyllm.errors import DataError
from tinyllm.files import sha256_file
from tinyllm.reporting import Reporter
from tinyllm.stories.revision.resources import resource
from tinyllm.stories.work import first_sentences

_DIGITS = 16
_ASKS = ("prompt", "instruction", "question")
_DUPLICATE = "duplicate"
_NO_EXCHANGE = "no_exchange"
_SEVERAL_TURNS = "several_turns"


@dataclass(frozen=True, slots=True)
class Task:
    """A prompt, and the story that was written for it; empty where it is still to be asked for."""

    id: str
    prompt: str
    story: str = ""

    @property
    def prompt_hash(self) -> str:
        """What tells prompts apart, so that data can be split by them."""
        return _sha(self.prompt)


def _sha(*texts: str) -> str:
    content = "\0".join(texts).encode("utf-8", "replace")
    return hashlib.sha256(content).hexdigest()[:_DIGITS]


class Tasks:
    """The tasks of a run, read by number from their file."""

    def __init__(self, path: Path, sha256: str, dropped: Counter[str]) -> None:
        """Find where each task lies."""
        self.path, self.sha256, self.dropped = path, sha256, dropped
        self._offsets = array("q", (entry.offset for entry in journal.scan(path)))

    @classmethod
    def there(cls, path: Path) -> "Tasks":
        """Return the tasks of a run that was begun."""
        return cls(path, sha256_file(path) if path.is_file() else "", Counter())

    def __len__(self) -> int:
        return len(self._offsets)

    def __getitem__(self, index: int) -> Task:
        with open(self.path, "rb") as file:
            return Task(**journal.read_at(file, self._offsets[index]))


def write_tasks(config: ReviseStoriesConfig, path: Path, reporter: Reporter) -> Tasks:
    """Read the sources and write their tasks. Raises DataError for sources without any."""
    dropped: Counter[str] = Counter()
    seen: set[str] = set()
    with reporter.progress("read prompts", None, "rows") as progress, open_writer(path) as writer:
        for source in config.sources:
            for found in _found_in(source, reporter, needs_story=not config.drafts.ask):
                progress.advance()
                if config.n_prompts is not None and writer.documents >= config.n_prompts:
                    break
                if isinstance(found, str):
                    dropped[found] += 1
                    continue
                prompt, story = found
                task = Task(_sha(prompt, story), prompt, "" if config.drafts.ask else story)
                key = task.prompt_hash if config.drafts.ask else task.id
                if key in seen:
                    dropped[_DUPLICATE] += 1
                    continue
                seen.add(key)
                writer.write_bytes(journal.encode(_row(task)))
    if not writer.documents:
        raise DataError(
            f"{', '.join(config.sources)} holds no prompt with a story",
            "Give conversations or instructions; with drafts.ask, rows with a prompt are enough.",
        )
    return Tasks(path, writer.sha256, dropped)


def _row(task: Task) -> dict[str, Any]:
    return {"id": task.id, "prompt": task.prompt, "story": task.story}


def _found_in(
    source: str, reporter: Reporter, *, needs_story: bool
) -> Iterator[tuple[str, str] | str]:
    """Yield (prompt, story) in order, or the reason why a row is none."""
    if is_hub_source(source):
        yield from _of_rows(iter(read_hub_rows(source, reporter)), needs_story)
        return
    for path in expand_source(source):
        if format_of(path) == "text":
            for document in read_documents(str(path), reporter=reporter):
                story = document.text.strip()
                beginning = first_sentences(story)
                yield resource("prompts")["beginning"].replace("{beginning}", beginning), story
        else:
            yield from _of_rows(read_rows(path, reporter), needs_story)


def _of_rows(rows: Iterator[Row], needs_story: bool) -> Iterator[tuple[str, str] | str]:
    for row in rows:
        conversation = conversation_from_row(row, "", "")
        if conversation is not None:
            roles = [message.role for message in conversation.messages]
            if roles != ["user", "assistant"]:
                yield _SEVERAL_TURNS
                continue
            prompt, story = (message.content for message in conversation.messages)
            yield prompt, story
            continue
        asked = next((row[key] for key in _ASKS if isinstance(row.get(key), str)), "")
        if needs_story or not asked.strip():
            yield _NO_EXCHANGE
        else:
            yield asked.strip(), ""
