"""Questions with choices, scored by how likely the model finds each choice.

The plain form ("cloze") is that of lm-evaluation-harness: the context is the question alone, the
continuation one space and the choice, tokenised together. The chat form puts the question into
the model's own template and the choice where the answer stands. One pass gives five scores, which
differ in how the choices' log-likelihoods are made comparable:

    acc         the sum itself
    acc_norm    per character of the choice (the primary one; as in lm-evaluation-harness)
    acc_bytes   per UTF-8 byte of the choice
    acc_token   per token
    acc_uncond  minus the log-likelihood of the choice after "Answer:" alone
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from tinyllm.chat_template import ChatTemplate, render_prompt
from tinyllm.errors import DataError
from tinyllm.evaluation.statistics import (
    Interval,
    binomial_tail,
    mean,
    standard_error,
    wilson_interval,
)
from tinyllm.generation.engine import Engine
from tinyllm.generation.loglikelihood import encode_pair
from tinyllm.records import Message, MultipleChoice
from tinyllm.tokenizer import Tokenizer

METRICS = ("acc", "acc_norm", "acc_bytes", "acc_token", "acc_uncond")
PRIMARY = "acc_norm"
WITHOUT_QUESTION = "Answer:"
"""What stands in the question's place to measure a choice by itself."""

_TIE = 1e-6
"""Scores this close (relative to their size) are a tie: float32 sums are no more exact."""
_MOST_UNKNOWN = 0.01

