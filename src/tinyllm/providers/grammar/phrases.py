"""Words in the smallest company that makes sense: "an apple", "to fly a kite", "a foggy day"."""

from random import Random

from tinyllm.providers.grammar.inflection import article
from tinyllm.providers.grammar.resources import read_resource
from tinyllm.providers.grammar.vocabulary import MASS_GROUPS, load_vocabulary


def phrase(word: str, random: Random) -> str:
    """Return a phrase with the word. Raises KeyError for a word that is not in the list."""
    vocabulary = load_vocabulary()
    group = vocabulary.group[word]
    if word in vocabulary.completion:
        return f"to {vocabulary.verb_phrase(word)}"
    companions = _companions(group)
    if companions:
        return f"{article(word)} {word} {random.choice(companions)}"
    return f"some {word}" if group in MASS_GROUPS else f"{article(word)} {word}"


def _companions(group: str) -> list[str]:
    """Return the nouns that an adjective of this group goes with; none for other words."""
    if group in ("trait", "feeling"):
        return ["girl", "boy", *read_resource("plots.json")["animal_heroes"]]
    if group == "day":
        return ["day", "morning"]
    sides: dict[str, list[str]] = read_resource("plots.json")["sides"]
    return sides.get(group, [])
