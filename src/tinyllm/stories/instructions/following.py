"""Does a model do what it is told? Words used, sentences held, dialogue given or left out.

Everything is found in the text, nothing is judged by taste. A story also meets requests that
nobody made of it: most hold a "little" something, most hold speech. So each text is held against
another story's request, too: what a model follows is what it does beyond that.

    words      share of the words asked for that the text uses, in any form
    sentence   the sentence stands in the text, letter by letter
    dialogue   somebody speaks in a story that was to have dialogue
    no_dialogue   nobody speaks in one that was to have none
    speech     dialogue or none, as asked: the two together
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tinyllm.chat_template import DEFAULT_TEMPLATE, render_prompt
from tinyllm.config.generation import Sampling
from tinyllm.data.rows import read_rows
from tinyllm.errors import DataError
from tinyllm.evaluation.instruction_checks import has_speech, holds_word, tokens_of
from tinyllm.evaluation.statistics import Interval, bootstrap_interval, mean
from tinyllm.generation.engine import Completion, Engine
from tinyllm.records import Message

MEASURES = ("words", "sentence", "dialogue", "no_dialogue")


@dataclass(frozen=True, slots=True)
class Case:
    """One instruction of a held-out story."""

    id: str
    instruction: str
    parts: Mapping[str, Any]

    def asks_for(self, measure: str) -> bool:
        """Whether the instruction asks for what the measure looks at."""
        if measure in ("words", "sentence"):
            return bool(self.parts.get(measure))
        return measure in self.parts.get("features", ())


@dataclass(frozen=True)
class Followed:
    """How far one request was met by a number of texts, and how far by texts for other requests."""

    measure: str
    n: int
    share: float
    interval: Interval
    by_chance: float
    scores: tuple[float, ...]


@dataclass(frozen=True)
class Change:
    """What became of one measure from a first model to a second one, on the same requests."""

    before: Followed
    after: Followed
    difference: Interval
    """95 % interval of the mean difference, pairs drawn anew."""

    @property
    def is_better(self) -> bool:
        """Whether the second model is better beyond the 95 % interval."""
        return self.difference.low > 0


def read_cases(path: Path, n: int) -> list[Case]:
    """Return the first `n` instructions of a dataset.jsonl. Raises DataError for another file."""
    rows = list(itertools.islice(read_rows(path), n))
    try:
        return [Case(row["id"], row["instruction"], row["parts"]) for row in rows]
    except (KeyError, TypeError) as error:
        raise DataError(
            f"{path} holds no instructions with their parts",
            "Give the dataset.jsonl of gen-instructions.",
        ) from error


def answer(
    engine: Engine, cases: Sequence[Case], sampling: Sampling, *, opening: str | None = None
) -> list[Completion]:
    """Return one text for each case.

    A model without a chat template of its own is asked in the default one, so that a model and
    what it was tuned from read the same ids. With `opening` it goes on from the instruction, a
    blank line and this beginning of a story, as a model that knows texts alone is best asked.
    """
    prompts = [_prompt(engine, case, opening) for case in cases]
    room = engine.context_length - max(map(len, prompts))
    if room < 1:
        raise DataError(f"an instruction fills the context of {engine.context_length} tokens")
    return engine.complete(prompts, sampling)


def _prompt(engine: Engine, case: Case, opening: str | None) -> list[int]:
    if opening is not None:
        return engine.tokenizer.encode_prompt(f"{case.instruction}\n\n{opening}")
    template = engine.loaded.template or DEFAULT_TEMPLATE
    return render_prompt([Message("user", case.instruction)], engine.tokenizer, template)


def score(case: Case, measure: str, text: str) -> float:
    """Return how far a text does what a case asks for: 0 to 1."""
    if measure == "words":
        tokens = tokens_of(text)
        return mean([float(holds_word(tokens, word)) for word in case.parts["words"]])
    if measure == "sentence":
        return float(case.parts["sentence"] in text)
    return float(has_speech(text) == (measure == "dialogue"))


def judge(cases: Sequence[Case], texts: Sequence[str], *, seed: int) -> dict[str, Followed]:
    """Return all measures that some of the cases ask for; `texts` are those of the cases."""
    found = {}
    for measure in MEASURES:
        asked = [(i, case) for i, case in enumerate(cases) if case.asks_for(measure)]
        if not asked:
            continue
        scores = tuple(score(case, measure, texts[i]) for i, case in asked)
        others = [score(case, measure, texts[_another(i, cases, measure)]) for i, case in asked]
        found[measure] = _followed(measure, scores, mean(others), seed=seed)
    if "dialogue" in found and "no_dialogue" in found:
        found["speech"] = _together(found["dialogue"], found["no_dialogue"], seed=seed)
    return found


def _followed(measure: str, scores: tuple[float, ...], by_chance: float, *, seed: int) -> Followed:
    interval = bootstrap_interval(scores, seed=seed)
    return Followed(measure, len(scores), mean(scores), interval, by_chance, scores)


def _together(one: Followed, other: Followed, *, seed: int) -> Followed:
    by_chance = (one.n * one.by_chance + other.n * other.by_chance) / (one.n + other.n)
    return _followed("speech", one.scores + other.scores, by_chance, seed=seed)


def _another(index: int, cases: Sequence[Case], measure: str) -> int:
    """Return the next case that does not ask for the same; the next one where all do."""
    n = len(cases)
    for step in range(1, n):
        other = (index + step) % n
        if measure in ("words", "sentence") or not cases[other].asks_for(measure):
            return other
    return (index + 1) % n


def compare(
    before: Mapping[str, Followed], after: Mapping[str, Followed], *, seed: int
) -> list[Change]:
    """Return what changed, from two judgements of the same cases."""
    changes = []
    for measure in before:
        pairs = zip(after[measure].scores, before[measure].scores, strict=True)
        differences = [new - old for new, old in pairs]
        interval = bootstrap_interval(differences, seed=seed)
        changes.append(Change(before[measure], after[measure], interval))
    return changes


def as_table(changes: Iterable[Change]) -> str:
    """Return the comparison as a table in Markdown, in percent."""
    rows = [
        "| asked for | requests | before | after | by chance (after) | difference, points |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for change in changes:
        old, new = change.before, change.after
        difference = 100 * (new.share - old.share)
        low, high = (100 * bound for bound in change.difference)
        rows.append(
            f"| {new.measure} | {new.n} | {_percent(old)} | {_percent(new)} "
            f"| {100 * new.by_chance:.1f} | {difference:+.1f} ({low:+.1f} to {high:+.1f}) |"
        )
    return "\n".join(rows)


def _percent(followed: Followed) -> str:
    low, high = (100 * bound for bound in followed.interval)
    return f"{100 * followed.share:.1f} ({low:.1f} to {high:.1f})"


def to_json(changes: Iterable[Change]) -> list[dict[str, Any]]:
    """Return plain JSON values, without the single scores."""
    values = []
    for change in changes:
        value = asdict(change)
        for side in ("before", "after"):
            del value[side]["scores"]
        values.append({**value, "is_better": change.is_better})
    return values
