"""A word list is complete, clean and the same whoever was faster."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.stories.fault_server import Fault, FaultServer
from tests.stories.small_runs import lines
from tinyllm.config.base import load_config
from tinyllm.config.stories import StoriesConfig
from tinyllm.config.vocabulary import VocabularyConfig, WordListRules
from tinyllm.errors import ConfigError, DataError, ProviderError
from tinyllm.reporting import SilentReporter
from tinyllm.stories.plan import StoryPlans
from tinyllm.stories.vocabulary import CLASSES, read_vocabulary, vocabulary_sha
from tinyllm.stories.word_list import WordListResult, run
from tinyllm.stories.word_list_asking import words_in
from tinyllm.stories.word_list_rules import (
    WordList,
    class_forms,
    count_syllables,
    english_frequency,
)

NOUNS = "apple\nApples\nbanana\ncherry\nkite\nkite\npebble\nmoon\nhippopotamuses\nx\nqwrtz\nsun"
VERBS = "1. jump\n2. jumping\n3. climb\n4. carry\n5. carried\n6. dig\n7. moon\n8. sing"
ADJECTIVES = "tall, taller, happy, happiest, soft, brave, ubiquitously, fuck, red"


def make(output: Path, **flags: Any) -> WordListResult:
    """Run in this process; `__` in a name stands for a dot."""
    given = {name.replace("__", "."): value for name, value in flags.items()}
    config = load_config(VocabularyConfig, flags={"output": output, **given})
    return run(config, SilentReporter())


def report_of(output: Path) -> dict[str, list[str]]:
    """Return the refused words by reason."""
    report = json.loads(output.with_name(f"{output.stem}.report.json").read_text())
    return {
        reason: [entry["word"] for entry in entries]
        for reason, entries in report["refused"].items()
    }


# ---- the built-in list ----


def test_the_built_in_list_is_whole_and_passes_its_own_rules(tmp_path: Path) -> None:
    output = tmp_path / "vocabulary.json"
    result = make(output)
    assert result.n_words == {"nouns": 750, "verbs": 375, "adjectives": 375}
    vocabulary = read_vocabulary(output)
    assert len(set(vocabulary.words)) == 1500
    assert vocabulary_sha(vocabulary) == result.sha256
    frequency = english_frequency()
    assert min(map(frequency, vocabulary.words)) >= 2.5
    assert "rare" in report_of(output)
    before = output.read_bytes()
    make(output)
    assert output.read_bytes() == before


def test_plans_know_the_list_they_were_made_from(tmp_path: Path) -> None:
    make(tmp_path / "v.json", nouns=30, verbs=10, adjectives=10)
    flags = {
        "output": tmp_path / "stories",
        "plan.vocabulary": tmp_path / "v.json",
        "provider.kind": "openai",
        "provider.openai.model": "teller",
    }
    plans = StoryPlans(load_config(StoriesConfig, flags=flags))
    written = json.loads((tmp_path / "v.report.json").read_text())["sha256"]
    assert plans.identity()["vocabulary_sha256"] == written
    assert len(plans) == 3000


def test_more_words_than_there_are_is_an_error_that_says_what_lacks(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nouns are missing \(refused: .*rare"):
        make(tmp_path / "v.json", nouns=5000)
    assert not (tmp_path / "v.json").exists()


# ---- rules ----


@pytest.mark.parametrize(
    ("name", "word", "reason"),
    [
        ("nouns", "Apple", None),
        ("nouns", "ice cream", "not_a_word"),
        ("nouns", "café", "not_a_word"),
        ("nouns", "x", "too_short"),
        ("nouns", "thunderstorms", "too_long"),
        ("nouns", "dog", "duplicate"),
        ("nouns", "run", "other_class"),
        ("nouns", "dogs", "inflection"),
        ("nouns", "shoes", "inflection"),
        ("nouns", "bus", None),
        ("nouns", "dress", None),
        ("nouns", "television", None),
        ("nouns", "refrigerator", "syllables"),
        ("nouns", "brougham", "rare"),
        ("verbs", "running", "inflection"),
        ("verbs", "baked", "inflection"),
        ("verbs", "sing", None),
        ("verbs", "feed", None),
        ("verbs", "need", None),
        ("verbs", "fuck", "not_for_children"),
        ("adjectives", "taller", "inflection"),
        ("adjectives", "clever", None),
    ],
)
def test_each_rule(name: str, word: str, reason: str | None) -> None:
    grown = WordList(WordListRules(), dict.fromkeys(CLASSES, 99), english_frequency())
    for known, words in (("nouns", "dog"), ("verbs", "run"), ("adjectives", "tall")):
        assert grown.offer(known, words) is None
    assert grown.offer(name, word) == reason


def test_a_base_after_its_form_is_refused_too() -> None:
    rules = WordListRules(min_zipf=None)
    grown = WordList(rules, dict.fromkeys(CLASSES, 99), None)
    assert grown.offer("nouns", "flurbs") is None
    assert grown.offer("nouns", "flurb") == "inflection"


@pytest.mark.parametrize(
    ("word", "n"),
    [("cat", 1), ("apple", 2), ("jump", 1), ("jumped", 1), ("banana", 3), ("cake", 1),
     ("elephant", 3), ("wanted", 2), ("whale", 1), ("table", 2), ("imaginative", 5)],
)  # fmt: skip
def test_syllables(word: str, n: int) -> None:
    assert count_syllables(word) == n


def test_forms_of_a_class() -> None:
    assert class_forms("happy", "adjectives") >= {"happier", "happiest"}
    assert class_forms("carry", "verbs") == {"carries", "carried", "carrying"}
    assert class_forms("sheep", "nouns") <= {"sheeps"}


def test_answers_of_every_shape() -> None:
    assert words_in("1. cat\n2) dog\n- cow\n* hen\n\nfox, owl,bee.") == [
        "cat", "dog", "cow", "hen", "fox", "owl", "bee",
    ]  # fmt: skip
    assert words_in('["cat", "dog"]') == ["cat", "dog"]


# ---- a provider ----


def answer(number: int, prompt: str) -> Fault:
    """List words of the class that was asked for."""
    for kind, words in (("nouns", NOUNS), ("verbs", VERBS), ("adjectives", ADJECTIVES)):
        if f"English {kind}" in prompt:
            return Fault(message={"content": words})
    raise AssertionError(prompt)


def asking(server: FaultServer, **flags: Any) -> dict[str, Any]:
    """Return the settings of a run that asks the server for a few words."""
    return {
        "source": "provider",
        "provider__kind": "openai",
        "provider__openai__model": "lister",
        "provider__openai__base_urls": (server.url,),
        "provider__retries__base_seconds": 0.01,
        "nouns": 7,
        "verbs": 5,
        "adjectives": 5,
        **flags,
    }


def test_words_of_a_provider_are_judged_and_reported(tmp_path: Path, server: FaultServer) -> None:
    server.fault_for = answer
    result = make(tmp_path / "v.json", **asking(server))
    assert json.loads((tmp_path / "v.json").read_text()) == {
        "nouns": ["apple", "banana", "cherry", "kite", "pebble", "moon", "sun"],
        "verbs": ["jump", "climb", "carry", "dig", "sing"],
        "adjectives": ["tall", "happy", "soft", "brave", "red"],
    }
    assert report_of(tmp_path / "v.json") == {
        "duplicate": ["kite"],
        "inflection": ["apples", "jumping", "carried", "taller", "happiest"],
        "not_for_children": ["fuck"],
        "other_class": ["moon"],
        "rare": ["qwrtz"],
        "syllables": ["ubiquitously"],
        "too_long": ["hippopotamuses"],
        "too_short": ["x"],
    }
    assert result.n_answers == len(server.requests) == 3


def _by_topic(number: int, prompt: str) -> Fault:
    """Give a few words of the built-in list, by the prompt: it takes many requests to have all."""
    from tinyllm.providers.grammar.vocabulary import load_vocabulary
    from tinyllm.seeding import random_for

    name = next(name for name in CLASSES if f"English {name}" in prompt)
    words = random_for(0, prompt).sample(getattr(load_vocabulary(), name), 12)
    return Fault(message={"content": "\n".join(words)})


@pytest.fixture
def grown(tmp_path: Path, server: FaultServer) -> Callable[..., bytes]:
    """Return a function that grows a list of 60, 30, 30 words and returns the file."""
    server.fault_for = _by_topic

    def grow(folder: str, **flags: Any) -> bytes:
        output = tmp_path / folder / "v.json"
        counts = {"nouns": 60, "verbs": 30, "adjectives": 30, "words_per_request": 12}
        make(output, **asking(server, **counts, **flags))
        return output.read_bytes()

    return grow


def test_the_list_does_not_depend_on_concurrency(grown: Callable[..., bytes]) -> None:
    assert grown("one", provider__concurrency=1) == grown("many", provider__concurrency=32)


def test_a_run_that_was_cut_off_asks_for_nothing_twice(
    grown: Callable[..., bytes], tmp_path: Path, server: FaultServer
) -> None:
    whole = grown("whole")
    n_whole = len(server.requests)
    server.fault_for = lambda n, p: Fault(401, body=b"{}") if n == n_whole + 6 else _by_topic(n, p)
    with pytest.raises(ProviderError):
        grown("cut", provider__concurrency=1)
    server.fault_for = _by_topic
    assert grown("cut", provider__concurrency=1) == whole
    assert len(server.requests) == 2 * n_whole + 1
    assert len(lines(tmp_path / "cut" / "v-run" / "attempts.jsonl")) == n_whole + 1
    assert grown("cut") == whole
    assert len(server.requests) == 2 * n_whole + 1


def test_a_provider_fills_up_the_built_in_list(tmp_path: Path, server: FaultServer) -> None:
    server.fault_for = lambda n, p: Fault(message={"content": "quark\nlava\nmagma\ncomet\nfjord"})
    total = sum(1 for _ in _builtin_nouns(tmp_path))
    flags = asking(server, source="both", nouns=total + 2, verbs=10, adjectives=10)
    make(tmp_path / "v.json", **flags)
    assert len(json.loads((tmp_path / "v.json").read_text())["nouns"]) == total + 2
    assert len(server.requests) == 1


def _builtin_nouns(folder: Path) -> list[str]:
    """Return every noun that the built-in list can give."""
    for n in range(900, 750, -1):
        try:
            make(folder / "all.json", nouns=n, verbs=10, adjectives=10)
        except DataError:
            continue
        return list(json.loads((folder / "all.json").read_text())["nouns"])
    raise AssertionError("fewer than 750")


def test_a_provider_that_knows_no_more_words_ends_it(tmp_path: Path, server: FaultServer) -> None:
    server.fault_for = answer
    with pytest.raises(DataError, match=r"missing .*duplicate"):
        make(tmp_path / "v.json", **asking(server, nouns=50, max_requests=9))
    assert len(server.requests) == 9 - 2 * 2  # verbs and adjectives were whole after one each


def test_rules_may_change_without_asking_again_and_the_rest_may_not(
    tmp_path: Path, server: FaultServer
) -> None:
    server.fault_for = answer
    make(tmp_path / "v.json", **asking(server))
    make(
        tmp_path / "v.json", **asking(server, rules__max_letters=4, nouns=3, verbs=3, adjectives=3)
    )
    assert len(server.requests) == 3
    with pytest.raises(ConfigError, match="seed"):
        make(tmp_path / "v.json", **asking(server, seed=4))
    with pytest.raises(ConfigError, match="lists no words"):
        make(tmp_path / "other.json", source="provider")
