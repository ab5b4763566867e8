import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tinyllm.config.multiple_choice import Columns, MultipleChoiceTask
from tinyllm.data.catalog import catalog
from tinyllm.data.multiple_choice import question_from_row, read_multiple_choice
from tinyllm.data.multiple_choice_task import known_tasks
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


def test_columns_are_read_to_the_letter() -> None:
    columns = Columns(question="{a}: {b:capitalize}", choices=("x", "y"), answer="k", fact="f")
    row = {"a": " Sky ", "b": "the SUN", "x": " one", "y": "two ", "k": 1, "f": "hot "}
    found = question_from_row(row, "here", "q1", columns)
    assert found == MultipleChoice("q1", " Sky : The sun", (" one", "two "), 1, "hot")


def test_a_row_that_lacks_the_columns_is_read_as_one_of_the_usual_layouts() -> None:
    columns = Columns(question="{goal}", choices=("sol1", "sol2"), answer="label")
    assert question_from_row(ARCHIVE, "here", "x", columns) == WANTED


@pytest.mark.parametrize(("answer", "wanted"), [("b", 1), ("B", None), (1, None), (None, None)])
def test_labels_of_the_description_are_the_only_ones(answer: object, wanted: int | None) -> None:
    columns = Columns(question="{q}", choices="c", answer="k", labels=("a", "b"))
    row = {"q": "?", "c": ["x", "y"], "k": answer}
    if wanted is None:
        with pytest.raises(DataError, match="is not one of the labels a, b"):
            question_from_row(row, "here", "x", columns)
    else:
        assert question_from_row(row, "here", "x", columns).answer == wanted


def test_the_documentation_describes_what_there_is() -> None:
    text = (ROOT / "docs" / "multiple-choice.md").read_text(encoding="utf-8")
    [example] = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    task = MultipleChoiceTask.model_validate(json.loads(example))
    row = {"country": "Peru", "first": "Lima", "second": "Rome", "third": "Oslo", "right": "1"}
    found = question_from_row(row, "here", "x", task.columns)
    assert (found.question, found.answer) == ("The capital of Peru is", 0)
    for name, known in known_tasks().items():
        [line] = re.findall(rf"^\| `{name}` \|.*$", text, re.MULTILINE)
        assert f"| {known.reported_split} (" in line
        assert line.endswith(f"| `{known.primary}` |")
        assert name in catalog()
        assert catalog()[name].evaluation_only
        assert known.reported_split in next(iter(catalog()[name].variants.values())).splits
