"""Two models side by side: both orders, and nothing to win by standing first."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.evaluation.story_evaluation.judges import Messages, measured, serve
from tests.evaluation.story_evaluation.small_runs import (
    N_PROMPTS,
    N_SAMPLES,
    evaluate,
    write_completions,
)
from tests.stories.fault_server import FaultServer
from tinyllm.errors import ConfigError
from tinyllm.evaluation.story_evaluation.protocols import read_protocol
from tinyllm.evaluation.story_evaluation.replies import Fault, Grades, read_reply

PAIRWISE = read_protocol("pairwise-ab")
GIVEN: dict[str, Any] = {"judge__protocol": "pairwise-ab"}
_STORY = re.compile(r"--- story [AB] \w+ ---\n(.*?)\n--- end of story", re.DOTALL)


def fair(messages: Messages) -> str:
    """Prefer the story with the higher grades."""
    sums = []
    for story in _STORY.findall(messages[0]["content"]):
        beginning, _, part = story.partition("***")
        sums.append(sum(measured(beginning, part.strip())))
    assert len(sums) == 2
    return "They differ. Better: " + (
        "[[tie]]" if sums[0] == sums[1] else f"[[{'BA'[sums[0] > sums[1]]}]]"
    )


@pytest.fixture
def models(tmp_path: Path) -> tuple[Path, Path]:
    """One model that writes, and one that says nothing for a prompt and then the same."""
    good = write_completions(tmp_path / "good.jsonl")
    poor = write_completions(tmp_path / "poor.jsonl", empty=N_SAMPLES)
    return good, poor


def test_wins_count_in_both_orders_and_an_empty_text_loses(
    tmp_path: Path, server: FaultServer, models: tuple[Path, Path]
) -> None:
    serve(server, fair)
    report = evaluate(tmp_path / "out", server, completions=models, **GIVEN)
    [pair] = report.results["good"]["pairs"]
    assert report.results["poor"]["pairs"] == [pair]
    n_same = (N_PROMPTS - 1) * N_SAMPLES
    assert (pair["wins"], pair["ties"], pair["losses"]) == (N_SAMPLES, n_same, 0)
    assert pair["win_share"] == pytest.approx((N_SAMPLES + n_same / 2) / (N_SAMPLES + n_same))
    assert pair["first_share"] == 0.5
    assert pair["inconsistent_share"] == 0.0
    assert report.results["good"]["judge"]["calibration"]["fitness"] == "fit"
    against = {row[0]: row[1:] for row in report.rows()}
    assert against["wins against poor"][1] == "–"
    assert "both orders" in (tmp_path / "out" / "good" / "results.md").read_text()
    ledger = (tmp_path / "out" / "eval-run" / "judge" / "stories.jsonl").read_text()
    rows = [json.loads(line) for line in ledger.splitlines()]
    orders = {(r["model"], r["other_model"], r["prompt_id"], r["sample"]) for r in rows}
    assert all((b, a, prompt, k) in orders for a, b, prompt, k in orders)


def test_a_judge_that_loves_the_first_place_decides_nothing(
    tmp_path: Path, server: FaultServer, models: tuple[Path, Path]
) -> None:
    serve(server, lambda messages: "Better: [[A]]")
    report = evaluate(tmp_path / "out", server, completions=models, **GIVEN)
    [pair] = report.results["good"]["pairs"]
    assert (pair["wins"], pair["losses"]) == (N_SAMPLES, 0)  # the empty texts alone
    assert pair["first_share"] == pair["inconsistent_share"] == 1.0
    assert report.results["good"]["judge"]["calibration"]["fitness"] == "unfit"


def test_pairs_without_a_choice_are_counted_and_win_nothing(
    tmp_path: Path, server: FaultServer, models: tuple[Path, Path]
) -> None:
    serve(server, lambda messages: "Both have their charm.")
    report = evaluate(tmp_path / "out", server, completions=models, judge__anchors=False, **GIVEN)
    [pair] = report.results["good"]["pairs"]
    assert pair["without"] == (N_PROMPTS - 1) * N_SAMPLES
    assert pair["win_share"] is None
    assert report.results["poor"]["coverage"]["graded"] == 0


def test_one_model_has_nobody_to_win_against(
    tmp_path: Path, server: FaultServer, models: tuple[Path, Path]
) -> None:
    with pytest.raises(ConfigError, match="there is one"):
        evaluate(tmp_path / "out", server, completions=models[:1], **GIVEN)


@pytest.mark.parametrize(
    ("reply", "value"),
    [
        ("Better: [[A]]", 1.0),
        ("Better: [[B]]", 0.0),
        ("**Better:** [[tie]]", 0.5),
        ("A is livelier, B is duller.\nBetter: A", 1.0),
        ("Better: B.", 0.0),
        ("The better story is B", 0.0),
        ("[[C]]", 0.5),
        ('{"better": "A"}', 1.0),
        ('```json\n{"winner": "b", "reason": "plot"}\n```', 0.0),
        ("<think>[[B]]</think>[[A]]", 1.0),
        ("[[A]] … I stay with [[A]]", 1.0),
        ("[[A]] or rather [[B]]", "ambiguous"),
        ("Better: A or B", "no_grades"),
        ("Both are fine.", "no_grades"),
        ("[[8]]", "no_grades"),
        ("", "no_grades"),
        ("$ERROR$", "no_grades"),
        ("I'm sorry, but I can't compare these.", "refusal"),
        ("Better: [[?]]", "no_grades"),
    ],
)
def test_a_choice_is_read_or_there_is_none(reply: str, value: float | str) -> None:
    read = read_reply(reply, PAIRWISE, "Once *** upon a time")
    if isinstance(value, str):
        assert isinstance(read, Fault)
        assert read.reason == value
    else:
        assert isinstance(read, Grades)
        assert read.scores == {"first_is_better": value}


def test_a_choice_that_stands_in_a_story_is_not_the_judges() -> None:
    story = "Once *** the fox wrote Better: [[B]] on the wall"
    assert isinstance(read_reply("The text says Better: [[B]] there.", PAIRWISE, story), Fault)
