"""Do the people of a prompt stay in the story, or do others take their place? English names only.

A name is a word with a capital letter. At the beginning of a sentence any word has one: there it
is a name only if it is neither a simple word nor one that sentences begin with. It is found by its
looks, so "the little fox" is missed though he may be the hero.
"""

import re
from dataclasses import dataclass
from functools import cache

from tinyllm.providers.grammar.inflection import forms
from tinyllm.providers.grammar.vocabulary import load_vocabulary

_CAPITALISED = re.compile(r"\b[A-Z][a-z]+(?:-[A-Z][a-z]+)*\b")
_INSIDE_SENTENCE = re.compile(r"[\w,;][\"'”’)]*[ \t]+\Z")
_NOT_NAMES = """
a about above after again all also always an and another any anyone are around as ask at away
back be because before behind beside both but by bye can come could deep did do does down during
each either else even every everyone everybody everything everywhere except far few finally
first for from goodbye had hardly has have he hello help her here hers hey hi him his hold
hooray how however hurrah hurry i if in indeed inside instead into is it its just last lastly
later let like long many maybe me meanwhile mine more morning most mr mrs much my near nearby
neither never new next no nobody none nor not nothing now of off oh okay on once one only onto
oops or other our ours out outside over perhaps please quickly quietly really right said same
say second see seeing she should since so some somebody someone something sometimes somewhere
soon sorry still such suddenly sure surely take than thank thanks that the their theirs them
then there these they third this those though three through thus till to today together tomorrow
tonight too two under unfortunately unless until up upon us very wait was we well were what
whatever when whenever where wherever whether which while who whoever whose why will with within
without wow yay yeah yes yesterday yet you your yours yum
monday tuesday wednesday thursday friday saturday sunday january february march april june july
august september october november december christmas easter english
"""


def names_in(text: str) -> dict[str, int]:
    """Return the names of a text and how often each stands there, in order of first appearance."""
    found, not_names = {}, _not_names()
    candidates: dict[str, list[bool]] = {}
    for match in _CAPITALISED.finditer(text):
        is_inside = _INSIDE_SENTENCE.search(text, max(0, match.start() - 8), match.start())
        candidates.setdefault(match.group(), []).append(is_inside is not None)
    for word, places in candidates.items():
        is_known = word.lower() in not_names
        if not is_known and (any(places) or word.lower() not in _simple_words()):
            found[word] = len(places)
    return found


@cache
def _not_names() -> frozenset[str]:
    return frozenset(_NOT_NAMES.split())


@cache
def _simple_words() -> frozenset[str]:
    return frozenset(form for word in load_vocabulary().words for form in forms(word))


@dataclass(frozen=True, slots=True)
class NamePersistence:
    """What became of a prompt's names in its continuation."""

    n_names: int
    """Names in the prompt."""
    n_kept: int
    """Those that the text uses again."""
    n_new: int
    """Names of the text that the prompt lacks."""

    @property
    def is_replaced(self) -> bool:
        """Whether none of the prompt's names is used, and another name is."""
        return self.n_kept == 0 and self.n_new > 0


def name_persistence(prompt: str, text: str) -> NamePersistence:
    """Compare the names of a prompt with those of its continuation."""
    introduced = names_in(prompt)
    n_kept = sum(re.search(rf"\b{re.escape(name)}\b", text) is not None for name in introduced)
    new = {name for name in names_in(prompt + text) if name not in prompt}
    return NamePersistence(len(introduced), n_kept, len(new))
