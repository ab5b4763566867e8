"""A judge is asked blindly, believed where it is clear, and tested with stories of known worth."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.evaluation.story_evaluation.judges import (
    CATEGORIES,
    Judge,
    Messages,
    believed,
    fair,
    flatterer,
    kind_of,
    line_of,
    random_judge,
    saying,
    serve,
    truth,
)
from tests.evaluation.story_evaluation.small_runs import (
    N_PROMPTS,
    N_SAMPLES,
    evaluate,
    predictions,
    write_completions,
)
from tests.stories.fault_server import Fault, FaultServer
from tinyllm.evaluation.statistics import mean
from tinyllm.evaluation.story_evaluation.prompts import read_prompt_set
from tinyllm.evaluation.story_evaluation.subjects import shown
from tinyllm.evaluation.story_metrics import StorySample
from tinyllm.reporting import RecordingReporter

N_TEXTS = N_PROMPTS * N_SAMPLES


def test_scores_are_means_over_texts_then_prompts(
    tmp_path: Path, server: FaultServer, completions: Path
) -> None:
    report = evaluate(tmp_path / "out", server, completions=(completions,))
    result = report.results["writer"]
    assert believed(tmp_path / "out", completions) == {}
    for category in CATEGORIES:
        per_prompt: dict[str, list[float]] = {}
        for (prompt, _), grades in truth(completions).items():
            per_prompt.setdefault(prompt, []).append(grades[category])
        score = result["scores"][category]
        means = {prompt: mean(values) for prompt, values in per_prompt.items()}
        assert score["per_prompt"] == means
        assert score["mean"] == pytest.approx(mean(list(means.values())))
        assert score["interval"][0] <= score["mean"] <= score["interval"][1]
        assert score["worst_case"] == pytest.approx(score["mean"])
    assert result["coverage"]["graded"] == result["coverage"]["wanted"] == N_TEXTS
    assert result["ages"] == {"C": N_TEXTS}
    written = json.loads((tmp_path / "out" / "results.json").read_text())
    assert written == json.loads(json.dumps(result))


def test_a_judge_that_sees_damage_is_fit(
    tmp_path: Path, server: FaultServer, completions: Path
) -> None:
    reporter = RecordingReporter()
    report = evaluate(tmp_path / "out", server, reporter, completions=(completions,))
    calibration = report.results["writer"]["judge"]["calibration"]
    assert calibration["fitness"] == "fit"
    assert next(iter(calibration["means"])) == "good"
    assert calibration["n_graded"] == calibration["n_wanted"]
    assert reporter.warnings == []


@pytest.mark.parametrize("judge", [random_judge, flatterer])
def test_a_judge_that_sees_no_damage_is_called_unfit(
    tmp_path: Path, server: FaultServer, completions: Path, judge: Judge
) -> None:
    serve(server, judge)
    reporter = RecordingReporter()
    report = evaluate(tmp_path / "out", server, reporter, completions=(completions,))
    assert report.results["writer"]["judge"]["calibration"]["fitness"] == "unfit"
    assert any("unfit" in warning for warning in reporter.warnings)
    assert "unfit" in report.says()
    assert "no scores" in (tmp_path / "out" / "results.md").read_text()


def test_nothing_that_a_judge_is_asked_names_a_model(tmp_path: Path, server: FaultServer) -> None:
    paths = [
        write_completions(tmp_path / f"{name}.jsonl", shift=i)
        for i, name in enumerate(("zebra", "quagga"))
    ]
    evaluate(tmp_path / "out", server, completions=tuple(paths))
    asked = json.dumps([request.body for request in server.requests])
    assert not any(name in asked for name in ("zebra", "quagga", "anchor"))
    ledger = (tmp_path / "out" / "eval-run" / "judge" / "stories.jsonl").read_text()
    models = [json.loads(line)["model"] for line in ledger.splitlines()]
    changes = sum(a != b for a, b in pairwise(models))
    assert changes > len(models) / 4  # mixed, not one model after the other


def test_a_story_cannot_end_itself() -> None:
    sample = StorySample("p", 0, "Ann", "a's cat *** and more", "stop")
    assert shown(sample) == "Ann***a's cat *** and more"
    assert shown(StorySample("p", 0, "He ran", " home.", "stop")) == "He ran *** home."


def bad_first(wrong: str) -> Judge:
    """A judge whose first grading of every third story is wrong, and who mends it when told."""

    def judge(messages: Messages) -> str:
        is_third = kind_of(messages, 3) == 0
        return wrong if len(messages) == 3 and is_third else fair(messages[:3])

    return judge


@pytest.mark.parametrize(
    "wrong",
    [
        "Grammar: 12/10, Creativity: 7/10, Consistency: 9/10, Plot: 6/10",
        '{"grammar": 8, "creativity": 7, "consis',
        "Very nice. I liked it.",
        "Grammar: 8/10, Creativity: 7/10",
    ],
)
def test_a_useless_reply_is_answered_once_with_what_was_wrong(
    tmp_path: Path, server: FaultServer, completions: Path, wrong: str
) -> None:
    serve(server, bad_first(wrong))
    report = evaluate(tmp_path / "out", server, completions=(completions,), judge__anchors=False)
    assert believed(tmp_path / "out", completions) == {}
    repaired = [row for row in predictions(tmp_path / "out") if row["how"] == "repair"]
    assert len(repaired) == report.results["writer"]["coverage"]["repaired"] > 0
    told = [request.body["messages"] for request in server.requests if request.body["messages"][4:]]
    assert len(told) == len(repaired)
    for messages in told:
        assert messages[3]["content"] == wrong
        assert "cannot be used" in messages[4]["content"]


def lying(messages: Messages) -> str:
    """Half of the stories get no grades, for five reasons, whatever the judge is told."""
    kinds = (
        "I'm sorry, but I can't grade this.",
        '{"grammar": 8, "creativity": 7, "consistency": 9, "plot": 1',
        line_of(11, 7, 9, 6),
        "$ERROR$",
        line_of(8, 7, 9, 6).partition(", Plot")[0],
    )
    number = kind_of(messages, 10)
    return kinds[number] if len(messages) > 1 and number < len(kinds) else fair(messages)


def test_what_a_judge_does_not_grade_is_counted_and_never_a_score(
    tmp_path: Path, server: FaultServer, completions: Path
) -> None:
    serve(server, lambda messages: lying(messages[:3]))
    reporter = RecordingReporter()
    report = evaluate(tmp_path / "out", server, reporter, completions=(completions,))
    result = report.results["writer"]
    reasons = believed(tmp_path / "out", completions)
    assert reasons
    assert set(reasons) <= {"refusal", "malformed", "out_of_range", "no_grades", "incomplete"}
    assert result["coverage"]["without_grades"] == reasons
    assert result["coverage"]["graded"] == N_TEXTS - sum(reasons.values())
    assert result["scores"] is None  # below the floor
    assert any("too few to show a score" in warning for warning in reporter.warnings)
    assert "there is no score" in (tmp_path / "out" / "results.md").read_text()


def test_missing_grades_bound_the_score_from_below(
    tmp_path: Path, server: FaultServer, completions: Path
) -> None:
    serve(server, lambda messages: lying(messages[:3]))
    report = evaluate(tmp_path / "out", server, completions=(completions,), judge__min_coverage=0.0)
    scores = report.results["writer"]["scores"]
    assert all(1 <= score["worst_case"] < score["mean"] for score in scores.values())
    assert report.results["writer"]["coverage"]["graded"] == scores["plot"]["n"]


def failing(kinds: list[Fault]) -> dict[int, Fault]:
    """Every second request fails, in turn by each kind."""
    return {2 * i: kinds[i % len(kinds)] for i in range(400)}


def test_a_judge_that_stalls_and_breaks_changes_no_score(
    tmp_path: Path, server: FaultServer, completions: Path
) -> None:
    given: dict[str, Any] = {"completions": (completions,), "judge__anchors": False}
    whole = evaluate(tmp_path / "whole", server, **given)
    bad = failing(
        [
            Fault(500, {}, b"oops"),
            Fault(hang=True),
            Fault(reset_after=80),
            Fault(200, {}, b'{"choices": ['),
            Fault(429, {"retry-after-ms": "5"}, b"{}"),
            Fault(finish_reason="length"),
            Fault(200, {}, b"<html>busy</html>"),
        ]
    )
    begun = len(server.requests)

    def answer(number: int, _: str) -> Fault:
        told = saying(fair(server.requests[number].body["messages"]))
        fault = bad.get(number - begun)
        if fault is not None and fault.finish_reason == "length":
            return Fault(message=told.message, finish_reason="length")
        return fault or told

    server.fault_for = answer
    shaken = evaluate(
        tmp_path / "shaken",
        server,
        **given,
        judge__provider__retries__max_tries=50,
        judge__provider__retries__breaker_window=1000,
        judge__provider__timeouts__read_seconds=0.1,
        judge__max_attempts=20,
    )
    assert shaken.results["writer"]["scores"] == whole.results["writer"]["scores"]
    coverage = shaken.results["writer"]["coverage"]
    assert coverage["graded"] == N_TEXTS
    assert coverage["without_grades"] == {}


def test_an_empty_text_gets_the_lowest_grade_and_nobody_is_asked(
    tmp_path: Path, server: FaultServer
) -> None:
    path = write_completions(tmp_path / "mute.jsonl", empty=N_SAMPLES)
    report = evaluate(tmp_path / "out", server, completions=(path,), judge__anchors=False)
    result = report.results["mute"]
    assert result["coverage"]["empty"] == N_SAMPLES
    assert result["coverage"]["share"] == 1.0
    first = read_prompt_set("beginnings").prompts[0].id
    assert all(score["per_prompt"][first] == 1.0 for score in result["scores"].values())
    assert len(server.requests) == 2 * (N_TEXTS - N_SAMPLES)


def test_texts_graded_again_tell_how_far_the_judge_agrees_with_itself(
    tmp_path: Path, server: FaultServer, completions: Path
) -> None:
    given: dict[str, Any] = {
        "completions": (completions,),
        "judge__repeat_share": 1.0,
        "judge__anchors": False,
    }
    report = evaluate(tmp_path / "same", server, judge__n_repeats=2, **given)
    again = report.results["writer"]["judge"]["reliability"]
    assert again == {
        "n_texts": N_TEXTS,
        "n_gradings": 3 * N_TEXTS,
        "within_sd": 0.0,
        "exact_agreement": 1.0,
    }
    grades = iter(range(10**6))
    serve(server, lambda m: "Well." if len(m) == 1 else line_of(5, 5, 5, 5 + next(grades) % 2))
    wavering = evaluate(tmp_path / "wavering", server, judge__n_repeats=1, **given)
    again = wavering.results["writer"]["judge"]["reliability"]
    assert again["exact_agreement"] < 1
    assert 0 < again["within_sd"] < 1


def test_half_characters_in_texts_and_replies_do_no_harm(
    tmp_path: Path, server: FaultServer
) -> None:
    prompts = tmp_path / "prompts.json"
    prompts.write_text('["A cat \\ud83d saw", "A dog"]')
    rows = [{"prompt_id": i, "text": " \ud83d\ude00 it. \udc80"} for i in (1, 2)]
    path = tmp_path / "odd.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    serve(server, lambda m: "Hm \ud800." if len(m) != 5 else line_of(5, 5, 5, 5))
    report = evaluate(
        tmp_path / "out", server, completions=(path,), prompts=str(prompts), judge__anchors=False,
        writer__n_samples=1,
    )  # fmt: skip
    assert report.results["odd"]["coverage"]["repaired"] == 2


def test_the_report_shows_the_worst_texts_and_what_is_known_by_heart(
    tmp_path: Path, server: FaultServer, completions: Path
) -> None:
    learnt = tmp_path / "learnt.txt"
    learnt.write_text("One day the bird was happy and sang a song about the rain.\n")
    evaluate(
        tmp_path / "out", server, completions=(completions,), training_text=str(learnt),
        judge__anchors=False,
    )  # fmt: skip
    told = (tmp_path / "out" / "results.md").read_text()
    assert "The lowest grades" in told
    assert "“the bird was happy and sang a song about the rain”" in told


def test_models_are_also_scored_on_the_texts_that_all_have_grades_for(
    tmp_path: Path, server: FaultServer
) -> None:
    paths = [write_completions(tmp_path / f"{name}.jsonl", shift=i) for i, name in enumerate("ab")]
    serve(server, lambda messages: lying(messages[:3]))
    report = evaluate(tmp_path / "out", server, completions=tuple(paths), judge__min_coverage=0.0)
    graded = [
        {
            (row["prompt_id"], row["sample"])
            for row in predictions(tmp_path / "out" / name)
            if row["grades"]
        }
        for name in "ab"
    ]
    shared = graded[0] & graded[1]
    assert 0 < len(shared) < min(map(len, graded))
    for name, path in zip("ab", paths, strict=True):
        of_prompt: dict[str, list[float]] = {}
        for place, grades in truth(path).items():
            if place in shared:
                of_prompt.setdefault(place[0], []).append(grades["plot"])
        score = report.results[name]["scores_on_shared"]["plot"]
        assert score["n"] == len(shared)
        assert score["mean"] == pytest.approx(mean([mean(v) for v in of_prompt.values()]))
    assert "all of them have grades for" in (tmp_path / "out" / "results.md").read_text()
