"""How likely the model finds each choice's letter, the choices shown below the question.

Small models like one letter or one place better than the others. So every question is asked in
all cyclic rotations of its choices, and a choice is worth the mean log-likelihood of the letters
it stood behind: each choice has every letter once, and a liking for letters cancels out.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tinyllm.evaluation.multiple_choice.asking import Asking, letter
from tinyllm.evaluation.multiple_choice.scores import Result, credit, summarise, tied_best
from tinyllm.evaluation.statistics import mean
from tinyllm.generation.engine import Engine
from tinyllm.records import MultipleChoice


@dataclass(frozen=True, slots=True)
class LettersPrediction:
    """One question in all rotations: `rotations[r][i]` is choice i's log-likelihood in nats.

    In rotation r, choice i stands at place (i - r) modulo the number of choices.
    """

    question: MultipleChoice
    rotations: list[list[float]]
    n_truncated: int = 0

    @property
    def metrics(self) -> tuple[str, ...]:
        """The rotations taken together, and the published order alone."""
        return ("acc", "acc_one_order")

    @property
    def nats(self) -> list[float]:
        """The mean over the rotations, choice by choice."""
        return [mean(column) for column in zip(*self.rotations, strict=True)]

    def values(self, metric: str) -> list[float]:
        """Return what the choices are compared by."""
        return self.nats if metric == "acc" else self.rotations[0]

    def best(self, metric: str) -> list[int]:
        """Return the choices that share the top."""
        return tied_best(self.values(metric))

    def top_letters(self) -> list[str]:
        """Return the letter that won each rotation."""
        n = len(self.question.choices)
        return [letter((tied_best(row)[0] - r) % n) for r, row in enumerate(self.rotations)]

    def to_json(self) -> dict[str, object]:
        """Return the log-likelihoods of all rotations."""
        return {
            "nats": self.nats,
            "rotations": self.rotations,
            "n_truncated": self.n_truncated,
        }


def predict(
    engine: Engine,
    questions: Sequence[MultipleChoice],
    asking: Asking,
    *,
    batch_size: int,
    advance: Callable[[int], None] | None = None,
) -> list[LettersPrediction]:
    """Score every letter below every rotation of the choices."""
    pairs = []
    for question in questions:
        n = len(question.choices)
        for r in range(n):
            order = [(place + r) % n for place in range(n)]
            requests = [
                asking.letter_request(question, order, (i - r) % n, engine.tokenizer)
                for i in range(n)
            ]
            pairs += [(request.context, request.continuation) for request in requests]
    scored = iter(engine.loglikelihood(pairs, batch_size=batch_size, advance=advance))
    predictions = []
    for question in questions:
        n = len(question.choices)
        table = [[next(scored) for _ in range(n)] for _ in range(n)]
        predictions.append(
            LettersPrediction(
                question=question,
                rotations=[[one.nats for one in row] for row in table],
                n_truncated=max(one.n_truncated for row in table for one in row),
            )
        )
    return predictions


def summarise_letters(predictions: Sequence[LettersPrediction], form: str) -> Result:
    """Return the scores, how often each letter won, and how often all rotations agree."""
    won = Counter(top for p in predictions for top in p.top_letters())
    n_asked = won.total()
    same = [len({tuple(tied_best(row)) for row in p.rotations}) == 1 for p in predictions]
    right = [
        [credit(tied_best(row), p.question.answer) for row in p.rotations] for p in predictions
    ]
    return summarise(
        predictions,
        form,
        primary="acc",
        details={
            "share_of_letters_won": {key: won[key] / n_asked for key in sorted(won)},
            "share_same_in_all_rotations": mean([float(s) for s in same]),
            "mean_acc_of_single_rotations": mean([mean(row) for row in right]),
        },
    )
