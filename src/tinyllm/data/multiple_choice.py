"""Questions with choices, in every layout they are published in.

    ours         {"id", "question", "choices": [text, …], "answer": 0, "fact"}
    archive      {"id", "question": {"stem", "choices": [{"text", "label"}, …]}, "answerKey": "D"}
    hub          {"id", "question_stem", "choices": {"text": […], "label": […]}, "answerKey": "D"}
    table        ID, Question Stem, Choices "(A) … (B) …", Answer Key

The additional files of OpenBookQA carry the science fact behind a question as `fact1`. Any other
layout is described by its `Columns`; text of ours and of described columns is kept to the letter,
for a space more or less is another score.
"""

import re
import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tinyllm.config.multiple_choice import Columns
from tinyllm.data.hub import is_hub_source, read_hub_rows
from tinyllm.data.rows import Row, read_rows
from tinyllm.errors import ConfigError, DataError
from tinyllm.files import require_file
from tinyllm.records import MultipleChoice
from tinyllm.reporting import Reporter

_IN_BRACKETS = re.compile(r"\[.*?\]")
_LABEL = re.compile(r"(?:^|\s)\(([A-Z1-9])\)\s*")


def read_multiple_choice(
    source: str, reporter: Reporter | None = None, columns: Columns | None = None
) -> Iterator[MultipleChoice]:
    """Yield the questions of a .jsonl, .json, .tsv, .csv or .parquet file, or of the hub.

    A file that has the described columns is read by them, any other as one of the usual layouts.
    Raises DataError that names the row which is no question with one right choice.
    """
    if is_hub_source(source):
        rows: Iterator[Row] = read_hub_rows(source, reporter)
    else:
        rows = read_rows(require_file(Path(source).expanduser(), "file of questions"), reporter)
    n_questions = 0
    for number, row in enumerate(rows, start=1):
        yield question_from_row(row, f"{source}, question {number}", f"q{number}", columns)
        n_questions += 1
    if not n_questions:
        raise DataError(f"{source} holds no question", "Check that this is the file you meant.")


def question_from_row(
    row: Row, place: str, default_id: str, columns: Columns | None = None
) -> MultipleChoice:
    """Return a row of any layout as a question. Raises DataError with the place."""
    if columns is not None and not _names_of(columns) - row.keys():
        return _by_columns(row, place, default_id, columns)
    known = {str(key).lower().replace(" ", "_"): value for key, value in row.items()}
    stem: Any = known.get("question_stem", known.get("question"))
    choices: Any = known.get("choices")
    is_ours = isinstance(stem, str) and _is_list_of_text(choices)
    if isinstance(stem, Mapping):
        stem, choices = stem.get("stem"), stem.get("choices")
    labels, texts = _labels_and_texts(choices)
    fact = known.get("fact", known.get("fact1"))
    return _question(
        place,
        id=str(known.get("id") or default_id),
        question=stem if is_ours or not isinstance(stem, str) else stem.strip(),
        choices=texts if is_ours else [text.strip() for text in texts],
        answer=lambda: _answer(known, labels, place),
        fact=fact,
    )


def _question(
    place: str,
    *,
    id: str,
    question: Any,
    choices: Sequence[str],
    answer: Callable[[], int],
    fact: Any,
) -> MultipleChoice:
    if not isinstance(question, str) or not question.strip() or len(choices) < 2:
        raise DataError(
            f"{place}: this is not a question with choices",
            'Expected {"question", "choices", "answer"} or a layout of OpenBookQA.',
        )
    if not all(choice.strip() for choice in choices):
        raise DataError(f"{place}: one of the choices is empty")
    return MultipleChoice(
        id=id,
        question=question,
        choices=tuple(choices),
        answer=answer(),
        fact=fact.strip() if isinstance(fact, str) and fact.strip() else None,
    )


def _by_columns(row: Row, place: str, default_id: str, columns: Columns) -> MultipleChoice:
    if isinstance(columns.choices, tuple):
        labels, texts = _labels_and_texts([str(row[name]) for name in columns.choices])
    else:
        labels, texts = _labels_and_texts(row[columns.choices])
    labels = list(columns.labels or labels)
    clean = _CLEANERS[columns.clean]
    answer = row[columns.answer]
    if columns.labels is not None and not isinstance(answer, str):
        answer = str(answer)
    return _question(
        place,
        id=str(row[columns.id]) if columns.id is not None else default_id,
        question=clean(_FROM_COLUMNS.format(columns.question, **row)),
        choices=[clean(text) for text in texts],
        answer=lambda: _answer({"answer": answer}, labels[: len(texts)], place),
        fact=row.get(columns.fact) if columns.fact is not None else None,
    )


def _names_of(columns: Columns) -> set[str]:
    """Return the columns that a row must have to be read by them; a fact may be missing."""
    try:
        in_question = {name for _, name, _, _ in string.Formatter().parse(columns.question) if name}
    except ValueError as error:
        raise ConfigError(f"columns.question: {columns.question!r}: {error}") from error
    choices = (columns.choices,) if isinstance(columns.choices, str) else columns.choices
    own_id = {columns.id} if columns.id is not None else set()
    return {*in_question, *choices, columns.answer, *own_id}


class _FromColumns(string.Formatter):
    """`{name}` is a column's text, `{name:capitalize}` the same as a sentence's beginning."""

    def get_field(self, field_name: str, args: Any, kwargs: Any) -> tuple[Any, str]:
        return kwargs[field_name], field_name

    def format_field(self, value: Any, format_spec: str) -> str:
        text = "" if value is None else str(value)
        return text.capitalize() if format_spec == "capitalize" else text


_FROM_COLUMNS = _FromColumns()


def _clean_hellaswag(text: str) -> str:
    """Take away WikiHow's `[title]`, `[step]` …, as lm-evaluation-harness does."""
    text = text.strip().replace(" [title]", ". ")
    return _IN_BRACKETS.sub("", text).replace("  ", " ")


_CLEANERS: dict[str, Callable[[str], str]] = {"nothing": str, "hellaswag": _clean_hellaswag}


def _is_list_of_text(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)


def _labels_and_texts(choices: Any) -> tuple[list[str], list[str]]:
    if isinstance(choices, str):
        pieces = _LABEL.split(choices)
        return pieces[1::2], pieces[2::2]
    if isinstance(choices, Mapping):
        texts = [str(text) for text in choices.get("text", ())]
        return [str(label).strip() for label in choices.get("label", ())], texts
    if not isinstance(choices, Sequence):
        return [], []
    if all(isinstance(choice, Mapping) for choice in choices):
        labels = [str(choice.get("label", "")).strip() for choice in choices]
        return labels, [str(choice.get("text") or "") for choice in choices]
    return [chr(ord("A") + i) for i in range(len(choices))], [str(choice) for choice in choices]


def _answer(known: Mapping[str, Any], labels: list[str], place: str) -> int:
    answer = known.get("answer")
    if isinstance(answer, int) and not isinstance(answer, bool):
        if 0 <= answer < len(labels):
            return answer
        raise DataError(f"{place}: answer {answer} is not among the {len(labels)} choices")
    key = str(known.get("answerkey", known.get("answer_key", answer)) or "").strip()
    if labels.count(key) != 1:
        raise DataError(
            f"{place}: the answer {key!r} is not one of the labels {', '.join(labels)}",
            "Test files without answers cannot be used." if not key else None,
        )
    return labels.index(key)
