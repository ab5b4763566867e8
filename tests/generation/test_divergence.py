"""How far smaller weights move the odds: float32 not, bfloat16 a little, int8 more."""

import pytest

from tests.tiny import write_tiny_checkpoint
from tinyllm.checkpoint import read_checkpoint
from tinyllm.generation.divergence import divergence_from_float32, measure_divergence
from tinyllm.generation.engine import Engine
from tinyllm.generation.runner_native import NativeRunner
from tinyllm.generation.runner_torch import TorchRunner
from tinyllm.kernels import build

needs_compiler = pytest.mark.skipif(
    not build.available(), reason="needs a C++ compiler (Debian: g++)"
)


def test_a_model_does_not_diverge_from_itself(plain):
    runner = TorchRunner(plain.model)
    found = measure_divergence(runner, runner, plain.tokenizer.encode("Once upon a time"))
    assert found.nats == 0
    assert found.agreement == 1
    assert found.n_places == len(plain.tokenizer.encode("Once upon a time"))


@needs_compiler
def test_native_float32_is_as_exact_as_torch(plain):
    ids = plain.tokenizer.encode("Once upon a time there was a little fox" * 2)
    found = measure_divergence(TorchRunner(plain.model), NativeRunner.load(plain), ids[:96])
    assert abs(found.nats) < 1e-6
    assert found.agreement == 1


@needs_compiler
def test_the_divergence_is_known_for_smaller_weights_only(tmp_path):
    stored = read_checkpoint(write_tiny_checkpoint(tmp_path / "tiny.safetensors"))
    ids = stored.tokenizer.encode("Once upon a time there was a little fox")

    def divergence(dtype):
        return divergence_from_float32(Engine(stored, runner=NativeRunner.load(stored, dtype)), ids)

    assert divergence("float32") is None
    assert 0 < divergence("bfloat16").nats < divergence("int8").nats < 1
