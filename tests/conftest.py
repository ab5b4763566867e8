"""What all tests share: one thread each, a command runner, and the real data when it is there."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # inherited by every process a test starts
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_HUB_OFFLINE"] = "1"

import pytest
from hypothesis import HealthCheck, settings

from tests.cli.here import Here
from tests.small_disk import SmallDisk, mounting
from tests.warm import warm_start

# A busy machine is no failure; a gate meets the same examples every time, a developer new ones.
settings.register_profile(
    "ours",
    deadline=None,
    derandomize="CI" in os.environ,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("ours")

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it

ROOT = Path(__file__).parent.parent


@pytest.fixture
def real_data() -> Path:
    """Return the folder of real data slices; skip where it does not lie beside the checkout."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs the real data slices in ../shared/data")
    return folder


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """Return a function that mounts a small file system, with options such as size=2m."""
    with mounting(tmp_path) as mount:
        yield mount


RunCommand = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run_tinyllm(tmp_path: Path) -> RunCommand:
    """Return a function that runs `tinyllm …` as a process of its own in tmp_path."""

    def run(
        *arguments: str | Path, stdin: str | None = None, cwd: Path = tmp_path
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "tinyllm", *map(str, arguments)],
            input=stdin if stdin is not None else "",
            cwd=cwd,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=240,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def warm_tinyllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a command that is `tinyllm` without the seconds that it takes to import torch."""
    with warm_start(tmp_path_factory.mktemp("warm")) as command:
        yield command


@pytest.fixture
def here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Here:
    """Run `tinyllm …` in tmp_path within this process, where a process is not the point."""
    return Here(tmp_path, monkeypatch, capfd)


@pytest.fixture
def kernels_off(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run a test as on a machine where nothing native is built."""
    from tinyllm.config.settings import settings

    monkeypatch.setenv("TINYLLM_KERNELS", "off")
    settings.cache_clear()
    yield
    monkeypatch.undo()
    settings.cache_clear()


@pytest.fixture(autouse=True)
def _ordinary_arithmetic() -> Iterator[None]:
    """Undo the flushing of denormals that training sets: hypothesis draws such numbers."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(False)
