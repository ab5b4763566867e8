"""Grading that is killed at drawn moments loses no reply and asks for none twice."""

import multiprocessing
import os
import random
import signal
from pathlib import Path

from tests.evaluation.story_evaluation.judges import Messages, fair, kind_of, serve
from tests.evaluation.story_evaluation.small_runs import config_for, evaluate
from tests.stories.fault_server import FaultServer
from tinyllm.config.eval_stories import EvalStoriesConfig
from tinyllm.errors import TinyLLMError
from tinyllm.evaluation.story_evaluation.workflow import run
from tinyllm.journal import read
from tinyllm.reporting import SilentReporter

N_KILLS = 5
CONCURRENCY = 4
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["openai", "tests.evaluation.story_evaluation.test_kills"])


def mostly_fair(messages: Messages) -> str:
    """Grade fairly, but for some stories only after being told, and for some never."""
    kind = kind_of(messages, 8)
    if len(messages) == 3 and kind in (0, 1):
        return "Hm."
    return "Never." if len(messages) > 3 and kind == 1 else fair(messages[:3])


def _be_a_run(config: EvalStoriesConfig) -> None:
    try:
        run(config, SilentReporter())
    except TinyLLMError as error:
        os._exit(error.exit_code)


def _run_until(config: EvalStoriesConfig, server: FaultServer, n_requests: int | None) -> int:
    """Run in a process of its own, killed when so many requests came; return its exit code."""
    process = _CONTEXT.Process(target=_be_a_run, args=(config,))
    process.start()
    while n_requests is not None and process.is_alive() and len(server.requests) < n_requests:
        process.join(0.002)
    if n_requests is not None and process.is_alive() and process.pid is not None:
        os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def test_killed_grading_ends_in_the_same_grades_and_pays_for_nothing_twice(
    tmp_path: Path, server: FaultServer, completions: Path
) -> None:
    serve(server, mostly_fair)
    evaluate(tmp_path / "whole", server, completions=(completions,))
    n_needed = len(server.requests)
    config = config_for(
        tmp_path / "killed",
        server,
        completions=(completions,),
        judge__provider__concurrency=CONCURRENCY,
    )
    generator = random.Random(5)
    marks = sorted(generator.sample(range(n_needed), N_KILLS))
    codes = [_run_until(config, server, n_needed + mark) for mark in marks]
    n_killed = codes.count(-signal.SIGKILL)
    assert n_killed > N_KILLS / 2
    assert _run_until(config, server, None) == 0

    for name in ("predictions.jsonl", "completions.jsonl"):
        whole, killed = tmp_path / "whole" / name, tmp_path / "killed" / name
        assert whole.exists() == killed.exists()
        assert not whole.exists() or whole.read_bytes() == killed.read_bytes()
    ledgers = tmp_path / "killed" / "eval-run" / "judge"
    accepted = [entry.id for entry, _ in read(ledgers / "stories.jsonl")]
    rejected = [(record["id"], record["attempt"]) for _, record in read(ledgers / "rejects.jsonl")]
    assert len(set(accepted)) == len(accepted)
    assert len(set(rejected)) == len(rejected)
    assert len(accepted) + len(rejected) == n_needed
    assert len(server.requests) - 2 * n_needed <= n_killed * CONCURRENCY
