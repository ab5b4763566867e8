"""How likely the model finds each choice after the question, the choices not shown."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tinyllm.evaluation.multiple_choice.asking import Asking
from tinyllm.evaluation.multiple_choice.scores import (
    METRICS,
    PRIMARY,
    Result,
    per_size,
    share_right,
    summarise,
    tied_best,
)
from tinyllm.generation.engine import Engine
from tinyllm.records import MultipleChoice


@dataclass(frozen=True, slots=True)
class ClozePrediction:
    """The log-likelihoods of one question; lists run over the choices.

    `scored` is the text whose likelihood it is: the choice, or what follows the gap it fills.
    """

    question: MultipleChoice
    scored: Sequence[str]
    nats: list[float]
    nats_without_question: list[float]
    n_tokens: list[int]
    n_truncated: int = 0
    is_boundary_moved: bool = False

    @property
    def metrics(self) -> tuple[str, ...]:
        """All five."""
        return METRICS

    def values(self, metric: str) -> list[float]:
        """Return what the choices are compared by."""
        match metric:
            case "acc":
                return self.nats
            case "acc_norm":
                return per_size(self.nats, [len(text) for text in self.scored])
            case "acc_bytes":
                return per_size(self.nats, [len(text.encode()) for text in self.scored])
            case "acc_token":
                return per_size(self.nats, self.n_tokens)
            case "acc_uncond":
                pairs = zip(self.nats, self.nats_without_question, strict=True)
                return [conditional - alone for conditional, alone in pairs]
        raise ValueError(f"there is no metric {metric!r}; known: {', '.join(METRICS)}")

    def best(self, metric: str) -> list[int]:
        """Return the choices that share the top."""
        return tied_best(self.values(metric))

    def to_json(self) -> dict[str, object]:
        """Return the log-likelihoods, and what they are divided by."""
        return {
            "nats": self.nats,
            "nats_without_question": self.nats_without_question,
            "n_tokens": self.n_tokens,
            "n_characters": [len(text) for text in self.scored],
            "n_truncated": self.n_truncated,
        }


def predict(
    engine: Engine,
    questions: Sequence[MultipleChoice],
    asking: Asking,
    *,
    batch_size: int,
    advance: Callable[[int], None] | None = None,
) -> list[ClozePrediction]:
    """Score every choice after its question, and after "Answer:" alone."""
    rows = [
        (
            asking.cloze_requests(question, engine.tokenizer),
            asking.alone_requests(question, engine.tokenizer),
        )
        for question in questions
    ]
    pairs = [(r.context, r.continuation) for asked, alone in rows for r in (*asked, *alone)]
    scored = iter(engine.loglikelihood(pairs, batch_size=batch_size, advance=advance))
    predictions = []
    for question, (asked, alone) in zip(questions, rows, strict=True):
        after = [next(scored) for _ in asked]
        by_itself = [next(scored) for _ in alone]
        predictions.append(
            ClozePrediction(
                question=question,
                scored=asking.scored_texts(question),
                nats=[one.nats for one in after],
                nats_without_question=[one.nats for one in by_itself],
                n_tokens=[one.n_tokens for one in after],
                n_truncated=max(one.n_truncated for one in after),
                is_boundary_moved=any(request.is_boundary_moved for request in asked),
            )
        )
    return predictions


def summarise_cloze(
    predictions: Sequence[ClozePrediction], form: str = "cloze", *, primary: str = PRIMARY
) -> Result:
    """Return the scores, with what the model picks when the question is taken away."""
    questions = [p.question for p in predictions]
    alone = [p.nats_without_question for p in predictions]
    by_length = [per_size(p.nats_without_question, [len(t) for t in p.scored]) for p in predictions]
    return summarise(
        predictions,
        form,
        primary=primary,
        baselines={
            "choices_only_acc": share_right(alone, questions),
            "choices_only_acc_norm": share_right(by_length, questions),
        },
        details={"n_boundaries_moved": sum(p.is_boundary_moved for p in predictions)},
    )
