"""What was asked of a judge is never asked again: runs that stop, run dry, or go on later."""

from pathlib import Path
from typing import Any

import pytest

from tests.evaluation.story_evaluation.judges import (
    believed,
    fair,
    kind_of,
    saying,
    serve,
)
from tests.evaluation.story_evaluation.small_runs import (
    N_PROMPTS,
    N_SAMPLES,
    evaluate,
    predictions,
    write_completions,
)
from tests.stories.batch_server import BatchServer, told
from tests.stories.fault_server import Fault, FaultServer
from tinyllm.errors import ConfigError, DataError, ProviderError
from tinyllm.reporting import RecordingReporter

N_TEXTS = N_PROMPTS * N_SAMPLES


def test_stored_replies_are_read_anew_for_nothing(
    tmp_path: Path, server: FaultServer, completions: Path
) -> None:
    given: dict[str, Any] = {"completions": (completions,)}
    report = evaluate(tmp_path / "out", server, **given)
    n_asked = len(server.requests)
    (tmp_path / "out" / "results.json").unlink()
    anew = evaluate(tmp_path / "out", server, reparse=True, **given)
    assert anew.results == report.results
    evaluate(tmp_path / "out", server, **given)
    assert len(server.requests) == n_asked
    with pytest.raises(DataError, match="there is no run"):
        evaluate(tmp_path / "other", server, reparse=True, **given)
    evaluate(tmp_path / "json", server, judge__protocol="gpt-eval-json", **given)
    assert evaluate(tmp_path / "json", None, reparse=True, **given).is_judged
    evaluate(tmp_path / "measured", None, completions=(completions,))
    with pytest.raises(DataError, match="nobody has judged"):
        evaluate(tmp_path / "measured", server, reparse=True, **given)


def test_other_texts_do_not_go_on_in_the_same_folder(
    tmp_path: Path, server: FaultServer, completions: Path
) -> None:
    evaluate(tmp_path / "out", server, completions=(completions,))
    write_completions(completions, shift=2)
    with pytest.raises(ConfigError, match="subjects_sha256"):
        evaluate(tmp_path / "out", server, completions=(completions,))


def test_a_budget_ends_grading_and_a_larger_one_goes_on(
    tmp_path: Path, server: FaultServer, completions: Path
) -> None:
    reporter = RecordingReporter()
    given: dict[str, Any] = {"completions": (completions,), "judge__anchors": False}
    key = "judge__provider__budget__max_requests"
    first = evaluate(tmp_path / "out", server, reporter, **given, **{key: N_TEXTS})
    assert len(server.requests) == N_TEXTS
    coverage = first.results["writer"]["coverage"]
    assert coverage["without_grades"]["not_asked"] == N_TEXTS - coverage["graded"] > 0
    assert any("budget" in warning for warning in reporter.warnings)
    whole = evaluate(tmp_path / "out", server, **given)
    assert len(server.requests) == 2 * N_TEXTS
    assert whole.results["writer"]["coverage"]["share"] == 1.0


def test_what_an_outage_took_can_be_asked_for_again(
    tmp_path: Path, server: FaultServer, completions: Path
) -> None:
    given: dict[str, Any] = {"completions": (completions,), "judge__anchors": False}

    def halved(number: int, _: str) -> Fault:
        messages = server.requests[number].body["messages"]
        return Fault(503, {}, b"busy") if kind_of(messages, 2) else saying(fair(messages))

    server.fault_for = halved
    window = {"judge__provider__retries__breaker_window": 1000}
    broken = evaluate(tmp_path / "out", server, **given, **window)
    without = broken.results["writer"]["coverage"]["without_grades"]
    assert list(without) == ["server_error"]
    serve(server, fair)
    n_asked = len(server.requests)
    evaluate(tmp_path / "out", server, **given)
    assert len(server.requests) == n_asked
    mended = evaluate(tmp_path / "out", server, retry_rejects=("server_error",), **given)
    assert len(server.requests) - n_asked == 2 * without["server_error"]
    assert mended.results["writer"]["coverage"]["share"] == 1.0
    assert believed(tmp_path / "out", completions) == {}


def test_a_judge_that_is_asked_by_the_file_grades_the_same(
    tmp_path: Path, server: FaultServer, completions: Path
) -> None:
    given: dict[str, Any] = {"completions": (completions,), "judge__anchors": False}
    evaluate(tmp_path / "single", server, **given)

    def tell(body: dict[str, Any]) -> dict[str, Any]:
        message = {"content": fair(body["messages"])}
        return {**told(body), "choices": [{"message": message, "finish_reason": "stop"}]}

    with BatchServer() as batches:
        batches.tell = tell
        batch = "judge__provider__openai__batch__"
        given |= {f"{batch}enabled": True, f"{batch}poll_seconds": 0.02}
        given |= {f"{batch}gather_seconds": 0.05, "judge__provider__concurrency": 50}
        evaluate(tmp_path / "batch", batches.url, **given)
        assert [len(kept.requests) for kept in batches.batches] == [N_TEXTS, N_TEXTS]
    assert predictions(tmp_path / "batch") == predictions(tmp_path / "single")


def test_a_wrong_key_ends_at_once(tmp_path: Path, server: FaultServer, completions: Path) -> None:
    server.fault_for = lambda *_: Fault(401, {}, b'{"error": {"message": "no such key"}}')
    with pytest.raises(ProviderError):
        evaluate(tmp_path / "out", server, completions=(completions,))
    assert len(server.requests) <= 4
    assert not (tmp_path / "out" / "results.json").exists()
