import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyllm.config.stories import FilterConfig, StoriesConfig
from tinyllm.providers.grammar.vocabulary import load_vocabulary
from tinyllm.providers.story_grammar import tell_story
from tinyllm.records import END_OF_TEXT
from tinyllm.stories.cleaning import clean
from tinyllm.stories.filters import StoryFilter
from tinyllm.stories.plan import StoryPlan, StoryPlans

GOOD = """Once upon a time there was a little fox named Pip. Pip lived by the river with his mom.
One day he saw a shiny apple high up in a tree. He wanted to jump and get it, but he was too small.

"Can you help me?" he asked the bear. The bear was kind and lifted him up. Pip took the apple and
gave half of it to his new friend. They were very happy and played all day until the sun went down.
Then Pip went home and told his mom about the bear."""
PLAN = StoryPlan(
    0, 0, {"noun": "apple", "verb": "jump", "adjective": "shiny"}, ("dialogue",), "plain", 3, {}
)
STRICT = StoryFilter(FilterConfig(max_oov_share=0.2), load_vocabulary())


def verdict(answer: str, plan: StoryPlan = PLAN, rules: StoryFilter = STRICT) -> str | None:
    fault = rules.examine(answer, plan)[2]
    return fault.reason if fault is not None else None


def test_a_good_story_passes_and_is_measured() -> None:
    text, checks, fault = STRICT.examine(GOOD, PLAN)
    assert fault is None
    assert text == GOOD
    assert checks["words_found"] == ["apple", "jump", "shiny"]
    assert checks["features_found"] == ["dialogue"]
    assert (checks["n_words"], checks["n_paragraphs"], checks["ends_ok"]) == (96, 5, True)
    assert checks["changed"] == []


BAD = {
    "empty": " \n ",
    "too_short": 'The shiny apple had to jump. "Oh!" it said.',
    "too_long": GOOD + " " + GOOD.replace("Pip", "Tim") * 15,
    "no_terminal_punct": GOOD[:-1] + " and then",
    "control_character": GOOD.replace("river", "ri\0ver"),
    "special_token": GOOD.replace("river", f"river {END_OF_TEXT}"),
    "non_ascii": GOOD.replace("Pip", "Пип"),
    "markup": GOOD.replace("One day", "- One day\n- One night"),
    "refusal": "I'm sorry, but I can't help with that. " + GOOD,
    "meta": GOOD + " As an AI, I made this up.",
    "language": " ".join(['Ein kleiner Fuchs sah einen shiny apple jump "so" gern.'] * 12),
    "word_missing": GOOD.replace("jump", "hop"),
    "feature_missing": GOOD.replace('"', ""),
    "vocab_oov": GOOD.replace("little fox", "photosynthetic chloroplast")
    * 1
    + " Quantum entanglement perturbs heteroscedastic eigenvalues; Lagrangian multipliers,"
    " asymptotic bifurcation, stochastic regularization, covariance, orthogonality, topology,"
    " manifold, tensor, spinor, boson, fermion, hadron, lepton, quark, gluon, meson, baryon.",
    "profanity": GOOD.replace("kind", "naked"),
    "repetition": GOOD + " He ran to the tree." * 30,
}


@pytest.mark.parametrize("reason", BAD)
def test_each_fault_has_its_reason(reason: str) -> None:
    assert verdict(BAD[reason]) == reason


@pytest.mark.parametrize(
    "text",
    [
        GOOD.replace("river", "ri\ud800ver"),
        GOOD.replace("river", "ri\x85ver"),
        GOOD.replace("river", "<|im_end|>"),
        GOOD.replace("river", "[INST] river"),
        GOOD.replace('"Can', '**"Can'),
        "# Story\n\nMoral:\n1. apples",
        GOOD.replace("mom", "caf\u00c3\u00a9 \u00e2\u20ac\u0153mom"),
    ],
)
def test_what_would_harm_a_text_file_is_never_accepted(text: str) -> None:
    assert verdict(text) is not None


@pytest.mark.parametrize(
    ("answer", "rules"),
    [
        (f"Sure! Here is a short story for you:\n\n{GOOD}", ["preamble"]),
        (f"Here's the story:\n{GOOD}", ["preamble"]),
        (f"**The Shiny Apple**\n\n{GOOD}", ["title"]),
        (f"Title: The Shiny Apple\n\n{GOOD}", ["title"]),
        (f"The Shiny Apple\n\n{GOOD}", ["title"]),
        (f"Certainly, here is a story.\n\n# The Apple\n\n{GOOD}", ["preamble", "title"]),
        (f"{GOOD}\n\n---\n\n{GOOD}", ["second_story"]),
        (f"Story 1:\n{GOOD}\n\nStory 2:\n{GOOD}", ["first_heading", "second_story"]),
        (f"{GOOD}\n\nI hope you like this story!", ["postamble"]),
        (f"{GOOD}\n\n(Word count: 99)", ["postamble"]),
        (GOOD.replace('"', "“").replace("'", "’"), ["plain_letters"]),
        (GOOD.replace("\n\n", "\u2029"), ["plain_letters"]),
    ],
)
def test_what_surrounds_a_story_is_taken_off_by_rule(answer: str, rules: list[str]) -> None:
    assert clean(answer) == (GOOD, rules)
    assert verdict(answer) is None


@pytest.mark.parametrize(
    "beginning",
    [
        "Great big bears lived in the wood.",
        "Sure enough, the sun rose again: it was day.",
        "Okay was the name of a little dog.",
        "Here is where the fox lived.",
    ],
)
def test_a_story_that_begins_like_a_polite_answer_stays_whole(beginning: str) -> None:
    story = f"{beginning} {GOOD}"
    assert clean(story) == (story, [])


@given(st.text())
def test_no_answer_breaks_a_rule_or_a_line_of_json(answer: str) -> None:
    text, checks, _ = STRICT.examine(answer, PLAN)
    assert json.loads(json.dumps({"text": text, **checks}))["text"] == text
    assert clean(text)[0] == text or clean(text)[1]


def test_words_are_found_in_their_other_forms() -> None:
    assert verdict(GOOD.replace("jump", "jumped").replace("apple", "apples")) is None


def test_rules_can_be_turned_off() -> None:
    lax = StoryFilter(
        FilterConfig(
            min_characters=0,
            min_words=0,
            end_punctuation=False,
            ascii_only=False,
            words_required=False,
            features_checked=False,
            english=False,
            profanity=False,
            max_trigram_share=1,
            min_compressed_share=0,
            max_repeated_sentences=1,
        ),
        load_vocabulary(),
    )
    kept = {"empty", "too_long", "control_character", "special_token", "markup", "refusal", "meta"}
    for reason, answer in BAD.items():
        assert verdict(answer, rules=lax) == (reason if reason in kept else None), reason


def test_stories_of_the_grammar_pass() -> None:
    plans = StoryPlans(StoriesConfig())
    rules = StoryFilter(FilterConfig(), plans.vocabulary)
    for index in range(300):
        plan = plans.plan(index)
        words = (plan.words["noun"], plan.words["verb"], plan.words["adjective"])
        story = tell_story(0, index, words, plan.features)
        assert verdict(story.text, plan, rules) is None, story.text
