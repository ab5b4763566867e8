"""The offline story-teller: story i is a pure function of (seed, i).

A story is a plot (beats with several wordings each) in which a hero, a friend and an elder meet
three given words. The noun is what the plot turns on; the verb is what the hero loves to do, or
what comes over them; the adjective goes where it makes sense: to the noun ("a shiny apple"), to
the hero ("a brave girl"), to the day, or to a thing at the hero's side. All sentences are in
`grammar/plots.json`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from random import Random
from typing import Any

from tinyllm.providers.grammar.inflection import article
from tinyllm.providers.grammar.resources import read_resource
from tinyllm.providers.grammar.vocabulary import (
    MASS_GROUPS,
    Vocabulary,
    WordTriple,
    WordTriples,
    known_words,
    load_vocabulary,
)
from tinyllm.seeding import random_for

FEATURES = (
    "dialogue",
    "plot_twist",
    "moral_value",
    "bad_ending",
    "foreshadowing",
    "conflict",
)
FEATURE_SHARES = {
    "dialogue": 0.6,
    "plot_twist": 0.15,
    "moral_value": 0.35,
    "bad_ending": 0.1,
    "foreshadowing": 0.1,
    "conflict": 0.1,
}
"""How many stories have each feature where none are asked for."""

_ADJECTIVE_REPEATS = 0.6  # share of later mentions of the noun that keep its adjective
_ADJECTIVE_CLOSES = 0.8  # share of stories that come back to the adjective at their end
_PRONOUNS = {"she": ("she", "her", "her"), "he": ("he", "him", "his")}


@dataclass(frozen=True, slots=True)
class Story:
    """A story with what it was made from: the words (noun, verb, adjective) and the features."""

    text: str
    words: WordTriple
    features: tuple[str, ...]
    summary: str


def tell_story(
    seed: int,
    index: int,
    words: WordTriple | None = None,
    features: Iterable[str] | None = None,
) -> Story:
    """Tell story `index` of a seed.

    Without `words` the index-th training triple is taken, without `features` they are drawn.
    Raises ValueError for a word or feature that is not known.
    """
    vocabulary = load_vocabulary()
    if words is None:
        words = _triples(seed).training(index)
    _check_words(words)
    random = random_for(seed, "story", index)
    drawn = tuple(name for name in FEATURES if random.random() < FEATURE_SHARES[name])
    chosen = drawn if features is None else _check_features(features)
    return _Teller(vocabulary, words, chosen, random).tell()


def word_triples(seed: int) -> WordTriples:
    """Return the order in which stories of a seed use up the triples of words."""
    return _triples(seed)


@lru_cache(64)
def _triples(seed: int) -> WordTriples:
    return WordTriples(load_vocabulary(), seed)


def _check_words(words: WordTriple) -> None:
    names = ("noun", "verb", "adjective")
    for word, known, name in zip(words, known_words(), names, strict=True):
        if word not in known:
            raise ValueError(f"{word!r} is not a {name} of the word list")


def _check_features(features: Iterable[str]) -> tuple[str, ...]:
    wanted = set(features)
    unknown = wanted - set(FEATURES)
    if unknown:
        raise ValueError(f"unknown features {sorted(unknown)}, allowed: {', '.join(FEATURES)}")
    return tuple(name for name in FEATURES if name in wanted)


class _Teller:
    """Tells one story: draws a cast and a plot, then writes beat after beat."""

    def __init__(
        self, vocabulary: Vocabulary, words: WordTriple, features: tuple[str, ...], random: Random
    ) -> None:
        self._grammar = read_resource("plots.json")
        self._random = random
        self._features = features
        self._words = words
        noun, verb, adjective = words
        self._noun_group = vocabulary.group[noun]
        self._verb_group = vocabulary.group[verb]
        self._adjective_group = vocabulary.group[adjective]
        self._adjective_place = self._place_adjective()
        cast = self._draw_cast()
        side = self._draw_side()
        self._slots = _Slots(
            self._fill,
            cast,
            noun=noun,
            v=vocabulary.verb_phrase(verb),
            adj=adjective,
            a_adj=_with_article(adjective),
            side=side,
            a_side=_with_article(f"{adjective} {side}"),
            the_side=f"the {adjective} {side}",
        )
        self._noun_mentions = 0

    def tell(self) -> Story:
        plots = [p for p in self._grammar["plots"] if self._noun_group in p["takes"]]
        plot = self._random.choice(plots)
        text = " ".join(sentence for sentence in self._sentences(plot) if sentence)
        text += self._random.choice(self._grammar["endings"])
        return Story(text, self._words, self._features, self._write(plot["summary"]))

    def _sentences(self, plot: dict[str, Any]) -> Iterable[str]:
        verb_beats = self._grammar[self._verb_group]
        with_habit = self._random.random() < 0.8
        with_close = self._random.random() < 0.5
        yield self._one_of("openings")
        yield self._adjective_line("lines")
        if with_habit:
            yield self._write(self._random.choice(verb_beats["habit"]))
        if "foreshadowing" in self._features:
            yield self._one_of("foreshadowing")
        for beat in plot["beats"]:
            if beat == "@react":
                if "conflict" in self._features:
                    yield self._one_of("conflict")
                if not (with_habit and with_close) or self._random.random() < 0.5:
                    yield self._write(self._random.choice(verb_beats["react"]))
            else:
                yield self._beat(beat)
        if "plot_twist" in self._features:
            yield self._beat(plot["twist"])
        bad = "bad_ending" in self._features
        yield self._beat(plot["bad" if bad else "good"])
        if with_close and not bad:
            yield self._write(self._random.choice(verb_beats["close"]))
        if self._random.random() < _ADJECTIVE_CLOSES:
            yield self._adjective_line("closes")
        if "moral_value" in self._features:
            yield self._beat(plot["moral"])

    def _beat(self, beat: Any) -> str:
        if isinstance(beat, dict):
            beat = beat["dialogue" if "dialogue" in self._features else "plain"]
        return self._write(self._random.choice(beat))

    def _one_of(self, name: str) -> str:
        return self._write(self._random.choice(self._grammar[name]))

    def _adjective_line(self, position: str) -> str:
        """Return a sentence for an adjective that does not stand with the noun."""
        place, group = self._adjective_place, self._adjective_group
        is_said = place == "noun" or (place == "trait" and self._cast_has_trait)
        if position == "lines" and is_said:
            return ""
        if place == "side":
            return self._write(self._random.choice(self._grammar[f"side_{position}"][group]))
        return self._one_of(f"{place}_{position}")

    def _place_adjective(self) -> str:
        if self._noun_group in self._grammar["fits"][self._adjective_group]:
            is_for_hero = self._adjective_group == "trait" and self._random.random() < 0.7
            return "trait" if is_for_hero else "noun"
        return (
            self._adjective_group
            if self._adjective_group in ("trait", "feeling", "day")
            else "side"
        )

    def _draw_cast(self) -> dict[str, str]:
        random, grammar = self._random, self._grammar
        hero_gender, friend_gender, elder_gender = (random.choice(("she", "he")) for _ in range(3))
        hero = random.choice(grammar["names"][hero_gender])
        friend = random.choice([n for n in grammar["names"][friend_gender] if n != hero])
        kinds = [k for k in grammar["animal_heroes"] if k != self._words[0]]
        human = "girl" if hero_gender == "she" else "boy"
        kind = human if random.random() < 0.65 else random.choice(kinds)
        self._cast_has_trait = self._adjective_place == "trait" and random.random() < 0.6
        described = f"{self._words[2] if self._cast_has_trait else 'little'} {kind}"
        if not self._cast_has_trait and random.random() < 0.4:
            described = kind
        cast = {"hero": hero, "friend": friend, "kind": kind, "a_hero": _with_article(described)}
        cast["elder"] = random.choice(grammar["elders"][elder_gender])
        for prefix, gender in (("", hero_gender), ("f", friend_gender), ("e", elder_gender)):
            for base, form in zip(("he", "him", "his"), _PRONOUNS[gender], strict=True):
                cast[prefix + base] = form
        return cast

    def _draw_side(self) -> str:
        if self._adjective_place != "side":
            return ""
        things: list[str] = self._grammar["sides"][self._adjective_group]
        return self._random.choice([thing for thing in things if thing != self._words[0]])

    def _write(self, template: str) -> str:
        return template.format_map(self._slots)

    def _fill(self, slot: str) -> str:
        """Fill a slot that is not the same throughout a story, or begins a sentence."""
        if slot[0].isupper():
            text = self._slots[slot[0].lower() + slot[1:]]
            return text[0].upper() + text[1:]
        return self._noun_phrase(is_definite={"a_noun": False, "the_noun": True}[slot])

    def _noun_phrase(self, *, is_definite: bool) -> str:
        noun, _, adjective = self._words
        is_first = self._noun_mentions == 0
        self._noun_mentions += 1
        has_adjective = self._adjective_place == "noun" and (
            is_first or self._random.random() < _ADJECTIVE_REPEATS
        )
        phrase = f"{adjective} {noun}" if has_adjective else noun
        if is_definite:
            return f"the {phrase}"
        return f"some {phrase}" if self._noun_group in MASS_GROUPS else _with_article(phrase)


class _Slots(dict[str, str]):
    """Fills a template's slots one by one, in the order in which they stand.

    What is not given is asked for each time.
    """

    def __init__(self, fill: Callable[[str], str], *given: Mapping[str, str], **more: str) -> None:
        super().__init__(*given, **more)
        self._fill = fill

    def __missing__(self, slot: str) -> str:
        return self._fill(slot)


def _with_article(phrase: str) -> str:
    return f"{article(phrase)} {phrase}"
