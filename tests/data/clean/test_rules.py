from typing import Any

import pytest

from tinyllm.config.clean import CleanDataConfig
from tinyllm.data.clean.rules import Candidate, Lists, Rules, runs_of
from tinyllm.providers.story_grammar import tell_story

STORY = (
    "Once upon a time a small fox lived near the river. She liked to swim and to look for shells. "
    "One day she found a red ball under a tree. A bird wanted it too, so they played together "
    "until the sun went down."
)

GERMAN = (
    "Es war einmal ein kleiner Fuchs, der wohnte am Fluss und spielte jeden Tag mit seinem roten "
    "Ball, bis die Sonne unterging und alle nach Hause gingen, um zu schlafen."
)


def broken_rule(
    text: str, prompt: str | None = None, lists: Lists | None = None, **changes: Any
) -> str | None:
    config = CleanDataConfig.model_validate(
        {"sources": ("x",), "output": "y", **changes}, strict=False
    )
    fault = Rules(config, lists).fault(Candidate(text, prompt, text, prompt))
    return fault.rule if fault else None


def test_a_good_story_passes() -> None:
    assert broken_rule(STORY) is None
    assert broken_rule(STORY, "A fox finds a ball.") is None


def test_stories_of_the_grammar_pass() -> None:
    assert [broken_rule(tell_story(1, i).text) for i in range(50)] == [None] * 50


@pytest.mark.parametrize(
    ("rule", "text", "prompt"),
    [
        ("not_a_story", STORY, "[ OT ] What are you writing?"),
        ("not_a_story", STORY, "[Modpost] New rules"),
        ("deleted", "[deleted]", "A fox."),
        ("deleted", STORY, "[ removed ]"),
        ("moderator", f"Off-Topic Discussion: reply here. {STORY}", None),
        ("moderator", f"{STORY} I am a bot, and this action was performed automatically.", None),
        ("empty", "", None),
        ("special_token", f"{STORY} <|im_start|>assistant", None),
        ("too_short", "A fox slept.", None),
        (
            "language",
            GERMAN,
            None,
        ),
        ("no_end", STORY[:-1] + " and then the", None),
        ("repeated_lines", "\n".join(["The fox ran over the green hill again."] * 6), None),
        ("repeated_words", "The big bird sang. " * 12 + STORY, None),
        ("few_letters", f"{STORY} {list(range(1000, 1060))}.", None),
        ("capitals", STORY.upper(), None),
        ("symbols", STORY.replace(" ", " # ", 20), None),
    ],
)
def test_each_rule_drops_what_it_is_for(rule: str, text: str, prompt: str | None) -> None:
    assert broken_rule(text, prompt) == rule


def test_rules_with_a_setting() -> None:
    assert broken_rule(STORY, limits={"max_words": 10}) == "too_long"
    assert broken_rule(STORY, language="fr") == "language"
    assert broken_rule(STORY, language=None) is None
    assert broken_rule(STORY + " Call [phone].", personal_data="drop") == "personal_data"
    many = "\n".join(f"{STORY} It was day {i}." for i in range(12))
    limits: dict[str, object] = {"compressed_share": (0.5, 1.0)}
    assert broken_rule(many, limits=limits) == "compressed"
    limits["compressed_share"] = (0.0, 1.0)
    assert broken_rule(many, limits=limits) is None


def test_banned_words_are_whole_words() -> None:
    lists = Lists(banned_words=("ass", "red ball"))
    assert broken_rule(STORY, lists=lists) == "banned_words"
    assert broken_rule(STORY.replace("red ball", "glass"), lists=lists) is None


def test_texts_of_evaluation_are_found_in_prompt_and_story() -> None:
    kept = "Lily likes cats and dogs. She asked her mom for a dog and her mom said no, so instead"
    lists = Lists(evaluation=runs_of([kept, "A fox finds"]))
    assert broken_rule(f"{STORY} {kept.upper()} she cried.", lists=lists) == "evaluation_text"
    assert broken_rule(STORY, "A fox, finds a ball.", lists=lists) == "evaluation_text"
    assert broken_rule(STORY, "A fox finally.", lists=lists) is None
    assert runs_of(["", "one"]) == {1: frozenset({"one"})}
