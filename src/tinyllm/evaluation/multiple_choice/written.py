"""Answers that the model writes, greedily, and which choice they name.

An answer is taken for a choice when it is the choice's text or letter, or when its words hold the
text of one choice and of no other. All else is unmatched and counts as wrong: what a reader would
have to guess is no answer.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from tinyllm.config.generation import Sampling
from tinyllm.evaluation.multiple_choice.asking import Asking, letter
from tinyllm.evaluation.multiple_choice.scores import Result, summarise
from tinyllm.generation.engine import Engine
from tinyllm.records import MultipleChoice

Match = Literal["exact", "letter", "contains", "several", "none"]
_MAX_NEW_TOKENS = 32
_LETTER = re.compile(r"(?:(?:the )?answer(?: is)?:? *)?\(?([A-Z])\)?(?:[.):](?:\s.*)?)?", re.DOTALL)
_NO_WORD = re.compile(r"[^\w\s]|_")


@dataclass(frozen=True, slots=True)
class WrittenPrediction:
    """One written answer, and the choice it was taken for (None: unmatched)."""

    question: MultipleChoice
    text: str
    choice: int | None
    match: Match
    n_truncated: int = 0

    @property
    def metrics(self) -> tuple[str, ...]:
        """There is but one."""
        return ("acc",)

    def values(self, metric: str) -> None:
        """Return nothing: a written answer does not weigh the choices."""

    def best(self, metric: str) -> list[int]:
        """Return the choice, if there is one."""
        return [] if self.choice is None else [self.choice]

    def to_json(self) -> dict[str, object]:
        """Return the answer's text, and how it was matched."""
        return {"text": self.text, "match": self.match, "n_truncated": self.n_truncated}


def predict(
    engine: Engine,
    questions: Sequence[MultipleChoice],
    asking: Asking,
    *,
    batch_size: int,
    advance: Callable[[int], None] | None = None,
) -> list[WrittenPrediction]:
    """Let the model answer each question, the choices shown, by its likeliest tokens."""
    n_new = min(_MAX_NEW_TOKENS, engine.context_length // 2)
    room = engine.context_length - n_new
    prompts = [asking.prompt_ids(question, engine.tokenizer) for question in questions]
    sampling = Sampling(temperature=0.0, max_new_tokens=n_new, seed=0)
    predictions = []
    for begin in range(0, len(questions), batch_size):
        chunk = range(begin, min(begin + batch_size, len(questions)))
        completions = engine.complete([prompts[i][-room:] for i in chunk], sampling)
        for i, completion in zip(chunk, completions, strict=True):
            text = completion.text.strip()
            if asking.template is None:
                text = text.partition("\n")[0].strip()  # what follows is the next question
            choice, match = match_choice(text, questions[i].choices)
            n_cut = max(0, len(prompts[i]) - room)
            predictions.append(WrittenPrediction(questions[i], text, choice, match, n_cut))
        if advance is not None:
            advance(len(chunk))
    return predictions


def match_choice(text: str, choices: Sequence[str]) -> tuple[int | None, Match]:
    """Return the choice that a written answer names, and how it does."""
    answer, options = _words(text), [_words(choice) for choice in choices]
    same = [i for i, option in enumerate(options) if option == answer]
    if len(same) == 1:
        return same[0], "exact"
    letters = {letter(i): i for i in range(len(choices))}
    named = _LETTER.fullmatch(text.strip())
    if named is not None and named[1] in letters:
        return letters[named[1]], "letter"
    held = [i for i, option in enumerate(options) if option and f" {option} " in f" {answer} "]
    widest = [i for i in held if not any(_is_inside(options[i], options[j]) for j in held)]
    if len(widest) == 1:
        return widest[0], "contains"
    return None, "several" if widest else "none"


def summarise_written(predictions: Sequence[WrittenPrediction], form: str) -> Result:
    """Return the score, and how the answers were matched."""
    matched = Counter(p.match for p in predictions)
    n_unmatched = sum(p.choice is None for p in predictions)
    return summarise(
        predictions,
        form,
        primary="acc",
        details={
            "unmatched_rate": n_unmatched / len(predictions),
            "n_by_match": dict(sorted(matched.items())),
        },
    )


def _words(text: str) -> str:
    """Return the words alone, in one case, one space between them."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(_NO_WORD.sub(" ", plain).split())


def _is_inside(option: str, other: str) -> bool:
    return option != other and f" {option} " in f" {other} "
