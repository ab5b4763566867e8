"""Questions with choices, in every layout they are published in.

    ours         {"id", "question", "choices": [text, …], "answer": 0, "fact"}
    archive      {"id", "question": {"stem", "choices": [{"text", "label"}, …]}, "answerKey": "D"}
    hub          {"id", "question_stem", "choices": {"text": […], "label": […]}, "answerKey": "D"}
    table        ID, Question Stem, Choices "(A) … (B) …", Answer Key

The additional files of OpenBookQA carry the science fact behind a question as `fact1`.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tinyllm.data.hub import is_hub_source, read_hub_rows
from tinyllm.data.rows import Row, read_rows
from tinyllm.errors import DataError
from tinyllm.files import require_file
from tinyllm.records import MultipleChoice
from tinyllm.reporting import Reporter

_LABEL = re.compile(r"(?:^|\s)\(([A-Z1-9])\)\s*")


def read_multiple_choice(source: str, reporter: Reporter | None = None) -> Iterator[MultipleChoice]:
    """Yield the questions of a .jsonl, .json, .tsv, .csv or .parquet file, or of the hub.

    Raises DataError that names the row which is no question with one right choice.
    """
    if is_hub_source(source):
        rows: Iterator[Row] = read_hub_rows(source, reporter)
    else:
        rows = read_rows(require_file(Path(source).expanduser(), "file of questions"), reporter)
    n_questions = 0
    for number, row in enumerate(rows, start=1):
        yield question_from_row(row, f"{source}, question {number}", f"q{number}")
        n_questions += 1
    if not n_questions:
        raise DataError(f"{source} holds no question", "Check that this is the file you meant.")


def question_from_row(row: Row, place: str, default_id: str) -> MultipleChoice:
    """Return a row of any layout as a question. Raises DataError with the place."""
    known = {str(key).lower().replace(" ", "_"): value for key, value in row.items()}
    stem: Any = known.get("question_stem", known.get("question"))
    choices: Any = known.get("choices")
    if isinstance(stem, Mapping):
        stem, choices = stem.get("stem"), stem.get("choices")
    labels, texts = _labels_and_texts(choices)
    if not isinstance(stem, str) or not stem.strip() or len(texts) < 2:
        raise DataError(
            f"{place}: this is not a question with choices",
            'Expected {"question", "choices", "answer"} or a layout of OpenBookQA.',
        )
    if not all(texts):
        raise DataError(f"{place}: one of the choices is empty")
    fact = known.get("fact", known.get("fact1"))
    return MultipleChoice(
        id=str(known.get("id") or default_id),
        question=stem.strip(),
        choices=tuple(texts),
        answer=_answer(known, labels, place),
        fact=fact.strip() if isinstance(fact, str) and fact.strip() else None,
    )


def _labels_and_texts(choices: Any) -> tuple[list[str], list[str]]:
    if isinstance(choices, str):
        pieces = _LABEL.split(choices)
        return pieces[1::2], [text.strip() for text in pieces[2::2]]
    if isinstance(choices, Mapping):
        texts = [str(text).strip() for text in choices.get("text", ())]
        return [str(label).strip() for label in choices.get("label", ())], texts
    if not isinstance(choices, Sequence):
        return [], []
    if all(isinstance(choice, Mapping) for choice in choices):
        labels = [str(choice.get("label", "")).strip() for choice in choices]
        return labels, [str(choice.get("text") or "").strip() for choice in choices]
    return [chr(ord("A") + i) for i in range(len(choices))], [str(c).strip() for c in choices]


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
