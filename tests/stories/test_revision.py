"""Principles, gates, the chain of rounds, and what is written of them."""

import itertools
import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import ROOT
from tests.stories.revision_runs import (
    TWO_RULES,
    config_for,
    flawed,
    ledger,
    lines,
    revise,
    write_source,
)
from tinyllm.config.base import load_config
from tinyllm.config.eval_stories import EvalStoriesConfig
from tinyllm.config.revision import ReviserConfig, ReviseStoriesConfig
from tinyllm.data.manifest import read_manifest
from tinyllm.data.sources import read_conversations
from tinyllm.errors import ConfigError, DataError, ProviderError
from tinyllm.providers.story_grammar import tell_story
from tinyllm.reporting import RecordingReporter
from tinyllm.stories.revision.asked import asked_words, wants_speech
from tinyllm.stories.revision.constitution import read_constitution
from tinyllm.stories.revision.gates import NO_CHANGE, RevisionGate, change, copied_share
from tinyllm.stories.revision.judging import Comparison, Verdict, win_rate
from tinyllm.stories.revision.looking import dry_run, read_status
from tinyllm.stories.revision.offline_editor import FAULTS, missing_words, repeated_sentences
from tinyllm.stories.revision.resources import fill
from tinyllm.stories.revision.tasks import Task
from tinyllm.stories.revision.turns import is_nothing

SHIPPED = read_constitution(None)
N_PROMPTS = 40


# principles


def test_ten_principles_ship_and_none_is_empty() -> None:
    assert len(SHIPPED.principles) == 10
    assert (
        len({p.critique for p in SHIPPED.principles} | {p.revise for p in SHIPPED.principles}) == 20
    )


def test_the_configs_of_the_plan_are_valid() -> None:
    folder = ROOT / "training/constitution/revision"
    for name in ("revise.json", "api.json"):
        assert load_config(ReviseStoriesConfig, folder / name).drafts.ask
    assert load_config(EvalStoriesConfig, folder / "measure.json").writer.n_samples == 1
    ids = [p.id for p in read_constitution(folder / "constitution.json").principles]
    assert set(ids) <= set(FAULTS)


@given(st.text("abc", min_size=1), st.integers(0, 10), st.integers(0, 2**40))
def test_principles_are_drawn_by_seed_and_without_replacement(
    task_id: str, n: int, seed: int
) -> None:
    drawn = SHIPPED.draw(task_id, "Write a story.", n, seed)
    assert drawn == SHIPPED.draw(task_id, "Write a story.", n, seed)
    assert len({p.id for p in drawn}) == len(drawn) == min(n, len(SHIPPED.principles))
    assert drawn == SHIPPED.draw(task_id, "Write a story.", 10, seed)[:n]


def test_a_principle_of_twice_the_weight_is_drawn_twice_as_often() -> None:
    firsts = [SHIPPED.draw(str(i), "Write a story.", 1, 0)[0].id for i in range(4000)]
    assert firsts.count("follows_task") == pytest.approx(4000 * 2 / 11, abs=120)
    assert firsts.count("consistency") == pytest.approx(4000 / 11, abs=90)


def test_principles_are_drawn_where_they_apply() -> None:
    def ids(prompt: str) -> set[str]:
        return {p.id for p in SHIPPED.draw("1", prompt, 10, 0)}

    assert "no_sermon" not in ids("Write a story. It has a moral.")
    assert "useful_dialogue" not in ids("Write a story with no dialogue.")
    assert len(ids("Write a story about coral.")) == 10


WRONG: dict[str, dict[str, Any]] = {
    "it holds no principles": {"name": "x", "version": 1, "principles": []},
    "KeyError 'principles'": {"name": "x", "version": 1},
    "not `whole`": {"id": "whole"},
    "its weight is 0": {"weight": 0},
    "a key 'wieght'": {"wieght": 2},
    "hold text": {"revise": " "},
    "mentions and omits": {"applies_to": {"when": ["x"]}},
}


