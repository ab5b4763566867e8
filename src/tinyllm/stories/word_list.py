"""`tinyllm gen-vocab`: words of three classes, grown until there are enough.

vocabulary.json         {"nouns": […], "verbs": […], "adjectives": […]}
vocabulary.report.json  counts, hashes, and every word that was refused with the reason
vocabulary-run/         the journals of what a provider was asked

Answers are judged together and in the order of the requests, so that the list depends on them
alone, not on which came first.
"""

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from tinyllm import journal
from tinyllm.config.vocabulary import VocabularyConfig
from tinyllm.data.manifest import author
from tinyllm.errors import DataError, Interrupted
from tinyllm.files import make_folder, write_json
from tinyllm.locks import Lock
from tinyllm.providers.base import Provider
from tinyllm.providers.grammar.vocabulary import Vocabulary, load_vocabulary
from tinyllm.providers.opening import open_provider
from tinyllm.providers.pipeline.engine import Ending, Pipeline, Settings
from tinyllm.providers.pipeline.ledgers import LedgerPaths, Ledgers, State
from tinyllm.reporting import Reporter
from tinyllm.stories.run_folder import StoriesFolder
from tinyllm.stories.vocabulary import CLASSES, vocabulary_sha
from tinyllm.stories.word_list_asking import WordListWork
from tinyllm.stories.word_list_rules import WordList, english_frequency

_MOST_PER_ROUND = 16
_MAX_ATTEMPTS = 3
_GOES_ON = "Run the same command again: it goes on from here."


@dataclass(frozen=True)
class WordListResult:
    """What was written."""

    path: Path
    report: Path
    sha256: str
    n_words: dict[str, int]
    refused: dict[str, int]
    n_answers: int

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {**self.__dict__, "path": str(self.path), "report": str(self.report)}


class WordListFolder(StoriesFolder):
    """The journals of one word list lie beside its file."""

    @property
    def run(self) -> Path:
        return self.path.with_name(f"{self.path.stem}-run")


def report_path(output: Path) -> Path:
    """Return where the report of a word list lies."""
    return output.with_name(f"{output.stem}.report.json")


def run(config: VocabularyConfig, reporter: Reporter, *, repair: bool = False) -> WordListResult:
    """Write the list. With `repair`, broken lines of the journals are moved aside first.

    Raises DataError when there are not enough good words, MissingPartError without the
    frequencies of words, ConfigError for settings that differ from those of a run that goes on,
    ProviderError when nobody answers, Interrupted after Ctrl-C.
    """
    grown = begin(config)
    if repair:
        WordListFolder(config.output).repair(reporter)
    n_answers = 0
    if config.source != "builtin" and not grown.is_complete:
        n_answers = _ask(config, grown, reporter)
    if not grown.is_complete:
        lacks = ", ".join(f"{n} {name}" for name in CLASSES if (n := grown.missing(name)))
        refused = ", ".join(f"{len(words)} {reason}" for reason, words in grown.refused.items())
        raise DataError(
            f"there are not enough words: {lacks} are missing (refused: {refused or 'none'})",
            "Ask for fewer, loosen `rules`, or let a provider add some: --source both."
            if config.source == "builtin"
            else "Raise `max_requests`, ask for fewer, or loosen `rules`.",
        )
    return _write(config, grown, n_answers, reporter)


def begin(config: VocabularyConfig) -> WordList:
    """Return what the list begins with, before anybody is asked.

    Raises MissingPartError without the frequencies of words, where the rules need them.
    """
    grown = WordList(
        config.rules,
        {name: getattr(config, name) for name in CLASSES},
        english_frequency() if config.rules.min_zipf is not None else None,
    )
    if config.source != "provider":
        _take_builtin(grown)
    return grown


@cache
def _more() -> Mapping[str, Sequence[str]]:
    text = files("tinyllm.stories").joinpath("word_list_more.json").read_text("utf-8")
    content: dict[str, list[str]] = json.loads(text)
    return content


def _take_builtin(grown: WordList) -> None:
    """Offer the words of the stories' grammar, and then others that small children know."""
    known = load_vocabulary()
    for words in ({name: getattr(known, name) for name in CLASSES}, _more()):
        for name in CLASSES:
            for word in words[name]:
                grown.offer(name, word)


