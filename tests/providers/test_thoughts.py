"""What a reasoning model thought is no part of its answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyllm.providers.thoughts import opens_thoughts, part_thoughts


@pytest.mark.parametrize(
    ("text", "begins_inside", "thoughts", "answer"),
    [
        ("A fox ran.", False, "", "A fox ran."),
        ("<think>Hm.</think>\n\nA fox ran.", False, "Hm.", "A fox ran."),
        ("<think>\n\n</think>\n\nA fox.", False, "\n\n", "A fox."),
        ("[THINK]Hm.[/THINK]A fox.", False, "Hm.", "A fox."),
        ("One. <thinking>a\nb</thinking> Two. <think>c</think>", False, "a\nbc", "One. Two. "),
        ("<think>It never ends.", False, "It never ends.", ""),
        ("Hm.</think>\nA fox.", True, "Hm.", "A fox."),
        ("It never ends.", True, "It never ends.", ""),
        ("I think <b>so</b>.", False, "", "I think <b>so</b>."),
    ],
)
def test_thoughts_and_answer_are_parted(
    text: str, begins_inside: bool, thoughts: str, answer: str
) -> None:
    parted = part_thoughts(text, begins_inside=begins_inside)
    assert (parted.thoughts, parted.answer) == (thoughts, answer)


@given(st.text(alphabet="abc <>/\n"), st.text(alphabet="abc \n"))
def test_only_what_follows_the_thoughts_is_the_answer(thoughts: str, answer: str) -> None:
    parted = part_thoughts(f"<think>{thoughts}</think>{answer}")
    assert parted.thoughts == thoughts
    assert parted.answer == answer.lstrip()


def test_a_prompt_may_open_the_thoughts() -> None:
    assert opens_thoughts("<|assistant|><think>\n")
    assert not opens_thoughts("<|assistant|><think>\n\n</think>\n\n")
    assert not opens_thoughts("What is <think> for?")
