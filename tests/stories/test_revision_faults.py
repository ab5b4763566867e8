"""Faults and kills while stories are revised: nothing is lost, nothing is paid twice."""

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.stories.batch_server import BatchServer, told
from tests.stories.fault_server import Fault, error_body
from tests.stories.kill_harness import answer_badly, faults, kill_runs
from tests.stories.revision_runs import (
    ROLES,
    TWO_RULES,
    Everybody,
    config_for,
    data_of,
    everybody,
    ledger,
    lines,
    paid_twice,
    revise,
    run_alone,
    write_source,
)
from tinyllm.errors import ConfigError, DataError, Interrupted, ProviderError
from tinyllm.reporting import RecordingReporter
from tinyllm.stories.revision.workflow import run

N_PROMPTS = 12
FLAGS: dict[str, Any] = {"constitution": TWO_RULES, "rounds": 2, "drafts__ask": True, "seed": 3}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prompts with stories."""
    return write_source(tmp_path_factory.mktemp("source") / "prompts.jsonl", N_PROMPTS)


@pytest.fixture(scope="module")
def whole(source: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], int]:
    """What a run makes without any fault, and how many requests that takes."""
    output = tmp_path_factory.mktemp("whole")
    with everybody() as serving:
        revise(source, output, serving, **FLAGS)
        return data_of(output), len(serving.requests)


PASSING = {
    "429 with a time": Fault(429, {"retry-after-ms": "5"}, b"{}"),
    "429 without": Fault(429, {}, b"{}"),
    "500": Fault(500, {}, b"oops"),
    "503": Fault(503, {}, error_body("busy")),
    "reset": Fault(reset_after=0),
    "reset in the answer": Fault(reset_after=200),
    "half a body": Fault(200, {}, b'{"choices": ['),
    "a page": Fault(200, {"content-type": "text/html"}, b"<html>hello</html>"),
    "an error inside": Fault(200, {}, error_body("overloaded")),
}


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
def test_passing_faults_change_nothing(
    tmp_path: Path, source: Path, whole: tuple[dict[str, bytes], int], fault: Fault
) -> None:
    with everybody() as server:
        server.fault_for = lambda number, _: fault if number % 5 == 2 else None
        revise(source, tmp_path, server, **FLAGS)
    assert data_of(tmp_path) == whole[0]


POOR = {
    "nothing": (Fault(message={"content": ""}), "empty"),
    "null": (Fault(message={"content": None}), "empty"),
    "cut": (Fault(finish_reason="length"), "truncated"),
    "held back": (Fault(finish_reason="content_filter"), "refusal"),
}


@pytest.mark.parametrize(("fault", "reason"), POOR.values(), ids=POOR)
def test_what_is_no_answer_is_rejected_and_asked_again(
    tmp_path: Path, source: Path, fault: Fault, reason: str
) -> None:
    with everybody() as server:
        seen: set[str] = set()

        def once(number: int, prompt: str) -> Fault | None:
            role = server.requests[number].body["model"]
            return None if role in seen else (seen.add(role), fault)[1]

        server.fault_for = once
        revise(source, tmp_path, server, **FLAGS)
    for role in ROLES:
        assert [row["reason"] for row in ledger(tmp_path, role, "rejects")] == [reason]
    assert len(lines(tmp_path / "revisions.jsonl")) == N_PROMPTS


def test_a_wrong_key_stops_at_once_and_the_run_goes_on_later(
    tmp_path: Path, source: Path, whole: tuple[dict[str, bytes], int]
) -> None:
    with everybody() as server:
        denied = Fault(401, {}, error_body("no such key"))

        def deny_the_reviser(number: int, _: str) -> Fault | None:
            is_reviser = server.requests[number].body["model"] == "reviser"
            return denied if is_reviser else None

        server.fault_for = deny_the_reviser
        with pytest.raises(ProviderError, match="401"):
            revise(source, tmp_path, server, **FLAGS)
        n_denied = sum(seen.body["model"] == "reviser" for seen in server.requests)
        assert n_denied <= 4
        server.fault_for = None
        revise(source, tmp_path, server, **FLAGS)
        assert len(server.requests) == whole[1] + n_denied
    assert data_of(tmp_path) == whole[0]


@pytest.mark.parametrize("role", ["drafts", "critic", "reviser"])
def test_a_budget_stops_before_it_and_more_of_it_goes_on(
    tmp_path: Path, source: Path, whole: tuple[dict[str, bytes], int], role: str
) -> None:
    with everybody() as server:
        budget = {f"{role}__provider__budget__max_requests": 2}
        result = revise(source, tmp_path, server, **FLAGS, **budget)
        assert (result.ending, result.report) == ("budget", None)
        assert sum(seen.body["model"] == role for seen in server.requests) == 2
        assert data_of(tmp_path) == {}
        revise(source, tmp_path, server, **FLAGS)
        assert len(server.requests) == whole[1]
    assert data_of(tmp_path) == whole[0]


def test_a_judge_out_of_budget_leaves_pairs_undecided(tmp_path: Path, source: Path) -> None:
    with everybody() as server:
        reporter = RecordingReporter()
        result = revise(
            source, tmp_path, server, reporter, **FLAGS, judge__provider__budget__max_requests=3
        )
    assert any("budget" in text for text in reporter.warnings)
    assert result.report is not None
    assert result.report.written.dropped["not_judged"] > 0


def test_a_finished_run_asks_nobody(
    tmp_path: Path, source: Path, whole: tuple[dict[str, bytes], int]
) -> None:
    with everybody() as server:
        revise(source, tmp_path, server, **FLAGS)
        revise(source, tmp_path, server, **FLAGS, judge__provider__concurrency=1)
        assert len(server.requests) == whole[1]


def test_other_settings_and_a_changed_source_are_refused(tmp_path: Path, source: Path) -> None:
    revise(source, tmp_path / "out")
    with pytest.raises(ConfigError, match="rounds: it was 1, and now is 2"):
        revise(source, tmp_path / "out", rounds=2)
    other = write_source(tmp_path / "other.jsonl", N_PROMPTS + 1)
    with pytest.raises(ConfigError, match="tasks_sha256"):
        revise(other, tmp_path / "out")


def test_a_broken_line_is_named_and_repaired(tmp_path: Path, source: Path) -> None:
    revise(source, tmp_path)
    path = tmp_path / "revision-run" / "critic" / "stories.jsonl"
    content = path.read_bytes()
    first, rest = content.split(b"\n", 1)
    path.write_bytes(first[:40] + b"\n" + rest)
    before = data_of(tmp_path)
    with pytest.raises(DataError, match=r"stories.jsonl:1: this line is broken"):
        revise(source, tmp_path)
    run(config_for(source, tmp_path), RecordingReporter(), repair_journals=True)
    assert len(ledger(tmp_path, "critic", "stories")) == N_PROMPTS
    assert data_of(tmp_path) == before


def test_all_four_can_be_asked_by_the_file(
    tmp_path: Path, source: Path, whole: tuple[dict[str, bytes], int]
) -> None:
    batch = {"enabled": True, "poll_seconds": 0.02, "gather_seconds": 0.05}
    by_the_file = {
        **{f"{role}__provider__openai__batch": batch for role in ROLES},
        **{f"{role}__provider__concurrency": 50 for role in ROLES},
    }
    with BatchServer() as server:
        server.tell = lambda body: told(body, Everybody())
        revise(source, tmp_path, server, **FLAGS, **by_the_file)
        assert len(server.batches) >= 6  # drafts, two rounds of critic and reviser, judge
    assert data_of(tmp_path) == whole[0]


def test_another_judge_may_be_asked_anew(tmp_path: Path, source: Path) -> None:
    with everybody() as server:
        revise(source, tmp_path, server, **FLAGS)
        n_first = len(server.requests)
        other: dict[str, Any] = {**FLAGS, "judge__provider__openai__model": "another"}
        with pytest.raises(ConfigError, match=r"judge.model"):
            revise(source, tmp_path, server, **other)
        assert len(server.requests) == n_first
        shutil.rmtree(tmp_path / "revision-run" / "judge")
        revise(source, tmp_path, server, **other)
        again = {seen.body["model"] for seen in server.requests[n_first:]}
    assert again == {"another"}


@pytest.mark.parametrize("role", ROLES)
def test_control_c_lets_answers_come_and_the_same_command_goes_on(
    tmp_path: Path, source: Path, whole: tuple[dict[str, bytes], int], role: str
) -> None:
    with everybody() as server:

        def stop(number: int, _: str) -> Fault | None:
            roles = [seen.body["model"] for seen in server.requests[: number + 1]]
            if roles.count(role) == 3 and roles[-1] == role:
                os.kill(os.getpid(), signal.SIGINT)
            return None

        server.fault_for = stop
        with pytest.raises(Interrupted) as caught:
            revise(source, tmp_path, server, **FLAGS)
        assert caught.value.exit_code == 130
        assert data_of(tmp_path) == {}
        server.fault_for = None
        revise(source, tmp_path, server, **FLAGS)
        assert len(server.requests) == whole[1]
    assert data_of(tmp_path) == whole[0]


def test_killed_runs_end_in_the_same_bytes(tmp_path: Path, source: Path) -> None:
    concurrency = 8
    flags = {
        **FLAGS,
        **{f"{role}__provider__concurrency": concurrency for role in ROLES},
    }
    with everybody() as server:
        answer_badly(server, {})
        revise(source, tmp_path / "whole", server, **flags)
        n_whole = len(server.requests)
    with everybody() as server:
        bad = faults(concurrency, share=0.1)
        answer_badly(server, bad)
        tally = kill_runs(
            run_alone,
            config_for(source, tmp_path / "killed", server, **flags),
            server,
            tmp_path / "killed" / "revision-run",
            n_kills=5,
            most=n_whole // 4,
            seed=concurrency,
        )
        assert tally.n_killed >= 1
        assert data_of(tmp_path / "killed") == data_of(tmp_path / "whole")
        assert paid_twice(tmp_path / "killed", server, set(bad)) <= tally.n_killed * concurrency
