"""Processes are started, stopped and judged together."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tinyllm.errors import TrainingStopped
from tinyllm.training.launch import Crew, launch


def run(program: str, n_processes: int = 2) -> int:
    """Launch a line of Python that knows its `rank`."""
    start = "import os, signal, sys; rank = int(os.environ['RANK'])\n"
    return launch([sys.executable, "-c", start + program], n_processes)


def test_processes_know_each_other_and_end_well(capfd: pytest.CaptureFixture[str]) -> None:
    keys = "('WORLD_SIZE', 'LOCAL_RANK', 'LOCAL_WORLD_SIZE', 'MASTER_ADDR')"
    assert run(f"print(rank, *(os.environ[k] for k in {keys}))", 3) == 0
    assert capfd.readouterr().out == "0 3 0 3 127.0.0.1\n"  # only the main process is heard


def test_the_main_process_s_exit_code_counts() -> None:
    assert run("sys.exit(4 if rank == 0 else 3)") == 4


def test_what_another_process_says_when_it_fails_is_repeated(
    capfd: pytest.CaptureFixture[str],
) -> None:
    lost_a_partner = "sys.exit(6)"
    assert run(
        f"sys.stderr.write('no room on its disk'); sys.exit(3) if rank else {lost_a_partner}"
    )
    assert "process 1 said:\nno room on its disk" in capfd.readouterr().err
    assert run(f"sys.exit(3) if rank else {lost_a_partner}") == 3


def test_a_killed_process_is_named() -> None:
    with pytest.raises(TrainingStopped, match="process 1 of 2 was killed by SIGKILL"):
        run("rank and os.kill(os.getpid(), signal.SIGKILL)")


def test_a_process_that_does_not_notice_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tinyllm.training.launch._GRACE_SECONDS", 0.0)
    assert run("sys.exit(3) if rank else signal.pause()") == 3


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_reaches_every_process(number: signal.Signals, code: int) -> None:
    child = (
        "import os, signal\n"
        "if os.environ['RANK'] == '0': os.kill(os.getppid(), int(os.environ['NUMBER']))\n"
        "signal.pause()"
    )
    parent = (
        "import sys; from tinyllm.training.launch import Crew, launch\n"
        f"sys.exit(launch([sys.executable, '-c', {child!r}], 2))"
    )
    done = subprocess.run(
        [sys.executable, "-c", parent],
        env={"NUMBER": str(int(number))},
        timeout=120,
        check=False,
    )
    assert done.returncode == code


def test_a_signal_reaches_a_process_that_starts_after_it(tmp_path: Path) -> None:
    waiting = [sys.executable, "-c", "import signal; signal.pause()"]
    crew = Crew(tmp_path)
    with crew.told_of_signals():
        crew.start(waiting, os.environ)
        os.kill(os.getpid(), signal.SIGTERM)
        crew.start(waiting, os.environ)
        crew.wait()
    assert crew.exit_code() == 143
