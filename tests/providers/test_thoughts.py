"""What a reasoning model thought is no part of its answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyllm.providers.base import Completion, Usage
from tinyllm.providers.thoughts import opens_thoughts, part_thoughts, without_thoughts


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


@pytest.mark.parametrize(
    "text", ["<think>Hm, a fox.</think>\nA fox.", "Hm, a fox.</think>\nA fox.", "A fox."]
)
def test_an_answer_keeps_what_follows_its_thoughts_and_says_so(text: str) -> None:
    whole = without_thoughts(Completion(text, "stop", Usage(5, 9)))
    assert whole.text == "A fox."
    assert whole.thoughts_removed == (text != "A fox.")
    assert bool(whole.usage.reasoning_tokens) == whole.thoughts_removed


def test_the_servers_own_count_of_reasoning_stays() -> None:
    answer = Completion("<think>Hm.</think>A fox.", "stop", Usage(5, 9, reasoning_tokens=7))
    assert without_thoughts(answer).usage == Usage(5, 9, reasoning_tokens=7)