def _ask(config: VocabularyConfig, grown: WordList, reporter: Reporter) -> int:
    """Ask in rounds until every class has its words; return how many answers it took."""
    folder = WordListFolder(config.output)
    make_folder(folder.run)
    with (
        Lock(folder.run / ".lock") if config.lock else nullcontext(),
        Ledgers(folder.run, reporter, locks=False) as ledgers,
    ):
        provider = open_provider(config.provider, reporter)
        work = WordListWork(config, provider.capabilities())
        folder.settle_identity(work.identity(), 0, extend=False)
        for index, offset in ledgers.state.accepted():
            work.note_accepted(index, offset)
        ending = asyncio.run(_rounds(config, grown, work, provider, ledgers, reporter))
    n_answers = work.count_kept()
    so_far = ", ".join(f"{len(grown.words[name]):,} {name}" for name in CLASSES)
    if ending is not None and ending.kind == "interrupted":
        raise Interrupted(f"stopped; there are {so_far}", _GOES_ON, ending.exit_code)
    if ending is not None and ending.kind == "budget":
        raise DataError(f"the budget is used up ({ending.detail}): there are {so_far}", _GOES_ON)
    return n_answers


async def _rounds(
    config: VocabularyConfig,
    grown: WordList,
    work: WordListWork,
    provider: Provider,
    ledgers: Ledgers,
    reporter: Reporter,
) -> Ending | None:
    """Ask and judge round by round. What was answered before is judged again and not asked."""
    try:
        for indices in plan_rounds(config, grown):
            undecided = [i for i in indices if not ledgers.state.is_decided(i)]
            if undecided:
                settings = Settings(
                    target=ledgers.state.n_accepted + len(undecided),
                    max_attempts=_MAX_ATTEMPTS,
                    grace_seconds=config.grace_seconds,
                    only=undecided,
                )
                ending = await Pipeline(
                    work, provider, config.provider, settings, ledgers, reporter
                ).run()
                if ending.kind in ("interrupted", "budget"):
                    return ending
            ledgers.sync()
            judge(grown, indices, ledgers.paths, ledgers.state)
        return None
    finally:
        await provider.aclose()


def plan_rounds(config: VocabularyConfig, grown: WordList) -> Iterator[list[int]]:
    """Yield the requests of each round: the next ones of every class that still lacks words."""
    following = {name: place for place, name in enumerate(CLASSES)}
    while not grown.is_complete:
        indices = []
        for name in CLASSES:
            n_wanted = -(-grown.missing(name) // config.words_per_request)
            for _ in range(min(n_wanted, _MOST_PER_ROUND)):
                indices.append(following[name])
                following[name] += len(CLASSES)
        if min(indices) >= config.max_requests:
            return
        yield sorted(index for index in indices if index < config.max_requests)


def judge(grown: WordList, indices: Sequence[int], paths: LedgerPaths, state: State) -> None:
    """Offer the words of these requests' answers, in the order of the requests."""
    if not state.n_accepted:
        return
    with open(paths.accepted, "rb") as file:
        for index in indices:
            if state.is_accepted(index):
                record = journal.read_at(file, state.offsets[index])
                for word in record["words"]:
                    grown.offer(record["class"], word)


def _write(
    config: VocabularyConfig, grown: WordList, n_answers: int, reporter: Reporter
) -> WordListResult:
    words = {name: tuple(grown.words[name]) for name in CLASSES}
    listed = Vocabulary(words["nouns"], words["verbs"], words["adjectives"], {}, {})
    result = WordListResult(
        path=config.output,
        report=report_path(config.output),
        sha256=vocabulary_sha(listed),
        n_words={name: len(words[name]) for name in CLASSES},
        refused={reason: len(found) for reason, found in sorted(grown.refused.items())},
        n_answers=n_answers,
    )
    write_json(config.output, {name: list(words[name]) for name in CLASSES})
    report = {
        "sha256": result.sha256,
        "words": result.n_words,
        "answers": n_answers,
        "refused": {
            reason: [{"class": name, "word": word, "times": n} for (name, word), n in found.items()]
            for reason, found in sorted(grown.refused.items())
        },
        "source": config.source,
        "rules": config.rules.model_dump(mode="json"),
        "written_by": author("gen-vocab"),
    }
    write_json(result.report, report)
    counts = ", ".join(f"{n:,} {name}" for name, n in result.n_words.items())
    refused = ", ".join(f"{n:,} {reason}" for reason, n in result.refused.items()) or "none"
    reporter.note(f"{counts}; refused: {refused} ({result.report.name} names them)")
    return result
