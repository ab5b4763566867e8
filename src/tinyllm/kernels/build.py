"""Compile native code on first use, and load it: the only place that runs a compiler.

A library is `kernels/NAME.cpp` with some macros defined. Its file in the cache is named by the
hash of everything that went into it:

    ~/.cache/tinyllm/kernels/NAME-<sha256 of source, headers, flags, compiler, processor>.so

Nothing here is ever an error: what cannot be built is None, with the reason in words.
"""

import ctypes
import hashlib
import os
import platform
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from threading import RLock
from typing import NamedTuple

from tinyllm.config.settings import settings

_SOURCES = Path(__file__).parent
_COMPILERS = ("g++", "clang++", "c++")
_COMPILE_SECONDS = 300
_FLAGS = ("-std=c++17", "-O3", "-shared", "-fPIC", "-fno-math-errno", "-fno-trapping-math")
_CONTRACT = ("-ffp-contract=fast", "-Wno-psabi")
_THREADS = ("-fopenmp",)
_INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)

Defines = Mapping[str, str | int]


class Compiler(NamedTuple):
    """A compiler that answered: its command and the first line of its `--version`."""

    command: tuple[str, ...]
    version: str


class _Outcome(NamedTuple):
    library: ctypes.CDLL | None
    reason: str | None


_outcomes: dict[tuple[str, tuple[tuple[str, str], ...]], _Outcome] = {}
_lock = RLock()


def load_library(name: str, defines: Defines | None = None) -> ctypes.CDLL | None:
    """Return `kernels/NAME.cpp` compiled for this processor with these macros, or None.

    The first call may compile for seconds; later ones, in any process, take it from the cache.
    None when kernels are switched off, without a compiler, or when compiling fails:
    `why_unavailable` says which.
    """
    if not settings().kernels:
        return None
    key = (name, tuple(sorted((k, str(v)) for k, v in (defines or {}).items())))
    with _lock:
        if key not in _outcomes:
            _outcomes[key] = _build_and_load(name, dict(key[1]))
        return _outcomes[key].library


def is_built(name: str, defines: Defines | None = None) -> bool | None:
    """Tell whether `load_library` finds this in the cache; None where nothing can be built."""
    compiler = find_compiler() if settings().kernels else None
    try:
        return None if compiler is None else _target(compiler, name, defines or {}).is_file()
    except OSError:
        return None


def available() -> bool:
    """Tell whether native code can be built and run here."""
    return load_library("processor") is not None


def why_unavailable() -> str | None:
    """Return why native code, or some of it, is not used; None when all is well so far."""
    if not settings().kernels:
        return "switched off by TINYLLM_KERNELS"
    load_library("processor")
    return next((outcome.reason for outcome in _outcomes.values() if outcome.reason), None)


def notice() -> str | None:
    """Return one sentence for users when native code is not used; None when all is well."""
    if not settings().kernels:
        return "native code is off (TINYLLM_KERNELS); plain PyTorch computes"
    reason = why_unavailable()
    if reason is None:
        return None
    return f"no native code: {reason}; plain PyTorch is used, slower (tinyllm doctor explains)"


def processor_features() -> list[str]:
    """Return the vector instructions that native code is built for; empty without native code."""
    library = load_library("processor")
    if library is None:
        return []
    library.tinyllm_processor_features.restype = ctypes.c_char_p
    features: bytes = library.tinyllm_processor_features()
    return features.decode("ascii").split()


def cache_folder() -> Path:
    """Return the folder that compiled libraries are kept in; it need not exist.

    Raises OSError where there is no home folder, as for a container's user without a name.
    """
    base = settings().cache_home
    if base is None or not base.is_absolute():
        try:
            base = Path.home() / ".cache"
        except RuntimeError as error:
            raise OSError("there is no home folder; XDG_CACHE_HOME may name another") from error
    return base / "tinyllm" / "kernels"


@cache
def find_compiler() -> Compiler | None:
    """Return the compiler that `CXX` names, or else the first of g++, clang++ and c++."""
    chosen = settings().cxx
    for candidate in [chosen] if chosen else _COMPILERS:
        try:
            command = tuple(shlex.split(candidate))
        except ValueError:  # a quote without its pair
            continue
        if command and shutil.which(command[0]) and (version := _version(command)):
            return Compiler(command, version)
    return None


