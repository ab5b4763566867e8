"""What a judge says, in all its shapes: grades where they are clear, a named fault where not."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyllm.evaluation.story_evaluation.protocols import read_protocol
from tinyllm.evaluation.story_evaluation.replies import Fault, Grades, read_grades

CASES = [
    json.loads(line)
    for line in (Path(__file__).parent / "judge_replies.jsonl").read_text("utf-8").splitlines()
]
TWO_TURNS = read_protocol("gpt-eval-2turn")
CATEGORIES = TWO_TURNS.categories


def test_the_corpus_is_large_and_has_no_case_twice() -> None:
    assert len(CASES) >= 150
    assert len({(case["reply"], case.get("protocol"), case.get("story")) for case in CASES}) == len(
        CASES
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['about']}: {case['reply']:.40}")
def test_a_reply_is_read_as_expected(case: dict[str, object]) -> None:
    protocol = read_protocol(str(case.get("protocol", "gpt-eval-2turn")))
    read = read_grades(str(case["reply"]), protocol, str(case.get("story", "")))
    if "fault" in case:
        assert isinstance(read, Fault), read
        assert read.reason == case["fault"]
        assert read.says
    else:
        assert isinstance(read, Grades), read
        assert read.scores == case["scores"]
        assert read.age == case["age"]


halves = st.integers(2, 20).map(lambda twice: twice / 2)
grades = st.fixed_dictionaries(dict.fromkeys(CATEGORIES, halves))
ages = st.sampled_from("ABCDEF")


def line_of(scores: dict[str, float], age: str) -> str:
    """The line that a judge is asked for."""
    named = ", ".join(f"{name.capitalize()}: {value:g}/10" for name, value in scores.items())
    return f"{named}, Age group: {age}"


@given(grades, ages, st.sampled_from(("", "My grades: ", "The story has 12 sentences.\n")))
def test_any_grades_in_the_form_asked_for_are_read(
    scores: dict[str, float], age: str, before: str
) -> None:
    read = read_grades(before + line_of(scores, age), TWO_TURNS)
    assert isinstance(read, Grades)
    assert (read.scores, read.age) == (scores, age)


@given(grades, st.data())
def test_a_reply_that_breaks_off_has_its_own_grades_or_none(
    scores: dict[str, float], data: st.DataObject
) -> None:
    whole = data.draw(st.sampled_from([line_of(scores, "E"), json.dumps(scores)]))
    cut = whole[: data.draw(st.integers(0, len(whole)))]
    read = read_grades(cut, TWO_TURNS)
    assert isinstance(read, Fault) or read.scores == scores


NAMES = ["Grammar", "plot", "creativity", "consistency", "Age group", "[[7]]", "<think>", "***"]
SIGNS = [": ", "8", "/10", "{", "}", '"', ", ", "\n", "10-12", "-", "=", " out of 10", "or", "\\"]
PIECES = st.sampled_from(NAMES) | st.sampled_from(SIGNS)


@given(st.lists(PIECES | st.text(max_size=5), max_size=40).map("".join))
def test_whatever_is_said_nothing_outside_of_the_scale_is_a_grade(reply: str) -> None:
    read = read_grades(reply, TWO_TURNS, story=reply[: len(reply) // 2])
    if isinstance(read, Grades):
        assert set(read.scores) == set(CATEGORIES)
        assert all(1 <= value <= 10 and (2 * value).is_integer() for value in read.scores.values())


@given(grades)
def test_grades_that_the_story_holds_are_never_the_judges(scores: dict[str, float]) -> None:
    story = f"Once upon a time *** {line_of(scores, 'F')}"
    read = read_grades(f"The pupil writes: {line_of(scores, 'F')}", TWO_TURNS, story)
    assert isinstance(read, Fault)
