"""Requests by the file: nothing lost, nothing paid twice, whatever ends a batch or the process."""

import multiprocessing
import multiprocessing.connection
import os
import signal
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from tests.stories.batch_server import BatchServer, Ending
from tests.stories.fault_server import FaultServer
from tests.stories.small_runs import config_for, data_of, ledger, make
from tinyllm.config.stories import StoriesConfig
from tinyllm.errors import ConfigError, ProviderError, TinyLLMError, UsageError
from tinyllm.providers.opening import open_provider
from tinyllm.reporting import RecordingReporter, SilentReporter
from tinyllm.stories.workflow import run

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["openai", "rensa", "tests.stories.small_runs"])

BATCHES: dict[str, Any] = {
    "provider__openai__batch__enabled": True,
    "provider__openai__batch__poll_seconds": 0.02,
    "provider__openai__batch__gather_seconds": 0.05,
    "provider__concurrency": 50,
}


@pytest.fixture
def wanted(tmp_path: Path) -> dict[str, bytes]:
    """The same data set, asked for one by one."""
    with FaultServer() as server:
        make(tmp_path / "one by one", server)
    return data_of(tmp_path / "one by one")


def be_a_run(config: StoriesConfig) -> None:
    """Run; the process ends with the run's exit code."""
    try:
        run(config, SilentReporter())
    except TinyLLMError as error:
        os._exit(error.exit_code)


def start_run(config: StoriesConfig) -> BaseProcess:
    process = _CONTEXT.Process(target=be_a_run, args=(config,))
    process.start()
    return process


def stories(data: dict[str, bytes]) -> bytes:
    return data["train.txt"] + data.get("valid.txt", b"")


def test_a_batch_makes_the_same_stories_as_single_requests(tmp_path: Path, wanted) -> None:
    with BatchServer() as server:
        result = make(tmp_path / "out", server.url, **BATCHES)
    assert result.ending == "complete"
    assert stories(data_of(tmp_path / "out")) == stories(wanted)
    assert len(server.batches) == 1
    ids = [record["id"] for record in ledger(tmp_path / "out", "stories")]
    assert sorted(server.asked) == sorted(f"{item}.0" for item in ids)
    assert max(map(len, server.asked)) <= 64


@pytest.mark.parametrize("status", ["expired", "cancelled", "failed"])
def test_what_an_ended_batch_did_answer_is_kept_and_the_rest_is_sent_again(
    tmp_path: Path, wanted, status: str
) -> None:
    endings = (Ending(status, n_answered=5), Ending(status, n_answered=0))
    reporter = RecordingReporter()
    with BatchServer(endings) as server:
        make(tmp_path / "out", server.url, reporter, **BATCHES)
    assert [len(batch.requests) for batch in server.batches] == [8, 3, 3]
    first, second, third = ({r["custom_id"] for r in b.requests} for b in server.batches)
    assert second == third < first
    assert any(f"{status}, 3 of 8 requests unanswered" in text for text in reporter.warnings)
    assert stories(data_of(tmp_path / "out")) == stories(wanted)


def test_refused_requests_of_a_batch_go_the_way_of_others(tmp_path: Path) -> None:
    policy = {"error": {"message": "no", "code": "content_filter"}}
    refused = {1: (400, policy), 2: (429, {"error": {"message": "later"}}), 3: (500, {})}
    with BatchServer((Ending(refused=refused),)) as server:
        result = make(tmp_path / "out", server.url, **BATCHES)
    assert result.n_accepted == 8
    rejects = ledger(tmp_path / "out", "rejects")
    assert [reject["reason"] for reject in rejects] == ["refusal"]
    first = [request["custom_id"] for request in server.batches[0].requests]
    again = server.asked[8:]
    assert sorted(again) == sorted([first[1].replace(".0", ".1"), first[2], first[3]])


