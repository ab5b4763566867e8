import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyllm.config.stories import DedupConfig
from tinyllm.data import duplicates
from tinyllm.data.duplicates import Deduplicator, Duplicate, jaccard, shingles, text_key
from tinyllm.providers.story_grammar import tell_story

STORIES = [tell_story(0, i).text for i in range(60)]


def changed(story: str, n_words: int, seed: int) -> str:
    """Replace some words after the first sentence."""
    words = story.split()
    generator = random.Random(seed)
    for place in generator.sample(range(20, len(words)), n_words):
        words[place] = f"word{generator.random()}"
    return " ".join(words)


def decide(texts: dict[int, str], order: list[int], **config: object):
    dedup = Deduplicator(DedupConfig(**config), texts.__getitem__)
    for index in order:
        dedup.add(index, text_key(texts[index]), texts[index])
    return dedup.decide()


def test_equal_texts_are_equal_whatever_their_case_and_spaces() -> None:
    assert text_key("A  story.\n") == text_key("a story.")
    assert text_key("A story.") != text_key("A story!")


@settings(max_examples=20)
@given(st.randoms(use_true_random=False), st.lists(st.integers(0, 9), max_size=25))
def test_which_story_stays_does_not_depend_on_the_order(shuffler, numbers: list[int]) -> None:
    """Chains included: b is like a, c is like b and not like a."""
    texts = {}
    for index, number in enumerate(numbers):
        text = STORIES[number // 3]
        for step in range(number % 3):
            text = changed(text, 2, step)
        texts[index] = text
    order = list(texts)
    expected = decide(texts, order, threshold=0.75)
    shuffler.shuffle(order)
    assert decide(texts, order, threshold=0.75) == expected
    stay, gone = expected
    assert sorted([*stay, *(d.index for d in gone)]) == sorted(texts)
    assert all(d.of < d.index and d.of in stay for d in gone)


def test_similarities_that_are_not_kept_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {i: changed(STORIES[0], 5, i) for i in range(12)} | dict(enumerate(STORIES, 12))
    expected = decide(texts, list(texts), threshold=0.6)
    assert expected[1]
    monkeypatch.setattr(duplicates, "_MOST_PAIRS", 3)
    dedup = Deduplicator(DedupConfig(threshold=0.6), texts.__getitem__)
    for index, text in texts.items():
        dedup.add(index, text_key(text), text)
        dedup.decide()
    assert dedup.decide() == expected
    assert len(dedup._similarities) == 3


def test_of_equal_texts_the_first_stays() -> None:
    texts = {7: STORIES[0], 3: STORIES[0].upper(), 5: STORIES[1], 9: STORIES[0]}
    stay, gone = decide(texts, [7, 9, 5, 3])
    assert stay == [3, 5]
    assert gone == [Duplicate(7, 3, "dup_exact", 1.0), Duplicate(9, 3, "dup_exact", 1.0)]


def test_near_duplicates_are_found_and_stories_that_only_begin_alike_are_not() -> None:
    near = changed(STORIES[0], 1, 0)
    similarity = jaccard(shingles(STORIES[0], 5), shingles(near, 5))
    assert 0.8 < similarity < 1
    opening = STORIES[0].split(".")[0]
    other = f"{opening}.{STORIES[2].partition('.')[2]}"
    stay, gone = decide({0: STORIES[0], 1: near, 2: other, 3: STORIES[3]}, [3, 2, 1, 0])
    assert stay == [0, 2, 3]
    assert gone == [Duplicate(1, 0, "dup_near", similarity)]
    assert decide({0: STORIES[0], 1: near}, [0, 1], near=False)[0] == [0, 1]


def test_taking_a_story_twice_changes_nothing() -> None:
    texts = dict(enumerate(STORIES))
    once = decide(texts, list(texts))
    assert decide(texts, [*texts, *texts]) == once


def test_very_short_stories_are_compared_too() -> None:
    assert decide({0: "Hi. A b.", 1: "Ho. A b."}, [0, 1])[1][0].reason == "dup_near"
