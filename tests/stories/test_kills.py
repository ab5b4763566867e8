"""A run that is killed at random moments ends in the bytes of one that never was."""

from pathlib import Path

import pytest

from tests.stories.fault_server import FaultServer
from tests.stories.kill_harness import answer_badly, faults, kill_until_done
from tests.stories.small_runs import data_of, ledger, make
from tinyllm.journal import read

N_STORIES = 80


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What the same run makes without kills and faults."""
    output = tmp_path_factory.mktemp("whole")
    with FaultServer() as server:
        answer_badly(server, {})
        make(output, server, n_stories=N_STORIES)
    return data_of(output)


@pytest.mark.parametrize("concurrency", [1, 32])
def test_killed_runs_end_in_the_same_bytes(
    tmp_path: Path, server: FaultServer, whole: dict[str, bytes], concurrency: int
) -> None:
    bad = faults(concurrency, share=0.1)
    answer_badly(server, bad)
    tally = kill_until_done(
        tmp_path,
        server,
        n_kills=6,
        seed=concurrency,
        n_stories=N_STORIES,
        provider__concurrency=concurrency,
        provider__retries__max_tries=100,
        provider__retries__breaker_window=1000,
    )
    assert tally.n_killed >= 1
    assert data_of(tmp_path) == whole
    accepted = [entry.id for entry, _ in read(tmp_path / "stories-run" / "stories.jsonl")]
    assert len(accepted) == len(set(accepted))
    rejects = ledger(tmp_path, "rejects")
    attempts = [(reject["id"], reject["attempt"]) for reject in rejects]
    assert len(attempts) == len(set(attempts))
    assert {reject["reason"] for reject in rejects} == {"refusal", "truncated"}
    n_answered = tally.n_requests - sum(number in bad for number in range(tally.n_requests))
    n_paid_twice = n_answered - len(accepted) - len(rejects)
    assert n_paid_twice <= tally.n_killed * concurrency