@pytest.mark.parametrize(("said", "wrong"), WRONG.items())
def test_what_is_wrong_with_a_constitution_is_said(
    tmp_path: Path, said: str, wrong: dict[str, Any]
) -> None:
    path = tmp_path / "c.json"
    good = {"id": "a", "name": "A", "critique": "Look.", "revise": "Mend."}
    whole = {"name": "x", "version": 1, "principles": [{**good, **wrong}]}
    path.write_text(json.dumps(wrong if "name" in wrong else whole))
    with pytest.raises(DataError, match=said):
        read_constitution(path)


def test_the_examples_of_the_page_can_be_used(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "constitution.md").read_text(encoding="utf-8")
    config, own = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    (tmp_path / "config.json").write_text(config)
    (tmp_path / "own.json").write_text(own)
    loaded = load_config(ReviseStoriesConfig, tmp_path / "config.json")
    assert loaded.rounds == 2
    (principle,) = read_constitution(tmp_path / "own.json").principles
    assert principle.applies("Write about a pet.")
    assert not principle.applies("Write about a pet, with no dialogue.")


# turns


@pytest.mark.parametrize(
    "text", ["NONE", "None.", "**NONE**", "NONE - it is fine.", "All is well.\nNONE"]
)
def test_nothing_to_improve_is_understood(text: str) -> None:
    assert is_nothing(text)


@pytest.mark.parametrize(
    "text", ["None of the words is there.", "There is no goal.", "Nonetheless, it stops.", ""]
)
def test_a_critique_is_not_taken_for_nothing(text: str) -> None:
    assert not is_nothing(text)


def test_a_story_cannot_reach_into_the_message_around_it() -> None:
    assert fill("a {x} b {y} {z}", {"x": "{y}", "y": "1"}) == "a {y} b 1 {z}"


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("Write a story with the words: fox, jump, happy.", ("fox", "jump", "happy")),
        ("Write a story.\nWords: fox, jump\nFeatures: dialogue", ("fox", "jump")),
        ('Use the verb "jump" and the noun "fox".', ("jump", "fox")),
        ('Write a story that begins like this: "No," said the fox.', ()),
        ("Tell of a word.", ()),
    ],
)
def test_words_are_read_of_a_prompt(prompt: str, words: tuple[str, ...]) -> None:
    assert asked_words(prompt) == words


def test_speech_is_read_of_a_prompt() -> None:
    found = [
        wants_speech(p) for p in ("It has dialogue.", "It has no dialogue.", "NoDialogue", "Hi")
    ]
    assert found == [True, False, False, None]


# gates

STORY = tell_story(0, 3).text


@pytest.mark.parametrize(
    ("reason", "answer"),
    [
        ("preamble", f"Here is the revised story. {STORY}"),
        ("copied_critique", "One two three four five six seven eight nine ten eleven twelve."),
        ("too_much_shorter", " ".join(STORY.split()[:10])),
        ("too_much_longer", " ".join([STORY, tell_story(0, 4).text, tell_story(0, 5).text])),
        (NO_CHANGE, STORY),
        (NO_CHANGE, f"Sure, here is the story:\n\n{STORY}"),
        ("no_terminal_punct", f"{tell_story(0, 4).text} And then she"),
        ("special_token", f"{tell_story(0, 4).text} <|endoftext|>"),
    ],
)
def test_a_revision_has_to_be_one(reason: str, answer: str) -> None:
    gate = RevisionGate(ReviserConfig())
    critique = "one two three four five six seven eight nine ten eleven twelve."
    _, _, fault = gate.examine("Write a story.", STORY, critique, answer)
    assert fault is not None
    assert (fault.reason, fault.is_final) == (reason, reason == NO_CHANGE)


def test_a_proper_revision_passes_and_is_cleaned() -> None:
    other = tell_story(0, 4).text
    text, measured, fault = RevisionGate(ReviserConfig()).examine(
        "Write a story.", STORY, "Too short.", f"Sure, here is the story:\n\n{other}"
    )
    assert (text, fault) == (other, None)
    assert measured["change"] > 0.3


@given(st.lists(st.sampled_from("abc")), st.lists(st.sampled_from("abc")))
def test_change_is_a_share_and_nothing_for_the_same(old: list[str], new: list[str]) -> None:
    assert change(old, old) == 0
    assert 0 <= change(old, new) <= 1
    assert 0 <= copied_share(old, new) <= 1


