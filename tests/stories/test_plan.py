import json
import re
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyllm.config.base import load_config
from tinyllm.config.stories import StoriesConfig
from tinyllm.errors import DataError
from tinyllm.providers.offline import features_in, words_in
from tinyllm.providers.story_grammar import FEATURES
from tinyllm.stories.plan import StoryPlans
from tinyllm.stories.templates import read_templates

PLANS = StoryPlans(StoriesConfig())
WORDS = {"nouns": ["apple", "boat"], "verbs": ["jump", "run", "sing"], "adjectives": ["red"]}


def plans_of(**flags: object) -> StoryPlans:
    dotted = {name.replace("__", "."): value for name, value in flags.items()}
    return StoryPlans(load_config(StoriesConfig, flags=dotted))


def plans_with(words: Path) -> StoryPlans:
    """Plans for words that the offline provider does not know."""
    scripted = {"provider__kind": "scripted", "provider__scripted__path": words}
    return plans_of(plan__vocabulary=words, **scripted)


@given(st.integers(0, len(PLANS) - 1))
def test_a_plan_is_a_function_of_seed_and_index(index: int) -> None:
    plan = PLANS.plan(index)
    assert plan == StoryPlans(StoriesConfig()).plan(index)
    assert plan != plans_of(seed=1).plan(index)
    assert PLANS.plan(index, draw=1).words == plan.words
    for word in plan.words.values():
        assert f'"{word}"' in PLANS.prompt(plan)


def test_no_words_come_together_twice() -> None:
    triples = {tuple(PLANS.plan(i).words.values()) for i in range(5000)}
    assert len(triples) == 5000


def test_a_plan_of_a_million_holds_no_list() -> None:
    tracemalloc.start()
    plans = plans_of(n_stories=1_000_000)
    plans.plan(0)
    plans.plan(999_999)
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()


@given(st.sets(st.sampled_from(FEATURES)), st.sampled_from(sorted(PLANS.templates.texts)))
def test_the_offline_provider_reads_what_every_prompt_asks(features: set[str], name: str) -> None:
    words = {"noun": "fox", "verb": "jump", "adjective": "happy"}
    wanted = [f for f in FEATURES if f in features]
    for beginning in (None, "Once there was a hen."):
        prompt = PLANS.templates.write(name, words, wanted, {}, 3, beginning)
        assert features_in(prompt) == wanted
        assert words_in(prompt, lambda: ("x", "y", "z")) == ("fox", "jump", "happy")


def test_features_come_as_often_as_the_config_says() -> None:
    plans = plans_of(plan__features__dialogue=0.9, plan__features__conflict=0.0)
    found = [plans.plan(i).features for i in range(2000)]
    assert sum("dialogue" in f for f in found) == pytest.approx(1800, abs=60)
    assert not any("conflict" in f for f in found)


def test_extras_are_asked_for() -> None:
    plans = plans_of(plan__themes=("friendship",), plan__openings=("with a sound",))
    prompt = plans.prompt(plans.plan(3))
    assert "Its theme is friendship." in prompt
    assert "It begins with a sound." in prompt


def test_words_of_your_own(tmp_path: Path) -> None:
    path = tmp_path / "words.json"
    path.write_text(json.dumps(WORDS))
    plans = plans_with(path)
    assert len(plans) == 6
    assert len({tuple(plans.plan(i).words.values()) for i in range(6)}) == 6
    assert plans.sha != PLANS.sha


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"nouns": []}, "holds no list of nouns"),
        ({"verbs": ["jump", "apple"]}, "'apple' stands in nouns and again in verbs"),
        ({"verbs": ["jump", "jump"]}, "'jump' stands in verbs and again in verbs"),
        ({"adjectives": ["Red"]}, "'Red' among the adjectives is no word"),
    ],
)
def test_words_that_cannot_be_used_are_named(change, sentence, tmp_path: Path) -> None:
    path = tmp_path / "words.json"
    path.write_text(json.dumps({**WORDS, **change}))
    with pytest.raises(DataError, match=re.escape(sentence)):
        plans_with(path)


def test_prompts_of_your_own_need_a_place_for_every_word(tmp_path: Path) -> None:
    path = tmp_path / "prompts.json"
    built_in = json.loads(
        (Path(__file__).parents[2] / "src/tinyllm/stories/templates.json").read_text()
    )
    built_in["templates"] = [{"id": "mine", "text": "Use {noun} and {verb}."}]
    path.write_text(json.dumps(built_in))
    with pytest.raises(DataError, match="template 'mine' has no place for all three words"):
        read_templates(path)
    built_in["templates"][0]["text"] = "Use {noun}, {verb}, {adjective}.{features}"
    path.write_text(json.dumps(built_in))
    read_templates.cache_clear()
    assert plans_of(plan__templates=path).sha != PLANS.sha
