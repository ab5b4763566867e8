"""First pass: from sources to records whose parts are true of their story.

A word that does not occur, a sentence that is not verbatim and a dialogue in which nobody speaks
are left out and counted. The pass is made again when the sources or the rules change, else not.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tinyllm.config.instructions import InstructionsConfig
from tinyllm.data.fingerprint import hash_sources
from tinyllm.data.tally import Tally
from tinyllm.data.writers import open_writer
from tinyllm.errors import DataError
from tinyllm.evaluation.instruction_checks import has_speech, holds_word, tokens_of
from tinyllm.files import make_folder, read_json, write_json
from tinyllm.reporting import Reporter
from tinyllm.seeding import random_for
from tinyllm.stories.instructions.evidence import WordFinder, sentences_of
from tinyllm.stories.instructions.folder import InstructionsFolder
from tinyllm.stories.instructions.reading import feature_name, read_stories
from tinyllm.stories.instructions.record import NO_DIALOGUE, SourceStory, StoryRecord
from tinyllm.stories.vocabulary import read_vocabulary, vocabulary_sha

RECORDS_FORMAT = 1
_ID_LETTERS = 16
_DIALOGUE = "dialogue"


@dataclass(frozen=True)
class Gathered:
    """What the first pass found. `features` counts the stories that have each."""

    identity: dict[str, Any]
    n_records: int
    sha256: str
    features: dict[str, int] = field(default_factory=dict)
    n_features_known: int = 0
    n_summaries: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    changed: dict[str, int] = field(default_factory=dict)


def gather(config: InstructionsConfig, folder: InstructionsFolder, reporter: Reporter) -> Gathered:
    """Write the records, or take those that are there. Raises DataError for unusable sources."""
    identity = records_identity(config, folder)
    if folder.gathered.is_file() and folder.records.is_file():
        kept = Gathered(**read_json(folder.gathered))
        if kept.identity == identity:
            reporter.note(f"{folder.records} is there already: {kept.n_records:,} stories")
            return kept
    folder.gathered.unlink(missing_ok=True)
    gathered = _write(config, folder, identity, reporter)
    write_json(folder.gathered, asdict(gathered))
    return gathered


def records_identity(config: InstructionsConfig, folder: InstructionsFolder) -> dict[str, Any]:
    """Return what the records are a function of, as plain JSON values."""
    make_folder(folder.run)
    hashes = hash_sources(config.sources, folder.run)
    identity = {
        "format": RECORDS_FORMAT,
        "sources": [[Path(name).name, sha] for name, sha in hashes],
        "seed": config.seed,
        "vocabulary_sha256": vocabulary_sha(read_vocabulary(config.words.vocabulary)),
        "least_words": config.words.least,
        "sentences": config.sentences.model_dump(mode="json"),
        "negative_features": config.negative_features,
        "story_words": [config.min_words, config.max_words],
    }
    plain: dict[str, Any] = json.loads(json.dumps(identity))
    return plain


def _write(
    config: InstructionsConfig,
    folder: InstructionsFolder,
    identity: dict[str, Any],
    reporter: Reporter,
) -> Gathered:
    checker = _Checker(config)
    features: Counter[str] = Counter()
    n_known = n_summaries = 0
    with (
        reporter.progress("check stories", None, "stories") as progress,
        open_writer(folder.records) as writer,
    ):
        for found in _stories(config, reporter):
            progress.advance()
            record = checker.check(found, writer.documents)
            if record is None:
                continue
            features.update(record.features)
            n_known += record.features_are_known
            n_summaries += bool(record.summary)
            writer.write_json(record.to_json())
    tally = checker.tally
    if not writer.documents:
        raise DataError(
            f"no story of {', '.join(config.sources)} can be used: "
            f"{tally.summary() or 'there is none'}",
            "Check that these are the files you meant.",
        )
    return Gathered(
        identity=identity,
        n_records=writer.documents,
        sha256=writer.sha256,
        features=dict(sorted(features.items())),
        n_features_known=n_known,
        n_summaries=n_summaries,
        dropped=dict(sorted(tally.dropped.items())),
        changed=dict(sorted(tally.changed.items())),
    )


def _stories(config: InstructionsConfig, reporter: Reporter) -> Iterator[SourceStory | str]:
    for source in config.sources:
        yield from read_stories(source, reporter)


class _Checker:
    """Makes records of stories, and counts what is not true of them."""

    def __init__(self, config: InstructionsConfig) -> None:
        self._config = config
        self._finder = WordFinder(read_vocabulary(config.words.vocabulary))
        self.tally = Tally()

    def check(self, found: SourceStory | str, index: int) -> StoryRecord | None:
        """Return the record of a story that becomes number `index`, or None when it is dropped."""
        if isinstance(found, str):
            self.tally.drop(found)
            return None
        n_words = len(found.story.split())
        if not self._config.min_words <= n_words <= self._config.max_words:
            self.tally.drop("too_short" if n_words < self._config.min_words else "too_long")
            return None
        text_hash = hashlib.sha256(found.story.encode("utf-8", "replace")).hexdigest()[:_ID_LETTERS]
        return StoryRecord(
            id=f"{text_hash}-{index}",
            story=found.story,
            words=self._words(found, text_hash),
            features=self._features(found),
            sentence=self._sentence(found, text_hash),
            summary=found.summary or "",
            features_are_known=found.features is not None,
        )

    def _words(self, found: SourceStory, text_hash: str) -> tuple[str, ...]:
        tokens = tokens_of(found.story)
        if found.words is None:
            random = random_for(self._config.seed, f"words {text_hash}")
            words = self._finder.draw(tokens, random)
        else:
            words = tuple(word for word in found.words if holds_word(tokens, word))
            n_missing = len(found.words) - len(words)
            if n_missing:
                self.tally.change("word_not_in_story", n_missing)
        return words if len(words) >= self._config.words.least else ()

    def _features(self, found: SourceStory) -> tuple[str, ...]:
        names: list[str] = []
        for given in found.features or ():
            name = feature_name(given)
            if name is None:
                self.tally.change("unknown_feature")
            elif name != _DIALOGUE:
                names.append(name)
            elif not has_speech(found.story):
                self.tally.change("dialogue_not_in_story")
        if has_speech(found.story):
            return (_DIALOGUE, *dict.fromkeys(names))
        negative = (NO_DIALOGUE,) if self._config.negative_features else ()
        return (*negative, *dict.fromkeys(names))

    def _sentence(self, found: SourceStory, text_hash: str) -> str:
        if found.sentence is not None:
            if found.sentence in found.story:
                return found.sentence
            self.tally.change("sentence_not_in_story")
        sentences = sentences_of(found.story, self._config.sentences)
        if not sentences:
            return ""
        return random_for(self._config.seed, f"sentence {text_hash}").choice(sentences)


def read_records(path: Path) -> Iterator[tuple[int, StoryRecord]]:
    """Yield each record with the place where its line begins."""
    with open(path, "rb") as file:
        offset = 0
        for line in file:
            yield offset, StoryRecord.from_json(json.loads(line))
            offset += len(line)


def read_record(path: Path, offset: int) -> StoryRecord:
    """Return the record whose line begins at `offset`."""
    with open(path, "rb") as file:
        file.seek(offset)
        return StoryRecord.from_json(json.loads(file.readline()))
