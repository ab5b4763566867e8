"""Instructions are true of their stories, the same whatever happens, and drop nothing unsaid."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import ROOT
from tests.stories.fault_server import Fault, FaultServer
from tests.tiny import tiny_tokenizer
from tinyllm.chat_template import DEFAULT_TEMPLATE, fit_to_context
from tinyllm.config.base import load_config
from tinyllm.config.instructions import InstructionsConfig, PartShares
from tinyllm.config.stories import StoriesConfig
from tinyllm.data.manifest import Manifest, read_manifest, write_manifest
from tinyllm.data.sources import read_conversations
from tinyllm.errors import ConfigError, DataError, ProviderError
from tinyllm.evaluation.instruction_checks import has_speech, holds_word, tokens_of
from tinyllm.providers.story_grammar import tell_story
from tinyllm.reporting import RecordingReporter, SilentReporter
from tinyllm.stories import workflow as stories_workflow
from tinyllm.stories.instructions.compose import PARTS, compose, write
from tinyllm.stories.instructions.lines import parse_document
from tinyllm.stories.instructions.reading import feature_name
from tinyllm.stories.instructions.record import SourceStory, StoryRecord
from tinyllm.stories.instructions.workflow import InstructionsResult, run

FILES = ("dataset.jsonl", "train.jsonl", "valid.jsonl")
QUIET_TALE = (
    "One day a cat found a red ball in the garden. The cat pushed the ball down the hill. "
    "It rolled into the cold water and was gone. The cat was very sad and went home to sleep."
)
LOUD_TALE = (
    'Tom had a big green kite. "Can I fly it?" asked his sister. Tom smiled and gave her the '
    "string. The kite jumped high over the trees, and they both laughed until it was dark."
)


def config_for(source: Path | Sequence[Path], output: Path, **flags: Any) -> InstructionsConfig:
    """Return a config for short stories; `__` in a name stands for a dot."""
    places = [source] if isinstance(source, Path) else source
    given = {name.replace("__", "."): value for name, value in flags.items()}
    base = {"sources": tuple(map(str, places)), "output": output, "min_words": 5}
    return load_config(InstructionsConfig, flags={**base, **given})


def make(source: Path | Sequence[Path], output: Path, **flags: Any) -> InstructionsResult:
    """Run in this process."""
    return run(config_for(source, output, **flags), SilentReporter())


def rows_of(output: Path, name: str = "dataset.jsonl") -> list[dict[str, Any]]:
    """Return the rows of one of the files."""
    return [json.loads(line) for line in (output / name).read_text("utf-8").splitlines()]


def bytes_of(output: Path) -> dict[str, bytes]:
    """Return the finished files."""
    return {name: (output / name).read_bytes() for name in FILES if (output / name).exists()}


def write_text(path: Path, stories: Sequence[str]) -> Path:
    """Write a TEXT."""
    path.write_text("".join(f"{story}\n<|endoftext|>\n" for story in stories), "utf-8")
    return path


def grammar_text(path: Path, n: int) -> Path:
    """Write a TEXT of n stories of the grammar."""
    return write_text(path, [tell_story(0, i).text for i in range(n)])


def assert_true(row: Mapping[str, Any]) -> None:
    """Check that a story does what its instruction asks for, and that it asks for it."""
    parts, story, tokens = row["parts"], row["story"], tokens_of(row["story"])
    assert parts
    assert all(holds_word(tokens, word) for word in parts.get("words", ()))
    assert all(word in row["instruction"] for word in parts.get("words", ()))
    if "sentence" in parts:
        assert parts["sentence"] in story
        assert parts["sentence"] in row["instruction"]
    features = parts.get("features", ())
    assert ("dialogue" in features) <= has_speech(story)
    assert ("no_dialogue" in features) <= (not has_speech(story))


# ---- what is asked for is there ----


@pytest.mark.parametrize("wording", ["request", "list", "headers"])
def test_all_that_is_asked_for_is_in_the_story(tmp_path: Path, wording: str) -> None:
    source = grammar_text(tmp_path / "stories.txt", 80)
    result = make(source, tmp_path / "out", wordings=wording, examples_per_story=3)
    rows = rows_of(tmp_path / "out")
    assert result.n_examples == len(rows) > 200
    for row in rows:
        assert_true(row)
    assert set(result.parts) == {"words", "features", "sentence"}
    combinations = {frozenset(row["parts"]) for row in rows}
    assert len(combinations) == 7  # every one of the three parts
    orders = {tuple(row["parts"]) for row in rows if len(row["parts"]) == 3}
    assert len(orders) > 1


def test_real_stories(tmp_path: Path, real_data: Path) -> None:
    source = real_data / "tinystories" / "tinystories-v1-train-head.txt.gz"
    result = make(source, tmp_path, min_words=30)
    rows = rows_of(tmp_path)
    for row in rows:
        assert_true(row)
    assert result.n_stories > 2200
    assert sum("words" in row["parts"] for row in rows) > 0.6 * len(rows)
    assert result.dropped.keys() <= {"too_short", "too_long", "nothing_to_ask"}


def test_claims_that_are_not_true_are_left_out_and_counted(tmp_path: Path) -> None:
    record = {
        "story": QUIET_TALE,
        "words": ["push", "ball", "volcano"],
        "features": ["dialogue", "Bad Ending", "Suspense"],
        "sentence": "The dog went home.",
    }
    source = tmp_path / "stories.jsonl"
    source.write_text(json.dumps(record) + "\n")
    result = make(source, tmp_path / "out", examples_per_story=20, validation_fraction=0.0)
    assert result.changed == {
        "dialogue_not_in_story": 1,
        "sentence_not_in_story": 1,
        "unknown_feature": 1,
        "word_not_in_story": 1,
    }
    for row in rows_of(tmp_path / "out"):
        assert_true(row)
        assert "volcano" not in row["instruction"]
        assert set(row["parts"].get("words", ("push", "ball"))) == {"push", "ball"}
        assert set(row["parts"].get("features", ())) <= {"no_dialogue", "bad_ending"}


@given(story=st.text(alphabet='ab. !?"“”\n', max_size=200))
def test_sentences_are_verbatim_in_any_text(story: str) -> None:
    from tinyllm.config.instructions import SentenceRules
    from tinyllm.stories.instructions.evidence import sentences_of

    for sentence in sentences_of(story, SentenceRules(min_words=1)):
        assert story.count(sentence) == 1
        assert sentence.count('"') % 2 == 0


# ---- layouts ----


def test_the_layouts_of_the_world_give_the_same_record(tmp_path: Path) -> None:
    ours = {
        "story": LOUD_TALE,
        "words": {"noun": "kite", "verb": "jump", "adjective": "green"},
        "features": ["dialogue", "plot_twist"],
        "summary": "Tom lets his sister fly his kite.",
    }
    all_data = {
        "story": f"\n\n{LOUD_TALE}",
        "summary": ours["summary"],
        "source": "GPT-4",
        "instruction": {
            "prompt:": "Write a short story.",
            "words": ["kite", "jump", "green"],
            "features": ["Dialogue", "Twist"],
        },
    }
    lines = (
        f"Summary: {ours['summary']}\nFeatures: Dialogue, Twist\nWords: kite, jump, green\n"
        f"Story: \n\n{LOUD_TALE}\n<|endoftext|>\n"
    )
    (tmp_path / "ours.jsonl").write_text(json.dumps(ours) + "\n")
    (tmp_path / "all.json").write_text(json.dumps([all_data], indent=1))
    (tmp_path / "lines.txt").write_text(lines)
    rows = [{"text": line} for line in lines.splitlines()]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = {}
    for name in ("ours.jsonl", "all.json", "lines.txt", "rows.jsonl"):
        make(tmp_path / name, tmp_path / f"out-{name}", validation_fraction=0.0)
        made[name] = rows_of(tmp_path / f"out-{name}" / "instructions-run", "records.jsonl")
    assert made["ours.jsonl"] == made["all.json"] == made["lines.txt"] == made["rows.jsonl"]
    assert made["ours.jsonl"][0]["summary"] == ours["summary"]
    assert made["ours.jsonl"][0]["features"] == ["dialogue", "plot_twist"]


def test_a_record_of_lines_has_exactly_one_story(tmp_path: Path) -> None:
    documents = [
        f"Words: cat, ball\nStory:\n\n{QUIET_TALE}",
        "Words: cat, ball\nSummary: There is no story here at all.",
        f"Story:\n{QUIET_TALE}\nStory:\n{LOUD_TALE}",
    ]
    source = write_text(tmp_path / "instruct.txt", documents)
    result = make(source, tmp_path / "out", validation_fraction=0.0)
    assert result.n_stories == 1
    assert result.dropped == {"no_story_line": 1, "several_story_lines": 1}
    assert rows_of(tmp_path / "out")[0]["story"] == QUIET_TALE


def test_what_is_written_in_headers_is_read_back(tmp_path: Path) -> None:
    make(
        grammar_text(tmp_path / "stories.txt", 30),
        tmp_path / "out",
        wordings="headers",
        examples_per_story=3,
        negative_features=False,
    )
    for row in rows_of(tmp_path / "out"):
        read = parse_document(f"{row['instruction']}\n\n{row['story']}")
        assert isinstance(read, SourceStory)
        assert read.story == row["story"]
        parts = row["parts"]
        assert list(read.words or ()) == parts.get("words", [])
        assert [feature_name(f) for f in read.features or ()] == parts.get("features", [])
        assert (read.sentence or "") == parts.get("sentence", "")


def test_our_own_stories_close_the_loop(tmp_path: Path) -> None:
    flags = {"output": tmp_path / "stories", "n_stories": 30}
    stories_workflow.run(load_config(StoriesConfig, flags=flags), SilentReporter())
    result = make(tmp_path / "stories" / "dataset.jsonl", tmp_path / "out")
    assert result.n_stories == 30
    for row in rows_of(tmp_path / "out"):
        assert_true(row)
    manifest = read_manifest(tmp_path / "out" / "train.jsonl")
    assert manifest is not None
    source = manifest.sources[0].manifest
    assert source is not None
    assert source.written_by.endswith("gen-stories")
    assert manifest.licence == source.licence != ()


def test_training_reads_what_was_written(tmp_path: Path) -> None:
    source = grammar_text(tmp_path / "stories.txt", 40)
    result = make(source, tmp_path / "out", validation_fraction=0.25)
    rows = {row["id"]: row for row in rows_of(tmp_path / "out")}
    read = [
        conversation
        for name in ("train.jsonl", "valid.jsonl")
        for conversation in read_conversations(str(tmp_path / "out" / name))
    ]
    assert result.n_train + result.n_validation == len(read) == len(rows)
    assert result.n_validation > 0
    for conversation in read:
        question, answer = conversation.messages
        assert question.content == rows[conversation.id]["instruction"]
        assert answer.content == rows[conversation.id]["story"]
    pairs = list(read_conversations(str(tmp_path / "out" / "dataset.jsonl")))
    assert {p.id: p.messages for p in pairs} == {c.id: c.messages for c in read}


def test_a_story_cut_to_the_context_has_no_end_token(tmp_path: Path) -> None:
    make(grammar_text(tmp_path / "stories.txt", 5), tmp_path / "out", validation_fraction=0.0)
    read = list(read_conversations(str(tmp_path / "out" / "train.jsonl")))
    tokenizer = tiny_tokenizer()
    for length in (200, 5000):
        for fitted in fit_to_context(read, tokenizer, DEFAULT_TEMPLATE, context_length=length):
            assert fitted.example is not None
            assert fitted.is_cut == (length == 200)
            ends = fitted.example.ids[-1] == tokenizer.end_of_text_id
            assert ends == (not fitted.is_cut)
            assert fitted.example.loss_mask[-1]
            assert not fitted.example.loss_mask[0]


# ---- the same, whatever happens ----


def test_an_instruction_depends_on_seed_and_story_alone(tmp_path: Path) -> None:
    stories = [tell_story(0, i).text for i in range(30)]
    write_text(tmp_path / "a.txt", stories)
    write_text(tmp_path / "b.txt", stories[::-1])
    asked = {}
    for name, seed in (("a", 0), ("b", 0), ("again", 0), ("other", 1)):
        source = tmp_path / ("b.txt" if name == "b" else "a.txt")
        make(source, tmp_path / name, seed=seed)
        asked[name] = {row["story"]: row["instruction"] for row in rows_of(tmp_path / name)}
    assert asked["a"] == asked["b"] == asked["again"]
    assert bytes_of(tmp_path / "a") == bytes_of(tmp_path / "again")
    assert asked["a"] != asked["other"]


def test_all_instructions_of_a_story_are_on_one_side(tmp_path: Path) -> None:
    source = grammar_text(tmp_path / "stories.txt", 40)
    make(source, tmp_path / "out", examples_per_story=3, validation_fraction=0.3)
    sides = [
        {row["messages"][1]["content"] for row in rows_of(tmp_path / "out", name)}
        for name in ("train.jsonl", "valid.jsonl")
    ]
    assert all(sides)
    assert not sides[0] & sides[1]


def test_the_first_pass_is_kept_until_something_changes(tmp_path: Path) -> None:
    source = grammar_text(tmp_path / "stories.txt", 10)
    make(source, tmp_path / "out")
    records = tmp_path / "out" / "instructions-run" / "records.jsonl"
    first = records.stat()
    reporter = RecordingReporter()
    run(config_for(source, tmp_path / "out", wordings="list"), reporter)
    assert any("there already" in note for note in reporter.notes)
    assert records.stat().st_ino == first.st_ino
    grammar_text(tmp_path / "stories.txt", 12)
    assert make(source, tmp_path / "out").n_stories == 12
    assert records.stat().st_ino != first.st_ino


# ---- balance ----


def _labelled(path: Path, n: int, n_bad: int) -> Path:
    rows = []
    for i in range(n):
        bad = ("bad_ending",) if i % (n // n_bad) == 0 else ()
        rows.append({"story": tell_story(0, i).text, "features": list(bad)})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_balance_keeps_as_many_with_a_feature_as_without(tmp_path: Path) -> None:
    source = _labelled(tmp_path / "stories.jsonl", 100, 10)
    result = make(source, tmp_path / "out", balance="bad_ending")
    assert result.n_stories == 20
    assert result.dropped == {"balanced_away": 80}
    table = {row.feature: (row.n_stories, row.n_kept) for row in result.classes}
    assert table["bad_ending"] == (10, 10)
    assert re.search(r"bad_ending +10 +10 +50\.0%", result.table())
    again = make(source, tmp_path / "again", balance="bad_ending", seed=5)
    assert again.n_stories == 20
    kept = [{row["story"] for row in rows_of(tmp_path / name)} for name in ("out", "again")]
    assert kept[0] != kept[1]


def test_balance_by_what_no_story_is_known_to_have(tmp_path: Path) -> None:
    source = grammar_text(tmp_path / "stories.txt", 10)
    with pytest.raises(ConfigError, match="whose features are known"):
        make(source, tmp_path / "out", balance="bad_ending")


# ---- what cannot be used ----


def test_stories_that_are_too_short_or_kept_for_evaluation(tmp_path: Path) -> None:
    source = write_text(tmp_path / "stories.txt", [QUIET_TALE, "A cat sat."])
    assert make(source, tmp_path / "out").dropped == {"too_short": 1}
    with pytest.raises(DataError, match=r"2 dropped: too short"):
        make(source, tmp_path / "none", min_words=500)
    size = source.stat().st_size
    write_manifest(source, Manifest("stories.txt", "text", 2, size, "", evaluation_only=True))
    with pytest.raises(DataError, match="kept for evaluation"):
        make(source, tmp_path / "evaluation")


def test_parts_that_no_story_has_leave_nothing(tmp_path: Path) -> None:
    source = write_text(tmp_path / "stories.txt", [QUIET_TALE])
    shares = {f"parts__{name}": 0.0 for name in PARTS if name != "summary"}
    with pytest.raises(DataError, match="nothing can be asked for"):
        make(source, tmp_path / "out", **shares)
    with pytest.raises(ConfigError, match="nothing would be asked for"):
        make(source, tmp_path / "out", parts__summary=0.0, **shares)


def test_fewer_instructions_where_no_other_can_be_drawn() -> None:
    record = StoryRecord("0-0", QUIET_TALE, sentence="It rolled into the cold water and was gone.")
    found = compose(record, PartShares(), ("request", "list"), 0, 10)
    assert len(found) == 2
    assert compose(StoryRecord("0-0", QUIET_TALE), PartShares(), ("list",), 0, 3) == []


def test_braces_in_a_story_are_letters(tmp_path: Path) -> None:
    text = write("request", {"summary": "A {sentence} of {words}.", "words": ("cat",)})
    assert text == (
        "Write a story. This is what happens: A {sentence} of {words}. Use the words: cat."
    )


# ---- summaries ----


def summarise(number: int, prompt: str) -> Fault:
    """Answer with a summary that is a function of the story."""
    return Fault(message={"content": f"It is a tale of {len(prompt)} letters and one end."})


ASKS = {
    "summaries__ask": True,
    "summaries__provider__kind": "openai",
    "summaries__provider__openai__model": "teller",
    "summaries__provider__retries__base_seconds": 0.01,
    "parts__summary": 1.0,
}


def test_summaries_are_asked_for_once(tmp_path: Path, server: FaultServer) -> None:
    server.fault_for = summarise
    source = grammar_text(tmp_path / "stories.txt", 12)
    flags = {**ASKS, "summaries__provider__openai__base_urls": (server.url,)}
    result = make(source, tmp_path / "out", **flags)
    assert result.parts["summary"] == 12
    assert len(server.requests) == 12
    stories = {row["story"] for row in rows_of(tmp_path / "out")}
    assert all(any(story in seen.prompt for story in stories) for seen in server.requests)
    before = bytes_of(tmp_path / "out")
    make(source, tmp_path / "out", **flags)
    assert len(server.requests) == 12
    assert bytes_of(tmp_path / "out") == before


def test_summaries_that_were_paid_for_survive_a_failure(
    tmp_path: Path, server: FaultServer
) -> None:
    source = grammar_text(tmp_path / "stories.txt", 12)
    flags = {**ASKS, "summaries__provider__openai__base_urls": (server.url,)}
    flags["summaries__provider__concurrency"] = 1
    server.fault_for = lambda n, p: Fault(401, body=b"{}") if n == 5 else summarise(n, p)
    with pytest.raises(ProviderError):
        make(source, tmp_path / "out", **flags)
    assert not (tmp_path / "out" / "dataset.jsonl").exists()
    server.fault_for = summarise
    make(source, tmp_path / "out", **flags)
    assert len(server.requests) == 13  # five answers, one failure, seven answers
    make(source, tmp_path / "whole", **flags)
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "whole")


def test_a_broken_journal_is_refused_until_it_is_repaired(
    tmp_path: Path, server: FaultServer
) -> None:
    server.fault_for = summarise
    source = grammar_text(tmp_path / "stories.txt", 4)
    flags = {**ASKS, "summaries__provider__openai__base_urls": (server.url,)}
    make(source, tmp_path / "out", **flags)
    before = bytes_of(tmp_path / "out")
    ledger = tmp_path / "out" / "instructions-run" / "stories.jsonl"
    lines = ledger.read_bytes().splitlines(keepends=True)
    ledger.write_bytes(b"".join([lines[0], b"torn\n", *lines[2:]]))
    with pytest.raises(DataError, match=r"stories\.jsonl:2"):
        make(source, tmp_path / "out", **flags)
    run(config_for(source, tmp_path / "out", **flags), SilentReporter(), repair=True)
    assert len(server.requests) == 5
    assert bytes_of(tmp_path / "out") == before


def test_bad_summaries_are_rejected_by_reason(tmp_path: Path, server: FaultServer) -> None:
    source = write_text(tmp_path / "stories.txt", [QUIET_TALE, LOUD_TALE])
    answers = {
        "too_long": "word " * 60 + ".",
        "no_terminal_punct": "A cat loses its ball in the",
        "copied": "The cat pushed the ball down the hill.",
    }
    for reason, text in answers.items():
        server.fault_for = lambda n, p, text=text: (
            Fault(message={"content": text}) if "cat" in p else summarise(n, p)
        )
        flags = {**ASKS, "summaries__provider__openai__base_urls": (server.url,)}
        result = make(source, tmp_path / reason, **flags, validation_fraction=0.0)
        assert result.changed == {f"summary_{reason}": 3}
        asked = {row["story"]: row["parts"].get("summary") for row in rows_of(tmp_path / reason)}
        assert asked[QUIET_TALE] is None
        assert asked[LOUD_TALE] is not None


def test_other_settings_for_summaries_are_refused(tmp_path: Path, server: FaultServer) -> None:
    server.fault_for = summarise
    source = grammar_text(tmp_path / "stories.txt", 4)
    flags = {**ASKS, "summaries__provider__openai__base_urls": (server.url,)}
    make(source, tmp_path / "out", **flags)
    with pytest.raises(ConfigError, match=r"sampling\.temperature"):
        make(source, tmp_path / "out", **flags, summaries__sampling__temperature=0.9)
    with pytest.raises(ConfigError, match="only tells stories"):
        make(source, tmp_path / "other", summaries__ask=True)


@pytest.mark.parametrize("path", sorted(ROOT.glob("training/*/data/*.json")), ids=str)
def test_shipped_configs_are_valid(path: Path) -> None:
    assert load_config(InstructionsConfig, path).sources
