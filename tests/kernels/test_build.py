"""Native code is built once, kept, and never missed with a traceback."""

import ctypes
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tinyllm.config.settings import settings
from tinyllm.kernels import build

needs_compiler = pytest.mark.skipif(
    not build.available(), reason="needs a C++ compiler (Debian: g++)"
)
Arrange = Callable[..., None]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Arrange]:
    """Return a function that sets variables; nothing is built or remembered yet."""

    def forget() -> None:
        settings.cache_clear()
        build.find_compiler.cache_clear()

    def arrange(**variables: str) -> None:
        for name, value in {"XDG_CACHE_HOME": str(tmp_path / "cache"), **variables}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(build, "_outcomes", {})
        forget()

    yield arrange
    monkeypatch.undo()
    forget()


@needs_compiler
def test_a_library_is_compiled_once_and_kept(machine: Arrange, tmp_path: Path) -> None:
    machine()
    assert build.available()
    assert build.why_unavailable() is None
    assert build.notice() is None
    [kept] = (tmp_path / "cache" / "tinyllm" / "kernels").iterdir()
    written = kept.stat().st_mtime_ns
    machine()
    assert build.load_library("processor") is build.load_library("processor")
    assert kept.stat().st_mtime_ns == written
    assert list(kept.parent.iterdir()) == [kept]


@needs_compiler
def test_other_macros_make_another_library(machine: Arrange, tmp_path: Path) -> None:
    machine()
    assert build.load_library("processor", {"ANY": 1}) is not build.load_library("processor")
    assert len(list((tmp_path / "cache" / "tinyllm" / "kernels").glob("*.so"))) == 2


@needs_compiler
def test_two_processes_build_at_once(tmp_path: Path) -> None:
    script = "from tinyllm.kernels.build import available; assert available()"
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    racing = [subprocess.Popen([sys.executable, "-c", script], env=environment) for _ in range(3)]
    assert [process.wait(timeout=120) for process in racing] == [0, 0, 0]
    assert len(list((tmp_path / "tinyllm" / "kernels").iterdir())) == 1


@needs_compiler
def test_a_kept_library_that_is_cut_off_is_built_again(tmp_path: Path) -> None:
    script = "from tinyllm.kernels.build import available; assert available()"
    command = [sys.executable, "-c", script]
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    subprocess.run(command, env=environment, check=True)
    [kept] = (tmp_path / "tinyllm" / "kernels").iterdir()
    kept.write_bytes(kept.read_bytes()[:100])
    subprocess.run(command, env=environment, check=True)
    assert kept.stat().st_size > 1000


def test_without_a_home_there_is_a_reason(
    machine: Arrange, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(XDG_CACHE_HOME="", CXX="true")

    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    assert not build.available()
    assert not build.is_built("processor")
    assert build.why_unavailable() is not None


def test_an_empty_variable_is_none(machine: Arrange) -> None:
    machine(TINYLLM_KERNELS="", CXX="")
    assert settings().kernels
    assert settings().cxx is None


def test_a_compiler_that_is_no_command_is_no_compiler(machine: Arrange) -> None:
    machine(CXX='g++ "half')
    assert build.find_compiler() is None


def test_without_a_compiler_there_is_a_reason(machine: Arrange) -> None:
    machine(CXX="no-such-compiler")
    assert not build.available()
    assert build.why_unavailable() == "no C++ compiler found (CXX=no-such-compiler)"
    assert build.processor_features() == []
    assert build.notice() == (
        "no native code: no C++ compiler found (CXX=no-such-compiler); "
        "plain PyTorch is used, slower (tinyllm doctor explains)"
    )


def test_a_compiler_that_fails_gives_its_first_complaint(machine: Arrange, tmp_path: Path) -> None:
    compiler = tmp_path / "broken"
    compiler.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && echo broken 1.0 && exit 0\n'
        "echo 'In file x' >&2; echo 'x.cpp:1: error: no vectors here' >&2; exit 3\n"
    )
    compiler.chmod(0o755)
    machine(CXX=str(compiler))
    assert not build.available()
    assert build.why_unavailable() == (
        "processor.cpp could not be built: x.cpp:1: error: no vectors here"
    )


@needs_compiler
def test_a_library_that_fails_is_told_of_too(machine: Arrange) -> None:
    machine()
    assert build.load_library("no_such_kernel") is None
    assert "no_such_kernel.cpp" in str(build.why_unavailable())
    assert build.available()


def test_a_cache_that_cannot_be_written_is_a_reason(machine: Arrange, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    machine(XDG_CACHE_HOME=str(tmp_path / "file"))
    assert not build.available()
    assert build.why_unavailable()


def test_switched_off(kernels_off: None) -> None:
    assert not build.available()
    assert build.load_library("processor") is None
    assert build.why_unavailable() == "switched off by TINYLLM_KERNELS"
    assert build.notice() == "native code is off (TINYLLM_KERNELS); plain PyTorch computes"


def test_building_never_imports_torch() -> None:
    script = (
        "import sys, tinyllm.kernels.build as b; b.available(); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)


@needs_compiler
def test_exponentials_are_accurate_to_float32_rounding() -> None:
    special = [-np.inf, np.inf, np.nan, 0.0, 1e-30, -200.0, 200.0]
    x = np.concatenate([np.linspace(-87, 88, 20_001), special]).astype(np.float32)
    natural, binary = np.empty_like(x), np.empty_like(x)
    _call("tinyllm_processor_exp", x, natural, binary)
    with np.errstate(over="ignore", under="ignore"):
        exact = np.exp(x.astype(np.float64)), np.exp2(x.astype(np.float64))
    for found, wanted in zip((natural, binary), exact, strict=True):
        normal = (wanted > 1.2e-38) & (wanted < 3.4e38)
        assert np.max(np.abs(found[normal] / wanted[normal] - 1)) < 1.5e-7
    np.testing.assert_array_equal(natural[-7:], [0, np.inf, np.nan, 1, 1, 0, np.inf])


@needs_compiler
def test_bfloat16_rounds_as_torch_does() -> None:
    import torch

    bits = np.random.default_rng(0).integers(0, 2**32, 10_007, dtype=np.uint32)
    x = bits.view(np.float32)
    half, wide = np.empty(len(x), dtype=np.uint16), np.empty_like(x)
    _call("tinyllm_processor_bf16", x, half, wide)
    wanted = torch.from_numpy(x).bfloat16().float().numpy()
    is_denormal = np.abs(x) < np.finfo(np.float32).smallest_normal  # some processors make them 0
    np.testing.assert_array_equal(wide[~is_denormal], wanted[~is_denormal])
    assert np.all((wide == wanted)[is_denormal] | (wide == 0)[is_denormal])


def _call(name: str, *arrays: np.ndarray) -> None:
    library = build.load_library("processor")
    pointers = [ctypes.c_void_p(array.ctypes.data) for array in arrays]
    getattr(library, name)(*pointers, ctypes.c_int64(len(arrays[0])))