Form = Literal["cloze", "chat"]
Ids = list[int]


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the model made of one question; lists run over the choices."""

    question: MultipleChoice
    nats: list[float]
    nats_without_question: list[float]
    n_tokens: list[int]
    n_truncated: int
    is_boundary_moved: bool

    def values(self, metric: str) -> list[float]:
        """Return what the choices are compared by."""
        choices = self.question.choices
        match metric:
            case "acc":
                return self.nats
            case "acc_norm":
                return _ratios(self.nats, [len(c) for c in choices])
            case "acc_bytes":
                return _ratios(self.nats, [len(c.encode()) for c in choices])
            case "acc_token":
                return _ratios(self.nats, self.n_tokens)
            case "acc_uncond":
                pairs = zip(self.nats, self.nats_without_question, strict=True)
                return [conditional - alone for conditional, alone in pairs]
        raise ValueError(f"there is no metric {metric!r}; known: {', '.join(METRICS)}")

    def to_json(self) -> dict[str, object]:
        """Return one line of `predictions.jsonl`."""
        return {
            "id": self.question.id,
            "answer": self.question.answer,
            "picks": {metric: tied_best(self.values(metric))[0] for metric in METRICS},
            "nats": self.nats,
            "nats_without_question": self.nats_without_question,
            "n_tokens": self.n_tokens,
            "n_characters": [len(choice) for choice in self.question.choices],
            "n_truncated": self.n_truncated,
        }


@dataclass(frozen=True, slots=True)
class Score:
    """One accuracy with its uncertainty. `p_value`: chance alone would do as well or better."""

    value: float
    standard_error: float
    interval: Interval
    p_value: float
    n_ties: int


@dataclass(frozen=True, slots=True)
class Result:
    """All scores of one form, and the baselines that need no reading of the question."""

    form: Form
    n_questions: int
    chance: float
    scores: dict[str, Score]
    baselines: dict[str, float]
    n_truncated: int
    n_boundaries_moved: int
    predictions: list[Prediction]


def evaluate(
    engine: Engine,
    questions: Sequence[MultipleChoice],
    *,
    template: ChatTemplate | None = None,
    batch_size: int = 32,
    advance: Callable[[int], None] | None = None,
) -> Result:
    """Score all questions; the chat form when a template is given, else the plain form.

    The batch size changes no pick. Raises DataError without questions, and when more than one
    in a hundred tokens is unknown to the tokenizer.
    """
    if not questions:
        raise DataError("there are no questions to answer")
    requests: list[tuple[Ids, Ids]] = []
    moved: list[bool] = []
    for question in questions:
        pairs = [_pair(engine.tokenizer, question.question, c, template) for c in question.choices]
        alone = [_pair(engine.tokenizer, WITHOUT_QUESTION, c, template) for c in question.choices]
        requests += [(context, rest) for context, rest, _ in pairs + alone]
        moved.append(any(is_moved for _, _, is_moved in pairs))
    _require_known(requests, engine.tokenizer)
    scored = iter(engine.loglikelihood(requests, batch_size=batch_size, advance=advance))
    predictions = []
    for question, is_moved in zip(questions, moved, strict=True):
        asked = [next(scored) for _ in question.choices]
        alone_scores = [next(scored) for _ in question.choices]
        predictions.append(
            Prediction(
                question=question,
                nats=[score.nats for score in asked],
                nats_without_question=[score.nats for score in alone_scores],
                n_tokens=[score.n_tokens for score in asked],
                n_truncated=max(score.n_truncated for score in asked),
                is_boundary_moved=is_moved,
            )
        )
    return summarise(predictions, "chat" if template is not None else "cloze")


def summarise(predictions: list[Prediction], form: Form) -> Result:
    """Turn predictions into scores and baselines."""
    chance = mean([1 / len(p.question.choices) for p in predictions])
    return Result(
        form=form,
        n_questions=len(predictions),
        chance=chance,
        scores={metric: _score(predictions, metric, chance) for metric in METRICS},
        baselines=_baselines(predictions),
        n_truncated=sum(p.n_truncated > 0 for p in predictions),
        n_boundaries_moved=sum(p.is_boundary_moved for p in predictions),
        predictions=predictions,
    )


def tied_best(values: Sequence[float]) -> list[int]:
    """Return the indices of the largest values, the first of them first."""
    best = max(values)
    return [i for i, v in enumerate(values) if best - v <= _TIE * max(1.0, abs(best))]


def credit(values: Sequence[float], answer: int) -> float:
    """Return 1 for the right choice alone on top, 1/t when t choices share the top, else 0."""
    best = tied_best(values)
    return 1 / len(best) if answer in best else 0.0


def _pair(
    tokenizer: Tokenizer, question: str, choice: str, template: ChatTemplate | None
) -> tuple[Ids, Ids, bool]:
    if template is None:
        return encode_pair(tokenizer, question, " " + choice)
    context = render_prompt((Message("user", question),), tokenizer, template)
    return context, tokenizer.encode(choice), False


def _require_known(requests: Sequence[tuple[Ids, Ids]], tokenizer: Tokenizer) -> None:
    if tokenizer.unknown_id is None:
        return
    ids = [i for context, rest in requests for i in (*context, *rest)]
    share = ids.count(tokenizer.unknown_id) / len(ids)
    if share > _MOST_UNKNOWN:
        raise DataError(
            f"{100 * share:.1f} % of the questions' characters are unknown to this model's "
            "tokenizer, so its scores would say nothing",
            "Use a model whose tokenizer knows them (byte-level BPE knows all).",
        )


def _score(predictions: Sequence[Prediction], metric: str, chance: float) -> Score:
    values = [p.values(metric) for p in predictions]
    credits = [credit(v, p.question.answer) for v, p in zip(values, predictions, strict=True)]
    total, n = sum(credits), len(credits)
    return Score(
        value=total / n,
        standard_error=standard_error(credits),
        interval=wilson_interval(total, n),
        p_value=binomial_tail(int(total + 1e-9), n, chance),
        n_ties=sum(len(tied_best(v)) > 1 for v in values),
    )


def _baselines(predictions: Sequence[Prediction]) -> dict[str, float]:
    questions = [p.question for p in predictions]
    lengths = [[float(len(c)) for c in q.choices] for q in questions]
    alone = [p.nats_without_question for p in predictions]
    by_length = [
        _ratios(nats, [len(c) for c in q.choices]) for nats, q in zip(alone, questions, strict=True)
    ]
    most_frequent = Counter(q.answer for q in questions).most_common(1)[0][1]

    def share(values: Sequence[Sequence[float]]) -> float:
        return mean([credit(v, q.answer) for v, q in zip(values, questions, strict=True)])

    return {
        "uniform": mean([1 / len(q.choices) for q in questions]),
        "majority_label": most_frequent / len(questions),
        "longest_choice": share(lengths),
        "shortest_choice": share([[-x for x in row] for row in lengths]),
        "choices_only_acc": share(alone),
        "choices_only_acc_norm": share(by_length),
    }


def _ratios(nats: Sequence[float], sizes: Sequence[int]) -> list[float]:
    return [value / max(1, size) for value, size in zip(nats, sizes, strict=True)]