def compile_command(
    compiler: Compiler, source: Path, target: Path, defines: Defines, flags: tuple[str, ...]
) -> list[str]:
    """Return the command that compiles a source of this room to a shared library."""
    macros = [f"-D{name}={value}" for name, value in defines.items()]
    options = [*_FLAGS, *_CONTRACT, *_processor_flags(), *flags, *macros, f"-I{_SOURCES}"]
    return [*compiler.command, *options, str(source), "-o", str(target)]


def _build_and_load(name: str, defines: Defines) -> _Outcome:
    compiler = find_compiler()
    if compiler is None:
        chosen = settings().cxx
        wanted = f"CXX={chosen}" if chosen else "g++ or clang++"
        return _Outcome(None, f"no C++ compiler found ({wanted})")
    try:
        target = _target(compiler, name, defines)
        if target.is_file() and (kept := _loaded(target)) is not None:
            return _Outcome(kept, None)
        _compile(compiler, _SOURCES / f"{name}.cpp", target, defines)
        if _target(compiler, name, defines) != target:
            target.unlink(missing_ok=True)  # its name promises sources it was not made of
            return _Outcome(None, f"{name}.cpp changed while it was compiled")
        return _Outcome(ctypes.CDLL(str(target)), None)
    except (OSError, subprocess.SubprocessError) as error:
        return _Outcome(None, f"{name}.cpp could not be built: {_in_one_line(error)}")


def _loaded(path: Path) -> ctypes.CDLL | None:
    """Load a library that was kept; None for one that is cut off or from another system."""
    try:
        return ctypes.CDLL(str(path))
    except OSError:
        return None


def _target(compiler: Compiler, name: str, defines: Defines) -> Path:
    return cache_folder() / f"{name}-{_fingerprint(compiler, name, defines)}.so"


def _compile(compiler: Compiler, source: Path, target: Path, defines: Defines) -> None:
    """Compile with OpenMP, or without where the compiler has none; the file appears at once."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".build-", dir=target.parent) as folder:
        built = Path(folder) / target.name
        try:
            _run(compile_command(compiler, source, built, defines, _THREADS))
        except subprocess.CalledProcessError:
            _run(compile_command(compiler, source, built, defines, ()))
        with open(built, "rb") as file:
            os.fsync(file.fileno())  # a library cut off by a power failure would end its users
        os.replace(built, target)


def _run(command: list[str]) -> str:
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        errors="replace",
        stdin=subprocess.DEVNULL,
        timeout=_COMPILE_SECONDS,
        check=True,
    )
    return done.stdout


def _version(command: tuple[str, ...]) -> str | None:
    try:
        return _run([*command, "--version"]).partition("\n")[0].strip() or None
    except (OSError, subprocess.SubprocessError):
        return None


def _in_one_line(error: Exception) -> str:
    """Return the first complaint of the compiler, or what the system said."""
    if isinstance(error, subprocess.CalledProcessError):
        lines = [line.strip() for line in error.stderr.splitlines() if line.strip()]
        return next((line for line in lines if "error" in line), f"exit code {error.returncode}")
    return str(error)


def _fingerprint(compiler: Compiler, name: str, defines: Defines) -> str:
    source = _SOURCES / f"{name}.cpp"
    command = compile_command(compiler, Path(source.name), Path("built"), defines, _THREADS)
    command.remove(f"-I{_SOURCES}")
    digest = hashlib.sha256(repr((command, compiler.version, _processor())).encode())
    for path in _with_headers(source):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:32]


def _with_headers(source: Path) -> list[Path]:
    """Return a source and all headers of this room that it includes, in the order met."""
    found = [source]
    for path in found:  # grows on the way
        for name in _INCLUDE.findall(path.read_text("utf-8")):
            if (header := _SOURCES / name) not in found:
                found.append(header)
    return found


def _processor_flags() -> tuple[str, ...]:
    machine = platform.machine().lower()
    if machine in ("arm64", "aarch64"):
        return ("-mcpu=native",)
    if machine in ("x86_64", "amd64"):
        return ("-march=native", "-mprefer-vector-width=512")
    return ("-march=native",)


@cache
def _processor() -> str:
    """Return what tells this processor from others: code for one may not run on another."""
    described = [platform.machine()]
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        described.append(platform.processor())
        lines = []
    for wanted in ("model name", "flags", "Features"):
        described += [line for line in lines if line.startswith(wanted)][:1]
    return "\n".join(described)
