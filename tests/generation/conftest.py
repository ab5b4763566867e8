"""A tiny model with random weights for every test of the engine, and the two ways to run it."""

from collections.abc import Callable

import pytest

from tests.tiny import tiny_loaded
from tinyllm.generation.engine import Engine
from tinyllm.generation.runner_native import NativeRunner
from tinyllm.generation.runner_torch import TorchRunner
from tinyllm.kernels import build

MakeEngine = Callable[..., Engine]


@pytest.fixture(scope="session")
def plain():
    """A base model with a byte-level BPE tokenizer."""
    return tiny_loaded()


@pytest.fixture(scope="session")
def chatty():
    """The same model with a chat template."""
    return tiny_loaded(chat=True)


@pytest.fixture(params=["torch", "native"])
def make_engine(request) -> MakeEngine:
    """Return a function that makes an engine which runs a loaded model in one of the two ways."""
    if request.param == "native" and not build.available():
        pytest.skip("needs a C++ compiler (Debian: g++)")

    def make(loaded, **options):
        is_native = request.param == "native"
        runner = NativeRunner.load(loaded) if is_native else TorchRunner(loaded.model)
        return Engine(loaded, runner=runner, **options)

    return make
