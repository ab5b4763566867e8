import json
from pathlib import Path
from typing import Any

import pytest

from tinyllm.data.multiple_choice import question_from_row, read_multiple_choice
from tinyllm.data.writers import multiple_choice_row
from tinyllm.errors import DataError
from tinyllm.records import MultipleChoice

WANTED = MultipleChoice("7-1", "The sun is", ("a star", "a moon", "a cat", "a hat"), 1)
ARCHIVE: dict[str, Any] = {
    "id": "7-1",
    "question": {
        "stem": "The sun is ",
        "choices": [{"text": t, "label": x} for t, x in zip(WANTED.choices, "ABCD", strict=True)],
    },
    "answerKey": " B",
}
HUB: dict[str, Any] = {
    "id": "7-1",
    "question_stem": "The sun is",
    "choices": {"text": list(WANTED.choices), "label": list("ABCD")},
    "answerKey": "B",
}
TABLE: dict[str, Any] = {
    "ID": "7-1",
    "Question Stem": "The sun is",
    "Choices": "(A) a star (B) a moon (C) a cat (D) a hat",
    "Answer Key": "B",
}


@pytest.mark.parametrize("row", [ARCHIVE, HUB, TABLE, multiple_choice_row(WANTED)])
def test_every_layout_gives_the_same_question(row: dict[str, Any]) -> None:
    assert question_from_row(row, "here", "x") == WANTED


@pytest.mark.parametrize("key", ["fact", "fact1"])
def test_the_fact_is_kept(key: str) -> None:
    assert question_from_row({**HUB, key: "stars shine"}, "here", "x").fact == "stars shine"


def test_numbered_labels_and_other_numbers_of_choices() -> None:
    row = {**HUB, "choices": {"text": ["a", "b", "c"], "label": ["1", "2", "3"]}, "answerKey": "3"}
    assert question_from_row(row, "here", "x").answer == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answerKey": "E"}, "'E' is not one of the labels A, B, C, D"),
        ({"answerKey": ""}, "'' is not one of the labels"),
        ({"question_stem": ""}, "not a question with choices"),
        ({"choices": {"text": ["a"], "label": ["A"]}}, "not a question with choices"),
        ({"choices": {"text": ["a", " "], "label": ["A", "B"]}}, "one of the choices is empty"),
        ({"answer": 4}, "answer 4 is not among the 4 choices"),
    ],
)
def test_what_is_no_question_is_named_with_its_place(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text(json.dumps(HUB) + "\n" + json.dumps({**HUB, **change}) + "\n")
    with pytest.raises(DataError, match=message) as error:
        list(read_multiple_choice(str(path)))
    assert "question 2" in error.value.message


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").touch()
    with pytest.raises(DataError, match="holds no question"):
        list(read_multiple_choice(str(tmp_path / "q.jsonl")))


@pytest.mark.real_data
def test_real_layouts_agree(real_data: Path) -> None:
    folder = real_data / "openbookqa"
    main = list(read_multiple_choice(str(folder / "Main" / "dev.jsonl")))
    table = list(read_multiple_choice(str(folder / "Main" / "dev.tsv")))
    more = list(read_multiple_choice(str(folder / "Additional" / "dev_complete.jsonl")))
    assert main == table
    assert len(main) == 500
    assert [q.answer for q in main].count(1) == 138
    assert [(q.id, q.choices) for q in more] == [(q.id, q.choices) for q in main]
    assert all(q.fact for q in more)
