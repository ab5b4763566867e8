"""Held-out stories, cut and completed."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tiny import write_tiny_checkpoint
from tinyllm.config.generation import Sampling
from tinyllm.errors import DataError
from tinyllm.evaluation.story_metrics import StorySample
from tinyllm.evaluation.story_metrics.protocol import (
    complete_stories,
    cut_story,
    measure_endings,
)
from tinyllm.generation.opening import open_engine
from tinyllm.reporting import SilentReporter

STORY = "Mia had a red ball. She threw it far away, and the dog ran to bring it back."


@given(st.lists(st.text("ab.", min_size=1), min_size=2), st.floats(0, 1))
def test_both_parts_together_are_the_story(words: list[str], share: float) -> None:
    story = " ".join(words)
    cut = cut_story("1", story, share)
    assert cut.beginning + cut.ending == story
    assert cut.beginning.split()
    assert cut.ending.split()


def test_the_cut_is_after_two_words_of_five() -> None:
    cut = cut_story("1", "one two three four five")
    assert (cut.beginning, cut.ending) == ("one two", " three four five")
    with pytest.raises(DataError, match="can be cut"):
        cut_story("1", "one")


def test_a_model_that_learned_by_heart_is_told_from_one_that_did_not() -> None:
    story = cut_story("1", STORY)
    other = " played all day with her little brother in the warm sand near the sea."

    def measured(ending: str, *training: str) -> tuple[float, float, float]:
        samples = [StorySample("1", k, story.beginning, ending, "stop") for k in range(2)]
        found = measure_endings(samples, [story], training, seed=0)
        values = (found.with_true_ending, found.nearest_in_training, found.nearest_of_true_endings)
        return tuple(round(v.value, 6) for v in values)  # type: ignore[return-value]

    assert measured(story.ending, "Nothing like it.") == (1, 0, 0)
    assert measured(other, other) == (0, 1, 0)
    true, nearest, usual = measured(story.ending, STORY)
    assert true == 1
    assert nearest == usual
    assert 0.7 < usual < 1


def test_a_model_writes_its_own_endings_and_the_same_ones_again(tmp_path: Path) -> None:
    engine = open_engine(write_tiny_checkpoint(tmp_path / "m.safetensors"), SilentReporter())
    stories = [cut_story("a", STORY), cut_story("b", STORY[20:])]
    sampling = Sampling(temperature=1.0, seed=3, max_new_tokens=12)
    samples = complete_stories(engine, stories, sampling, n=2)
    assert [(s.prompt_id, s.sample) for s in samples] == [("a", 0), ("a", 1), ("b", 0), ("b", 1)]
    assert samples == complete_stories(engine, stories, sampling, n=2)
    found = measure_endings(samples, stories, [STORY], seed=0).to_json()
    assert found["with_true_ending"]["per_prompt"].keys() == {"a", "b"}
    assert len(found["memorised"]["samples"]) == 4
