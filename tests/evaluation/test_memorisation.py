"""What of a model's stories stands in its training text, against the plainest way to find out."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyllm.data import word_hashes
from tinyllm.data.word_hashes import split_words
from tinyllm.errors import DataError
from tinyllm.evaluation.story_metrics import StorySample, memorisation
from tinyllm.evaluation.story_metrics.memorisation import RUN_LENGTHS
from tinyllm.evaluation.story_metrics.overlap import rouge
from tinyllm.evaluation.story_metrics.sample import runs

TEXTS = st.lists(
    st.lists(st.sampled_from("abc"), max_size=40).map(" ".join), min_size=1, max_size=12
)


def sample(text: str, number: int = 0, prompt_id: str = "p") -> StorySample:
    return StorySample(prompt_id, number, "Once", text, "stop")


def longest_span(words: list[str], documents: list[list[str]]) -> int:
    return max(
        (
            n
            for n in range(1, len(words) + 1)
            if any(set(runs(words, n)) & set(runs(document, n)) for document in documents)
        ),
        default=0,
    )


@settings(max_examples=60, deadline=None)
@given(TEXTS, TEXTS, st.sampled_from([20, 200, 1 << 20]))
def test_all_figures_are_those_of_the_definitions(
    texts: list[str], training: list[str], block_characters: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(word_hashes, "BLOCK_CHARACTERS", block_characters)
        found = memorisation([sample(text, i) for i, text in enumerate(texts)], training)
    documents = [split_words(document) for document in training]
    assert found.n_documents == len(training)
    for remembered, text in zip(found.samples, texts, strict=True):
        words = split_words(text)
        assert remembered.n_words == len(words)
        assert remembered.longest_span == longest_span(words, documents)
        assert remembered.span in " ".join(words)
        assert any(remembered.span in document for document in training)
        scores = [rouge(words, document).f for document in documents]
        assert remembered.nearest_rouge_2 == pytest.approx(max(scores), abs=1e-6)
        if remembered.nearest_document is not None:
            assert scores[remembered.nearest_document] == pytest.approx(max(scores), abs=1e-6)
        for n in RUN_LENGTHS:
            seen = {run for document in documents for run in runs(document, n)}
            ours = list(runs(words, n))
            if ours:
                share = sum(run not in seen for run in ours) / len(ours)
                assert remembered.unseen[n] == pytest.approx(share)
            else:
                assert n not in remembered.unseen


def test_a_story_learned_by_heart_is_found_and_named() -> None:
    story = " ".join(f"word{i}" for i in range(60))
    training = ["another story", f"It began so. {story.upper()}! It ended.", "the end"]
    found = memorisation([sample(story), sample("something new", 1)], training)
    by_heart, new = found.samples
    assert (by_heart.longest_span, by_heart.nearest_document) == (60, 1)
    assert by_heart.unseen == dict.fromkeys(RUN_LENGTHS, 0.0)
    assert (new.longest_span, new.nearest_rouge_2, new.nearest_document) == (0, 0.0, None)
    assert found.longest == by_heart
    assert found.unseen(13) == 0
    assert found.per_prompt("longest_span") == {"p": 30}
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["longest_span"]["mean"] == 30


def test_a_long_document_is_read_in_pieces() -> None:
    story = " ".join(f"word{i}" for i in range(60))
    before = "so it went on and on " * 10_000
    found = memorisation([sample(story)], iter([f"{before}{story} {before}"]))
    assert (found.samples[0].longest_span, found.n_documents) == (60, 1)


@pytest.mark.parametrize(("samples", "training"), [([], ["a"]), ([sample("a")], [])])
def test_nothing_cannot_be_compared(samples: list[StorySample], training: list[str]) -> None:
    with pytest.raises(DataError):
        memorisation(samples, training)