def test_batch_after_batch_without_an_answer_ends_the_run(tmp_path: Path) -> None:
    useless = Ending("failed", n_answered=0, why="the line is too long")
    with BatchServer((useless,) * 9) as server:
        with pytest.raises(ProviderError, match=r"failed, 8 of 8 requests.*the line is too long"):
            make(tmp_path / "out", server.url, **BATCHES, provider__openai__batch__max_batches=3)
        assert len(server.batches) == 3
        server.endings.clear()
        assert make(tmp_path / "out", server.url, **BATCHES).n_accepted == 8


@pytest.mark.parametrize("event", ["upload", "create", "look", "download"])
def test_a_server_that_fails_for_a_while_is_asked_again(tmp_path: Path, wanted, event: str) -> None:
    """A batch that was made although its answer was a 500 is found, not made again."""
    left = [500, 429, 503]
    with BatchServer() as server:
        server.on_event = lambda found: left.pop() if found == event and left else None
        make(tmp_path / "out", server.url, **BATCHES)
    assert len(server.batches) == 1
    assert stories(data_of(tmp_path / "out")) == stories(wanted)


@pytest.mark.parametrize(
    ("event", "n"), [("upload", 1), ("create", 1), ("look", 1), ("look", 2), ("download", 1),
                     ("download", 2), ("create", 2)]
)  # fmt: skip
def test_a_run_that_is_killed_pays_for_nothing_twice(
    tmp_path: Path, wanted, event: str, n: int
) -> None:
    """The server kills the run when it has done a step and the run does not know of it yet."""
    seen: list[str] = []
    with BatchServer((Ending("expired", n_answered=5),)) as server:
        config = config_for(tmp_path / "out", server.url, **BATCHES)
        process = start_run(config)

        def kill(found: str) -> None:
            seen.append(found)
            if seen.count(event) == n and found == event and process.pid is not None:
                os.kill(process.pid, signal.SIGKILL)
                multiprocessing.connection.wait([process.sentinel])

        server.on_event = kill
        process.join()
        assert process.exitcode == -signal.SIGKILL
        server.on_event = lambda _: None
        make(tmp_path / "out", server.url, **BATCHES)
    assert [len(batch.requests) for batch in server.batches] == [8, 3]
    assert stories(data_of(tmp_path / "out")) == stories(wanted)
    ids = [record["id"] for record in ledger(tmp_path / "out", "stories")]
    assert len(ids) == len(set(ids)) == 8


def test_a_run_that_is_stopped_leaves_its_batch_and_takes_it_up_again(
    tmp_path: Path, wanted
) -> None:
    flags = {**BATCHES, "grace_seconds": 0}
    with BatchServer((Ending(n_looks=3),)) as server:
        process = start_run(config_for(tmp_path / "out", server.url, **flags))

        def interrupt(found: str) -> None:
            if found == "look" and process.pid is not None:
                os.kill(process.pid, signal.SIGTERM)

        server.on_event = interrupt
        process.join()
        assert process.exitcode == 143
        server.on_event = lambda _: None
        result = make(tmp_path / "out", server.url, **flags)
    assert len(server.batches) == 1
    assert stories(data_of(tmp_path / "out")) == stories(wanted)
    assert result.spent.completion_tokens == 8 * 20


def test_a_folder_that_takes_no_files_ends_the_run_before_anything_is_sent(tmp_path: Path) -> None:
    (tmp_path / "out/stories-run").mkdir(parents=True)
    (tmp_path / "out/stories-run/batches").write_text("in the way")
    with BatchServer() as server:
        with pytest.raises(ProviderError, match=r"write .*batches/0001"):
            make(tmp_path / "out", server.url, **BATCHES)
        assert not server.files


def test_settings_that_no_batch_can_have_are_refused(tmp_path: Path) -> None:
    with BatchServer() as server:
        config = config_for(tmp_path / "out", server.url, **BATCHES)
        with pytest.raises(UsageError, match="for judges only"):
            open_provider(config.provider, SilentReporter())
        urls = (server.url, "http://127.0.0.1:1/v1")
        with pytest.raises(ConfigError, match="one address"):
            config_for(tmp_path, server.url, **BATCHES, provider__openai__base_urls=urls)
