"""Simple facts about the world, questions about them, and a quiz.

A fact is a pair (x, y) of a relation in facts.json: "The baby of a cat is a kitten." The quiz asks
in a wording that no lesson uses, and about some facts whose questions were never taught: those
were only stated.
"""

from dataclasses import dataclass
from functools import cache

from tinyllm.providers.grammar.inflection import article
from tinyllm.providers.grammar.resources import read_resource
from tinyllm.records import MultipleChoice
from tinyllm.seeding import random_for

_N_CHOICES = 4
_SHARE_ONLY_STATED = 0.2
_LEARNER_SEED = 0  # which facts are only stated does not depend on a run's seed


@dataclass(frozen=True, slots=True)
class Fact:
    """One fact in several wordings. Sentences answer the questions; `quiz` is kept for the quiz."""

    id: str
    relation: str
    answer: str
    sentences: tuple[str, ...]
    questions: tuple[str, ...]
    quiz: str
    is_only_stated: bool
    """Whether lessons state the fact but never ask for it."""


@cache
def load_facts() -> tuple[Fact, ...]:
    """Return all facts, relation by relation."""
    return tuple(
        _fact(relation, x, y)
        for relation in read_resource("facts.json")["relations"]
        for x, y in relation["pairs"].items()
    )


def quiz(seed: int) -> list[MultipleChoice]:
    """Return a question per fact with four sentences to choose from, one of them true.

    Wrong choices are answers of the same relation, put into the same sentence.
    """
    relations = {r["name"]: r for r in read_resource("facts.json")["relations"]}
    return [_quiz_item(fact, relations[fact.relation]["pairs"], seed) for fact in load_facts()]


def _fact(relation: dict[str, object], x: str, y: str) -> Fact:
    name = str(relation["name"])
    draw = random_for(_LEARNER_SEED, f"fact {name} {x}").random()
    return Fact(
        id=f"{name}-{x}".replace(" ", "-"),
        relation=name,
        answer=y,
        sentences=_fill_all(relation["statements"], x, y),
        questions=_fill_all(relation["questions"], x, y),
        quiz=_fill(str(relation["quiz"]), x, y),
        is_only_stated=draw < _SHARE_ONLY_STATED,
    )


def _quiz_item(fact: Fact, pairs: dict[str, str], seed: int) -> MultipleChoice:
    random = random_for(seed, f"quiz {fact.id}")
    others = sorted(set(pairs.values()) - {fact.answer})
    answers = [fact.answer, *random.sample(others, min(_N_CHOICES - 1, len(others)))]
    random.shuffle(answers)
    sentence = _relation_sentence(fact)
    x = next(x for x in pairs if fact.id == f"{fact.relation}-{x}".replace(" ", "-"))
    choices = tuple(_fill(sentence, x, answer) for answer in answers)
    return MultipleChoice(
        fact.id, fact.quiz, choices, answers.index(fact.answer), fact.sentences[0]
    )


def _relation_sentence(fact: Fact) -> str:
    relations = read_resource("facts.json")["relations"]
    found = next(r for r in relations if r["name"] == fact.relation)
    return str(found["statements"][0])


def _fill_all(templates: object, x: str, y: str) -> tuple[str, ...]:
    assert isinstance(templates, list)
    return tuple(_fill(template, x, y) for template in templates)


def _fill(template: str, x: str, y: str) -> str:
    a_x = f"{article(x)} {x}"
    text = template.format(
        x=x,
        y=y,
        X=x[0].upper() + x[1:],
        a_x=a_x,
        A_x=a_x[0].upper() + a_x[1:],
        a_y=f"{article(y)} {y}",
    )
    return text[0].upper() + text[1:]
