"""What is set before torch is loaded: how threads wait, by how idle the machine is."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from tinyllm import process


def looks(*running: int) -> list[str]:
    return [f"0.36 1.15 1.78 {count}/86 2450\n" for count in running]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (looks(1, 1, 1, 1), True),
        (looks(1, 3, 1, 2, 1), True),
        (looks(2, 2, 2, 2), False),
        (looks(1, 2, 2, 3, 1), False),
        (looks(1, 1, 2, 2), False),
        ([], False),
        (["0.36 1.15 1.78"], False),
        (["no figures in this line at all"], False),
    ],
)
def test_a_machine_is_idle_where_mostly_nobody_else_runs(lines: list[str], expected: bool) -> None:
    assert process.is_idle(lines) is expected


@pytest.fixture
def prepare(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, str]]:
    """Prepare the process with these variables on such a machine; return what is set then."""

    def prepare(idle: bool, shares: bool = False, **given: str) -> dict[str, str]:
        monkeypatch.setattr(process, "_load_lines", lambda: looks(1 if idle else 2))
        monkeypatch.setattr(process, "_keep_freed_memory", lambda: None)
        monkeypatch.setattr(os, "environ", dict(given))
        process.prepare_process(shares)
        return dict(os.environ)

    return prepare


def test_threads_spin_for_a_moment_only_where_nobody_else_runs(
    prepare: Callable[..., dict[str, str]],
) -> None:
    assert prepare(idle=True) == {"GOMP_SPINCOUNT": "10000"}
    assert prepare(idle=False) == {"OMP_WAIT_POLICY": "passive"}
    assert prepare(idle=True, shares=True) == {"OMP_WAIT_POLICY": "passive"}


@pytest.mark.parametrize("given", [{"OMP_WAIT_POLICY": "active"}, {"GOMP_SPINCOUNT": "5"}])
@pytest.mark.parametrize("idle", [True, False])
def test_what_the_user_has_set_stays(
    prepare: Callable[..., dict[str, str]], given: dict[str, str], idle: bool
) -> None:
    assert prepare(idle, **given) == given


def test_the_process_is_prepared_before_torch_is_loaded() -> None:
    names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    code = (
        "import os, sys\n"
        "from tinyllm.process import prepare_process\n"
        "prepare_process()\n"
        "assert 'torch' not in sys.modules\n"
        f"print(sum(name in os.environ for name in {names}))\n"
    )
    environment = {k: v for k, v in os.environ.items() if k not in names}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "1"


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="Windows has no signal masks")
def test_a_process_started_with_interrupts_held_outlives_them() -> None:
    program = "import os, signal; os.kill(os.getpid(), signal.SIGINT); print('lives')"
    with process.interrupts_held():
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert (done.stdout, done.stderr) == (b"lives\n", b"")
    with pytest.raises(KeyboardInterrupt), process.interrupts_held():
        os.kill(os.getpid(), signal.SIGINT)
