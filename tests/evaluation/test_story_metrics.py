"""Stories measured without a judge."""

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyllm.errors import DataError
from tinyllm.evaluation.story_metrics import StorySample, measure_stories
from tinyllm.evaluation.story_metrics.names import name_persistence, names_in
from tinyllm.evaluation.story_metrics.overlap import distinct, rouge, shared_runs
from tinyllm.evaluation.story_metrics.repetition import (
    longest_loop,
    repeated_runs,
    top_run_share,
)
from tinyllm.evaluation.story_metrics.sample import words_of

WORDS = st.lists(st.sampled_from("ab"), max_size=24)


def sample(text: str, prompt_id: str = "a", number: int = 0, **rest: object) -> StorySample:
    given = {"prompt": "Once Mia met", "finish_reason": "stop", **rest}
    return StorySample(prompt_id, number, text=text, **given)  # type: ignore[arg-type]


@given(WORDS, WORDS)
def test_rouge_is_that_of_the_reference_package(a: list[str], b: list[str]) -> None:
    from rouge_score import rouge_scorer

    scorer = rouge_scorer.RougeScorer(["rouge2"])
    found, other = " ".join(a), " ".join(b)
    wanted = scorer.score(other, found)["rouge2"]
    ours = rouge(a, b)
    assert ours.precision == pytest.approx(wanted.precision)
    assert ours.recall == pytest.approx(wanted.recall)
    assert ours.f == pytest.approx(wanted.fmeasure)


def test_distinct_counts_runs_over_all_texts() -> None:
    texts = [words_of("The cat sat. The cat ran."), words_of("the CAT!")]
    assert distinct(texts, 1) == pytest.approx(4 / 8)
    assert distinct(texts, 2) == pytest.approx(4 / 6)
    assert distinct([["a"]], 2) is None
    assert shared_runs([["a", "b", "c"], ["b", "c", "d"], ["x"]], 2) == pytest.approx(0.5)


@given(WORDS)
def test_the_longest_loop_is_that_of_the_definition(words: list[str]) -> None:
    longest = 0
    for start in range(len(words)):
        for stop in range(start + 2, len(words) + 1):
            piece = words[start:stop]
            periods = range(1, len(piece) // 2 + 1)
            if any(piece[p:] == piece[:-p] for p in periods):
                longest = max(longest, len(piece))
    assert longest_loop(words) == longest


def test_repetition_is_a_share_of_runs() -> None:
    words = words_of("a b c a b c a b c d")
    assert top_run_share(words) == pytest.approx(3 / 8)
    assert top_run_share(words_of("a b c d e")) == 0
    assert repeated_runs(words) == pytest.approx(3 / 7)
    assert repeated_runs([]) == 0


def test_names_are_told_from_words_that_begin_sentences() -> None:
    text = 'Birds sang. Then Lily ran to her Mom. "Rose is here," said Max. Ella-Mae waved.'
    assert list(names_in(text)) == ["Lily", "Mom", "Max", "Ella-Mae"]
    assert names_in("One day Rose fell. Rose cried.") == {"Rose": 2}


def test_names_stay_or_are_replaced() -> None:
    prompt = "Once upon a time Mia and Tom found a"
    kept = name_persistence(prompt, " ball. Mia and Tom played with Sam.")
    assert (kept.n_names, kept.n_kept, kept.n_new, kept.is_replaced) == (2, 2, 1, False)
    lost = name_persistence(prompt, " ball. Then Lily came and Lily smiled.")
    assert (lost.n_kept, lost.n_new, lost.is_replaced) == (0, 1, True)
    assert not name_persistence(prompt, " ball and went home.").is_replaced


def test_measures_are_means_over_prompts_of_means_over_texts() -> None:
    samples = [sample("a b", "a", i) for i in range(3)] + [sample("a b c d e f", "b")]
    n_words = measure_stories(samples, seed=0).measures["n_words"]
    assert n_words.per_prompt == {"a": 2, "b": 6}
    assert n_words.value == 4
    assert n_words.interval == (2, 6)


def test_what_was_asked_for_is_looked_for() -> None:
    asked = {"words": ("run", "cat"), "features": ("dialogue",)}
    samples = [sample('"Go!" He ran.', **asked), sample("The cats slept.", number=1, **asked)]
    measures = measure_stories(samples, seed=0).measures
    assert measures["words_used"].value == 0.5
    assert measures["speech_as_asked"].value == 0.5
    assert "words_used" not in measure_stories([sample("Hi.")], seed=0).measures


def test_endings_and_empty_texts_are_counted() -> None:
    samples = [
        sample(" a dog. They played", number=0, finish_reason="length"),
        sample(" a cat. The end.", number=1),
        sample("", number=2),
    ]
    measures = measure_stories(samples, seed=0).measures
    assert measures["ends_by_itself"].value == pytest.approx(2 / 3)
    assert measures["ends_a_sentence"].value == pytest.approx(1 / 3)
    assert measures["completes_sentence"].value == pytest.approx(2 / 3)
    assert measures["empty"].value == pytest.approx(1 / 3)


def test_figures_depend_on_the_seed_and_not_on_the_order_of_samples() -> None:
    texts = random.Random(0)
    samples = [
        sample(" ".join(texts.choices("abcdefgh", k=30)), str(p), k)
        for p in range(6)
        for k in range(4)
    ]
    first = measure_stories(samples, seed=1)
    shuffled = random.Random(1).sample(samples, len(samples))
    assert measure_stories(shuffled, seed=1).to_json() == first.to_json()
    assert measure_stories(samples, seed=2).to_json() != first.to_json()
    assert json.loads(json.dumps(first.to_json(), allow_nan=False))["n_samples"] == 24
    pairs = first.measures["self_rouge_2_across_prompts"]
    assert pairs.interval is not None
    assert pairs.interval.low <= pairs.value <= pairs.interval.high


def test_no_texts_cannot_be_measured() -> None:
    with pytest.raises(DataError, match="no texts"):
        measure_stories([], seed=0)
