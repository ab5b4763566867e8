import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyllm.providers.grammar.inflection import (
    article,
    contains_word,
    forms,
    ing,
    past,
    plural,
    third_person,
)
from tinyllm.providers.grammar.phrases import phrase
from tinyllm.providers.grammar.resources import read_resource
from tinyllm.providers.grammar.science import load_facts, quiz
from tinyllm.providers.grammar.vocabulary import WordTriples, load_vocabulary
from tinyllm.providers.story_grammar import FEATURES, tell_story
from tinyllm.seeding import random_for

SEEDS = st.integers(0, 2**40)
INDICES = st.integers(0, 100_000)


def test_the_word_list_has_the_promised_size_and_no_word_twice() -> None:
    vocabulary = load_vocabulary()
    counts = [len(vocabulary.nouns), len(vocabulary.verbs), len(vocabulary.adjectives)]
    assert counts == [750, 375, 375]
    assert len(set(vocabulary.words)) == len(vocabulary) == 1500
    assert all(re.fullmatch("[a-z]+", word) for word in vocabulary.words)


@given(SEEDS, INDICES)
@settings(max_examples=300, deadline=None)
def test_every_story_holds_its_words_and_reads_as_text(seed: int, index: int) -> None:
    story = tell_story(seed, index)
    assert all(contains_word(story.text, word) for word in story.words)
    assert story.text[0].isupper()
    assert story.text[-1] in '.!?"'
    assert 50 <= len(story.text.split()) <= 170
    for leftover in ("{", "}", "@", "  ", " .", " ,", ".."):
        assert leftover not in story.text
        assert leftover not in story.summary


@given(SEEDS, INDICES)
@settings(max_examples=300, deadline=None)
def test_articles_agree_with_the_word_that_follows(seed: int, index: int) -> None:
    text = tell_story(seed, index).text
    for found, word in re.findall(r"\b([Aa]n?) ([A-Za-z]+)", text):
        assert found.lower() == article(word), (found, word)


@given(SEEDS, INDICES)
@settings(max_examples=50, deadline=None)
def test_a_story_is_a_pure_function_of_seed_and_index(seed: int, index: int) -> None:
    assert tell_story(seed, index) == tell_story(seed, index)


@given(SEEDS, INDICES, st.sets(st.sampled_from(FEATURES)))
@settings(max_examples=100, deadline=None)
def test_asked_words_and_features_are_kept(seed: int, index: int, features: set[str]) -> None:
    story = tell_story(seed, index, ("apple", "jump", "shiny"), features)
    assert story.words == ("apple", "jump", "shiny")
    assert set(story.features) == features
    assert ('"' in story.text) >= ("dialogue" in features)


@pytest.mark.parametrize("words", [("jump", "apple", "shiny"), ("zzz", "jump", "shiny")])
def test_words_outside_their_class_are_refused(words: tuple[str, str, str]) -> None:
    with pytest.raises(ValueError, match="word list"):
        tell_story(0, 0, words)


def test_an_unknown_feature_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="happy_ending"):
        tell_story(0, 0, features=["happy_ending"])


def test_every_word_has_a_story_of_its_own_class() -> None:
    vocabulary = load_vocabulary()
    for i, noun in enumerate(vocabulary.nouns):
        verb, adjective = vocabulary.verbs[i % 375], vocabulary.adjectives[i % 375]
        for index in range(3):
            story = tell_story(1, index, (noun, verb, adjective))
            assert all(contains_word(story.text, word) for word in story.words), story


def test_there_are_a_dozen_plots_and_all_of_them_are_told() -> None:
    plots = read_resource("plots.json")["plots"]
    assert len(plots) >= 12
    assert len({plot["name"] for plot in plots}) == len(plots)
    openings = {tell_story(3, i).text.split()[0] for i in range(200)}
    assert len(openings) >= 5
    assert len({tell_story(3, i).text for i in range(2000)}) == 2000


def test_triples_do_not_repeat_and_held_out_ones_are_never_trained_on() -> None:
    triples = WordTriples(load_vocabulary(), seed=5)
    training = {triples.training(i) for i in range(20_000)}
    held_out = {triples.held_out(i) for i in range(1000)}
    assert len(training) == 20_000
    assert len(held_out) == 1000
    assert training.isdisjoint(held_out)


@pytest.mark.parametrize(
    ("verb", "expected"),
    [
        ("jump", ("jumps", "jumped", "jumping")),
        ("bake", ("bakes", "baked", "baking")),
        ("hop", ("hops", "hopped", "hopping")),
        ("carry", ("carries", "carried", "carrying")),
        ("swim", ("swims", "swam", "swimming")),
        ("wash", ("washes", "washed", "washing")),
        ("play", ("plays", "played", "playing")),
        ("tie", ("ties", "tied", "tying")),
        ("visit", ("visits", "visited", "visiting")),
        ("sneeze", ("sneezes", "sneezed", "sneezing")),
        ("clean", ("cleans", "cleaned", "cleaning")),
    ],
)
def test_verbs_are_inflected(verb: str, expected: tuple[str, str, str]) -> None:
    assert (third_person(verb), past(verb), ing(verb)) == expected


@pytest.mark.parametrize(
    ("noun", "expected"),
    [("cat", "cats"), ("fox", "foxes"), ("mouse", "mice"), ("berry", "berries"), ("key", "keys")],
)
def test_nouns_are_inflected(noun: str, expected: str) -> None:
    assert plural(noun) == expected


def test_forms_hold_comparison_but_no_other_words() -> None:
    assert {"bigger", "biggest"} <= forms("big")
    assert {"happier", "happily"} <= forms("happy")
    assert contains_word("The dogs ran.", "dog")
    assert contains_word("They SWAM home.", "swim")
    assert not contains_word("A doghouse.", "dog")


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("apple", "an"),
        ("hour", "an"),
        ("umbrella", "an"),
        ("unusual", "an"),
        ("ugly", "an"),
        ("unicorn", "a"),
        ("uniform", "a"),
        ("cat", "a"),
    ],
)
def test_articles_follow_the_sound(word: str, expected: str) -> None:
    assert article(word) == expected


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("apple", r"an apple"),
        ("honey", r"some honey"),
        ("fly", r"to fly a kite"),
        ("foggy", r"a foggy (day|morning)"),
        ("eager", r"an eager \w+"),
    ],
)
def test_phrases_show_a_word_in_its_place(word: str, expected: str) -> None:
    assert re.fullmatch(expected, phrase(word, random_for(0, word)))


def test_facts_are_many_and_asked_in_several_ways() -> None:
    facts = load_facts()
    assert len(facts) >= 300
    assert len({fact.id for fact in facts}) == len(facts)
    for fact in facts:
        assert len(fact.sentences) >= 2
        assert len(fact.questions) >= 2
        assert all(sentence.endswith(".") for sentence in fact.sentences)


def test_the_quiz_asks_in_words_that_no_lesson_uses() -> None:
    lessons = {question for fact in load_facts() for question in fact.questions}
    items = quiz(0)
    assert lessons.isdisjoint(item.question for item in items)
    for item in items:
        assert len(set(item.choices)) == len(item.choices) == 4
        assert item.choices[item.answer] == item.fact
    assert items == quiz(0)
    assert len({item.answer for item in items}) == 4
