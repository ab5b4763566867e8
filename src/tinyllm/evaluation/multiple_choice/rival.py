"""The same questions answered by two models, compared question by question.

Only questions on which the two differ say which is better. Where ties are shared, the higher
credit counts as the better answer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tinyllm.data.rows import read_rows
from tinyllm.errors import DataError
from tinyllm.evaluation.multiple_choice.scores import Result, credit
from tinyllm.evaluation.statistics import mcnemar_exact, mean
from tinyllm.files import require_file

_ALPHA = 0.05

Credits = Mapping[str, Mapping[str, float]]
"""What each question's answer is worth, by metric: {question id: {metric: 0 to 1}}."""


@dataclass(frozen=True, slots=True)
class Rival:
    """Another model's answers, form by form, and where they come from."""

    name: str
    forms: Mapping[str, Credits]


@dataclass(frozen=True, slots=True)
class Pairing:
    """Two models on the same questions. `difference` is this model's accuracy minus the other's.

    `smallest_visible` is the least difference that the test would see when the two disagree on as
    many questions as they do here; None where none would do.
    """

    form: str
    metric: str
    n_questions: int
    n_only_this: int
    n_only_other: int
    difference: float
    p_value: float
    smallest_visible: float | None

    @property
    def verdict(self) -> str:
        """Say in one sentence what the comparison shows."""
        better = "this model" if self.difference > 0 else "the other"
        if self.p_value < _ALPHA:
            return f"{better} is better (McNemar's exact test, p = {self.p_value:.3g})"
        return f"no difference shown (McNemar's exact test, p = {self.p_value:.3g})"

    def to_json(self) -> dict[str, object]:
        """Return plain values for JSON."""
        return {**asdict(self), "verdict": self.verdict}


def credits_of(result: Result) -> dict[str, dict[str, float]]:
    """Return what each question's answer is worth."""
    return {
        p.question.id: {metric: credit(p.best(metric), p.question.answer) for metric in p.metrics}
        for p in result.predictions
    }


def find_predictions(other: str) -> Path | None:
    """Return the file of predictions that a path names itself or as its folder, else None."""
    path = Path(other).expanduser()
    if path.is_dir() and (path / "predictions.jsonl").is_file():
        return path / "predictions.jsonl"
    return path if path.suffix == ".jsonl" else None


def read_rival(path: Path, questions: Mapping[str, str]) -> Rival:
    """Read another model's predictions on these questions, texts by id.

    Raises DataError for a file that holds none, or predictions on other questions.
    """
    forms: dict[str, dict[str, dict[str, float]]] = {}
    asked: dict[str, str] = {}
    require_file(path, "file of predictions")
    for number, row in enumerate(read_rows(path), start=1):
        try:
            worth = {str(name): float(value) for name, value in row["credits"].items()}
            asked[str(row["id"])] = row["question"]
            forms.setdefault(str(row["form"]), {})[str(row["id"])] = worth
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(
                f"{path}:{number}: this is not a prediction on a multiple-choice question",
                "Name a predictions.jsonl that this command wrote, or a checkpoint.",
            ) from error
    if asked != questions or any(answered.keys() != asked.keys() for answered in forms.values()):
        n_same = len(asked.items() & questions.items())
        raise DataError(
            f"{path} holds answers to {len(asked)} questions, of which {n_same} are among the "
            f"{len(questions)} asked here",
            "Compare two runs on the same file, with the same --limit.",
        )
    return Rival(str(path), forms)


def pair(result: Result, rival: Rival) -> Pairing:
    """Compare a form's primary score with the rival's, which must have that form.

    Raises DataError where the rival's answers were never scored that way.
    """
    ours, theirs = credits_of(result), rival.forms[result.form]
    metric = result.primary
    if not all(metric in worth for worth in theirs.values()):
        raise DataError(f"{rival.name} holds no {metric} of its answers")
    return pair_credits(
        result.form,
        metric,
        [ours[key][metric] for key in ours],
        [theirs[key][metric] for key in ours],
    )


def pair_credits(form: str, metric: str, ours: Sequence[float], theirs: Sequence[float]) -> Pairing:
    """Compare credits on the same questions, in the same order."""
    n_only_this = sum(a > b for a, b in zip(ours, theirs, strict=True))
    n_only_other = sum(a < b for a, b in zip(ours, theirs, strict=True))
    return Pairing(
        form=form,
        metric=metric,
        n_questions=len(ours),
        n_only_this=n_only_this,
        n_only_other=n_only_other,
        difference=mean(ours) - mean(theirs),
        p_value=mcnemar_exact(n_only_this, n_only_other),
        smallest_visible=smallest_visible(n_only_this + n_only_other, len(ours)),
    )


def smallest_visible(n_discordant: int, n_questions: int) -> float | None:
    """Return the least difference of two accuracies that McNemar's exact test calls one.

    The two models disagree on `n_discordant` of the questions. None where even all of these in one
    model's favour would not be enough (below six).
    """
    for n_more in range(n_discordant // 2, n_discordant + 1):
        if mcnemar_exact(n_more, n_discordant - n_more) < _ALPHA:
            return (2 * n_more - n_discordant) / n_questions
    return None
