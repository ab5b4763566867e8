"""What growing a word list would ask and cost, and how far it is: without asking anybody."""

from dataclasses import dataclass
from typing import Any

from tinyllm.config.vocabulary import VocabularyConfig
from tinyllm.errors import DataError
from tinyllm.providers.base import Capabilities
from tinyllm.providers.pipeline.ledgers import read_state
from tinyllm.providers.pipeline.looking import (
    SAMPLED,
    Projection,
    RunStatus,
    project,
    read_run_status,
)
from tinyllm.records import Message
from tinyllm.stories.vocabulary import CLASSES
from tinyllm.stories.word_list import WordListFolder, begin, judge, plan_rounds
from tinyllm.stories.word_list_asking import WordListWork

_TOKENS_PER_WORD = 3


@dataclass(frozen=True)
class WordListDryRun:
    """What the built-in list gives, and what a provider would be asked for the rest."""

    n_there: dict[str, int]
    n_wanted: dict[str, int]
    asked: Projection | None
    """None when nobody would be asked. It takes every word of an answer to be a good one."""

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        asked = None if self.asked is None else self.asked.to_json()
        return {"there": self.n_there, "wanted": self.n_wanted, "asked": asked}

    def as_text(self) -> str:
        """Say it for people."""
        there = _counts(self.n_there, self.n_wanted)
        if self.asked is None:
            return f"words            {there}; nobody would be asked"
        return "\n".join(
            [
                *self.asked.prompts_as_text(),
                f"words            {there}",
                f"requests         {self.asked.n_requests:,} if every word is a good one",
                *self.asked.as_lines(),
            ]
        )


def dry_run(config: VocabularyConfig) -> WordListDryRun:
    """Plan the requests as if every word were good. Raises as `word_list.run` does."""
    grown = begin(config)
    n_there = {name: len(grown.words[name]) for name in CLASSES}
    n_wanted = {name: getattr(config, name) for name in CLASSES}
    if config.source == "builtin" or grown.is_complete:
        return WordListDryRun(n_there, n_wanted, None)
    asked = Capabilities(
        config.provider.kind,
        config.provider.openai.model or "",
        is_deterministic=False,
        streams=False,
    )
    work = WordListWork(config, asked)
    n_lists = {name: -(-grown.missing(name) // config.words_per_request) for name in CLASSES}
    n_requests = min(config.max_requests, sum(n_lists.values()))
    first = next(plan_rounds(config, grown), [])[:SAMPLED]
    projection = project(
        config.provider,
        [(work.item_id(i), (Message("user", work.prompt(i)),)) for i in first],
        n_requests,
        likely_tokens=_TOKENS_PER_WORD * config.words_per_request,
        max_tokens=config.sampling.max_tokens,
    )
    return WordListDryRun(n_there, n_wanted, projection)


@dataclass(frozen=True)
class WordListStatus:
    """The words so far, and the answers that they come from."""

    n_words: dict[str, int]
    n_wanted: dict[str, int]
    answers: RunStatus

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {"words": self.n_words, "wanted": self.n_wanted, "answers": self.answers.to_json()}

    def as_text(self) -> str:
        """Say it in a few lines."""
        return f"words      {_counts(self.n_words, self.n_wanted)}\n{self.answers.as_text()}"


def read_status(config: VocabularyConfig) -> WordListStatus:
    """Judge the answers that are there. Raises DataError when nobody was asked yet."""
    folder = WordListFolder(config.output)
    if not folder.run_file.is_file():
        raise DataError(
            f"nobody was asked for {config.output}", "A list that needs no provider has no run."
        )
    grown = begin(config)
    state, _ = read_state(folder.ledgers)
    for indices in plan_rounds(config, grown):
        judge(grown, indices, folder.ledgers, state)
        if not all(state.is_decided(index) for index in indices):
            break
    n_words = {name: len(grown.words[name]) for name in CLASSES}
    n_wanted = {name: getattr(config, name) for name in CLASSES}
    answers = read_run_status(folder.ledgers, config.max_requests, "answers at most")
    return WordListStatus(n_words, n_wanted, answers)


def _counts(there: dict[str, int], wanted: dict[str, int]) -> str:
    return ", ".join(f"{there[name]:,} of {wanted[name]:,} {name}" for name in CLASSES)