# whole runs by rules


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prompts with stories, two in three flawed."""
    return write_source(tmp_path_factory.mktemp("source") / "in.jsonl", N_PROMPTS)


def test_flaws_are_found_mended_and_preferred(tmp_path: Path, source: Path) -> None:
    result = revise(source, tmp_path, constitution=TWO_RULES, rounds=2, prefs_share=1.0)
    pairs = lines(tmp_path / "prefs.jsonl")
    assert result.report is not None
    n_flawed = 0
    for prompt, story in map(flawed, range(N_PROMPTS)):
        n_flawed += bool(missing_words(prompt, story) or repeated_sentences(story))
    assert result.report.written.n_prefs == len(pairs) == n_flawed
    for pair in pairs:
        assert not missing_words(pair["prompt"], pair["chosen"])
        assert not repeated_sentences(pair["chosen"])
        before = missing_words(pair["prompt"], pair["rejected"])
        assert before or repeated_sentences(pair["rejected"])
        assert (pair["margin"], pair["judge"]) == (1.0, "offline:rule-editor-1")
        assert set(pair) == {"id", "prompt", "chosen", "rejected", "margin", "principle", "judge"}
    manifest = read_manifest(tmp_path / "prefs.jsonl")
    assert manifest is not None
    assert manifest.settings["run"]["constitution_sha256"] == read_constitution(TWO_RULES).sha256


def test_no_prompt_is_both_tuned_on_and_preferred_by(tmp_path: Path, source: Path) -> None:
    twice = tmp_path / "twice.jsonl"
    rows = lines(source)
    twice.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with twice.open("a") as file:
        for row, other in itertools.pairwise(rows):
            file.write(json.dumps({**row, "story": other["story"]}) + "\n")
    output = tmp_path / "out"
    revise(twice, output, constitution=TWO_RULES, rounds=2)
    tuned = {c.messages[0].content for c in read_conversations(str(output / "sft.jsonl"))}
    preferred = {pair["prompt"] for pair in lines(output / "prefs.jsonl")}
    assert tuned
    assert preferred
    assert not tuned & preferred


def test_the_order_of_rounds_is_kept(tmp_path: Path, source: Path) -> None:
    revise(source, tmp_path, constitution=TWO_RULES, rounds=2)
    for row in lines(tmp_path / "revisions.jsonl"):
        text = row["draft"]
        for turn in row["rounds"]:
            assert turn["finds_nothing"] == (turn["critique"] == "NONE")
            assert not (turn["finds_nothing"] and turn["revision"])
            text = turn["revision"] or text
        assert text == row["final"]


def test_drafts_without_a_fault_are_kept_only_where_wanted(tmp_path: Path, source: Path) -> None:
    settings: dict[str, Any] = {"constitution": TWO_RULES, "rounds": 2, "prefs_share": 0.0}
    revise(source, tmp_path / "a", **settings)
    revise(source, tmp_path / "b", **settings, keep_faultless=False)
    assert len(lines(tmp_path / "a" / "sft.jsonl")) == N_PROMPTS
    assert len(lines(tmp_path / "b" / "sft.jsonl")) == sum(
        bool(missing_words(*flawed(i)) or repeated_sentences(flawed(i)[1]))
        for i in range(N_PROMPTS)
    )
    for output in (tmp_path / "a", tmp_path / "b"):
        used = [row for row in lines(output / "revisions.jsonl") if row["not_used"] is None]
        assert len(used) == len(lines(output / "sft.jsonl"))


def scripted(path: Path, text: str, n: int = 400) -> dict[str, Any]:
    """Return the settings of a provider that always says the same."""
    path.write_text(json.dumps({"text": text}) + "\n")
    path.write_text(path.read_text() * n)
    return {"kind": "scripted", "scripted": {"path": str(path)}}


@pytest.mark.parametrize(
    ("reply", "reason"),
    [("Better: [[A]]", "tie"), ("Better: [[tie]]", "tie"), ("I cannot say.", "not_judged")],
)
def test_what_is_not_found_better_in_both_orders_is_no_pair(
    tmp_path: Path, source: Path, reply: str, reason: str
) -> None:
    judge = scripted(tmp_path / "judge.jsonl", reply)
    settings: dict[str, Any] = {"constitution": TWO_RULES, "judge__provider": judge}
    result = revise(source, tmp_path / "out", **settings)
    assert result.report is not None
    assert lines(tmp_path / "out" / "prefs.jsonl") == []
    n_revised = sum(row.n_revised for row in result.report.principles)
    assert result.report.written.dropped[reason] == n_revised > 0
    rows = lines(tmp_path / "out" / "revisions.jsonl")
    finals = {row["final"] for row in rows if row["final"] != row["draft"]}
    tuned = {row["messages"][1]["content"] for row in lines(tmp_path / "out" / "sft.jsonl")}
    assert not finals & tuned


def test_losing_principles_are_listed(tmp_path: Path, source: Path) -> None:
    constitution = tmp_path / "worse.json"
    rule = {"id": "shorter", "name": "S", "critique": "Too long?", "revise": "Shorten."}
    constitution.write_text(json.dumps({"name": "w", "version": 1, "principles": [rule]}))
    story = "The cat saw the dog. The cat saw the dog. " * 8
    settings: dict[str, Any] = {
        "constitution": constitution,
        "critic__provider": scripted(tmp_path / "critic.jsonl", "It is too long for me."),
        "reviser__provider": scripted(tmp_path / "reviser.jsonl", story.strip()),
        "reviser__filters": {
            "max_repeated_sentences": 1.0,
            "max_trigram_share": 1.0,
            "min_compressed_share": 0.0,
        },
    }
    result = revise(source, tmp_path / "out", **settings)
    assert result.report is not None
    assert ledger(tmp_path / "out", "reviser", "rejects") == []
    assert result.report.losing == ["shorter"]
    assert result.report.written.n_prefs == 0
    assert "worth removing" in (tmp_path / "out" / "results.md").read_text()


def test_no_change_is_written_down_and_not_asked_again(tmp_path: Path, source: Path) -> None:
    critic = scripted(tmp_path / "critic.jsonl", "Nobody wants anything here.")
    result = revise(source, tmp_path / "out", critic__provider=critic)
    rejects = ledger(tmp_path / "out", "reviser", "rejects")
    assert result.report is not None
    assert {row["reason"] for row in rejects} == {NO_CHANGE}
    assert sum(row.n_no_change for row in result.report.principles) == len(rejects)
    assert len({row["id"] for row in rejects}) == len(rejects)


def test_two_samples_of_one_model_make_pairs(tmp_path: Path, source: Path) -> None:
    plain = tmp_path / "prompts.jsonl"
    plain.write_text("".join(json.dumps({"prompt": flawed(i)[0]}) + "\n" for i in range(8)))
    texts = [flawed(i)[1] for i in range(8)] + [tell_story(5, i).text for i in range(8)]
    good = [tell_story(1, i).text for i in range(8)]
    answers = tmp_path / "drafts.jsonl"
    answers.write_text("".join(json.dumps({"text": t}) + "\n" for t in [*texts[8:], *good]))
    settings: dict[str, Any] = {
        "method": "sample",
        "constitution": TWO_RULES,
        "judge__by": "whole",
        "prefs_share": 1.0,
        "drafts__ask": True,
        "drafts__provider": {
            "kind": "scripted",
            "scripted": {"path": str(answers)},
            "concurrency": 1,
        },
    }
    result = revise(plain, tmp_path / "out", **settings)
    assert result.report is not None
    pairs = lines(tmp_path / "out" / "prefs.jsonl")
    assert len(pairs) == result.report.written.n_prefs == 8
    assert {pair["chosen"] for pair in pairs} == set(good)
    assert {pair["principle"] for pair in pairs} == {"whole"}


def test_stories_alone_are_asked_for_by_their_beginning(tmp_path: Path) -> None:
    text = tmp_path / "stories.txt"
    stories = [tell_story(2, i).text for i in range(4)]
    text.write_text("".join(f"{story}\n<|endoftext|>\n" for story in stories))
    revise(text, tmp_path / "out")
    rows = lines(tmp_path / "out" / "revisions.jsonl")
    assert [row["draft"] for row in rows] == stories
    assert all(row["draft"][:20] in row["prompt"] for row in rows)


def test_reading_the_sources_shows_how_far_it_is(tmp_path: Path, source: Path) -> None:
    reporter = RecordingReporter()
    dry_run(config_for(source, tmp_path / "out"), reporter)
    (read,) = (counter for label, counter in reporter.progresses if label == "read prompts")
    assert read.done == N_PROMPTS


def test_the_same_model_in_two_roles_is_warned_of(tmp_path: Path, source: Path) -> None:
    one = {"kind": "openai", "openai": {"model": "m", "base_urls": "http://127.0.0.1:1/v1"}}
    reporter = RecordingReporter()
    with pytest.raises(ProviderError, match=r"127\.0\.0\.1"):
        revise(
            source,
            tmp_path,
            None,
            reporter,
            drafts__ask=True,
            drafts__provider={**one, "retries": {"max_tries": 1, "breaker_pauses": 0}},
            critic__provider=one,
            judge__provider=one,
        )
    assert any("writes the drafts" in text for text in reporter.warnings)
    assert any("prefer their own" in text for text in reporter.warnings)


def test_principles_without_a_rule_are_named(tmp_path: Path, source: Path) -> None:
    reporter = RecordingReporter()
    revise(source, tmp_path / "shipped", None, reporter, n_prompts=4)
    assert any("8 of the 10 principles (goal_and_" in text for text in reporter.warnings)
    reporter = RecordingReporter()
    revise(source, tmp_path / "two", None, reporter, n_prompts=4, constitution=TWO_RULES)
    assert not any("goes by rules" in text for text in reporter.warnings)


@pytest.mark.parametrize(
    "flags",
    [
        {"method": "sample"},
        {"method": "sample", "drafts__ask": True, "judge__share": 0.0},
        {"method": "sample", "drafts__ask": True, "rounds": 2},
        {"rounds": 5},
    ],
)
def test_settings_that_do_not_fit_are_refused(tmp_path: Path, source: Path, flags: Any) -> None:
    with pytest.raises(ConfigError):
        revise(source, tmp_path, **flags)


def test_a_dry_run_asks_nobody_and_a_status_reads_the_journals(
    tmp_path: Path, source: Path
) -> None:
    looked = dry_run(config_for(source, tmp_path / "out", rounds=2), RecordingReporter())
    assert not (tmp_path / "out").exists()
    n_requests = {role: projection.n_requests for role, projection in looked.roles.items()}
    assert n_requests == {"critic": 80, "reviser": 80, "judge": 240}
    assert "Write a story with the words" in looked.as_text()
    with pytest.raises(DataError, match="no run"):
        read_status(tmp_path / "out")
    revise(source, tmp_path / "out", rounds=2)
    status = read_status(tmp_path / "out").to_json()
    assert status["critic"]["accepted"] == 80


def test_a_win_needs_both_orders_and_the_share_counts_ties_as_half() -> None:
    pair = Comparison(Task("1", "p", "s"), 0, "p", "", "longer", "b")
    verdicts = [Verdict(pair, *said) for said in ((1, 1), (1, 0), (0, 0), (0.5, 1), (None, 1))]
    assert [v.value for v in verdicts] == [1.0, 0.5, 0.0, 0.5, None]
    rate = win_rate(verdicts)
    assert (rate.wins, rate.losses, rate.ties, rate.n_without) == (1, 1, 2, 1)
    assert rate.share == 0.5
    assert rate.longer_share == 0.5
    assert rate.interval is not None
    assert rate.interval.low < 0.5 < rate.interval.high


def test_a_judge_of_chance_prefers_nothing() -> None:
    pair = Comparison(Task("1", "p", "s"), 0, "p", "", "a", "b")
    drawn = random.Random(0)
    verdicts = [Verdict(pair, *drawn.choices((0.0, 1.0), k=2)) for _ in range(2000)]
    rate = win_rate(verdicts)
    assert rate.share == pytest.approx(0.5, abs=0.04)
    assert rate.first_share == pytest.approx(0.5, abs=0.04)
