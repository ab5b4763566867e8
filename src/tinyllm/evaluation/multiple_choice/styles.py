"""One way in for all styles: questions and an engine -> a result."""

from collections.abc import Callable, Sequence

from tinyllm.errors import DataError
from tinyllm.evaluation.multiple_choice import cloze, letters, written
from tinyllm.evaluation.multiple_choice.asking import Asking
from tinyllm.evaluation.multiple_choice.scores import Result
from tinyllm.generation.engine import Engine
from tinyllm.records import MultipleChoice

_MOST_UNKNOWN = 0.01


def evaluate(
    engine: Engine,
    questions: Sequence[MultipleChoice],
    asking: Asking | None = None,
    *,
    batch_size: int = 32,
    advance: Callable[[int], None] | None = None,
) -> Result:
    """Answer all questions; without an `asking` as plain text, nothing before or after them.

    The batch size changes no pick. Raises DataError without questions, and when more than one
    in a hundred tokens is unknown to the tokenizer.
    """
    asking = asking or Asking()
    if not questions:
        raise DataError("there are no questions to answer")
    _require_known(engine, questions, asking)
    match asking.style:
        case "cloze":
            scored = cloze.predict(
                engine, questions, asking, batch_size=batch_size, advance=advance
            )
            return cloze.summarise_cloze(scored, asking.form, primary=asking.task.primary)
        case "letters":
            rotated = letters.predict(
                engine, questions, asking, batch_size=batch_size, advance=advance
            )
            return letters.summarise_letters(rotated, asking.form)
        case "generate":
            answers = written.predict(
                engine, questions, asking, batch_size=batch_size, advance=advance
            )
            return written.summarise_written(answers, asking.form)


def n_rows(questions: Sequence[MultipleChoice], asking: Asking) -> int | None:
    """Return how many rows will be scored, at most; None where it is not known beforehand."""
    if asking.style == "generate":
        return len(questions)
    if asking.style == "letters":
        return sum(len(q.choices) ** 2 for q in questions)
    return None


def _require_known(engine: Engine, questions: Sequence[MultipleChoice], asking: Asking) -> None:
    tokenizer = engine.tokenizer
    if tokenizer.unknown_id is None:
        return
    ids = [
        i
        for question in questions
        for request in asking.cloze_requests(question, tokenizer)
        for i in (*request.context, *request.continuation)
    ]
    share = ids.count(tokenizer.unknown_id) / len(ids)
    if share > _MOST_UNKNOWN:
        raise DataError(
            f"{100 * share:.1f} % of the questions' characters are unknown to this model's "
            "tokenizer, so its scores would say nothing",
            "Use a model whose tokenizer knows them (byte-level BPE knows all).",
        )
