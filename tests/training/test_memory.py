"""Memory: what fits is found without harm, and running out costs a step its size, not the run."""

import gc
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.training.test_loop import FixedRows, Quiet, training_of, weights_of
from tests.training.test_workflow import config_for, train
from tinyllm.model.transformer import Transformer
from tinyllm.training import memory
from tinyllm.training.fitting import fit_to_memory
from tinyllm.training.loop import fit, take_step
from tinyllm.training.state import list_states, read_state
from tinyllm.training.stop import StopRequest

TAKE_AND_GIVE_BACK = """
import torch
from tinyllm.training import memory

device = torch.device("cpu")
memory.forget_peak(device)
before = memory.in_use(device)
torch.ones(50_000_000)
print(memory.in_use(device) - before, memory.peak(device) - before)
"""


def refusing(
    forward: Callable[..., Any], most_rows: int, error: Exception
) -> Callable[..., torch.Tensor]:
    """A network whose memory suffices for so many rows."""

    def refuse(ids: torch.Tensor, *rest: object, **named: object) -> torch.Tensor:
        if len(ids) > most_rows:
            raise error
        return forward(ids, *rest, **named)

    return refuse


REFUSALS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
    RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"),
    MemoryError(),
]


@pytest.mark.parametrize("error", REFUSALS, ids=lambda e: str(e)[:20])
def test_running_out_of_memory_halves_the_rows_at_once_and_changes_no_result(
    error: Exception,
) -> None:
    plain, short = training_of(8, 2), training_of(8, 2)
    model = short.processes.model
    sizes, expected = [], []
    for i in range(3):
        if i == 1:
            model.forward = refusing(model.forward, 3, error)  # type: ignore[method-assign]
        expected.append(take_step(plain))
        found = take_step(short)
        sizes.append(found.micro_batch_size)
        assert found.n_tokens == expected[-1].n_tokens
        assert found.rows == expected[-1].rows
        assert found.loss_nats == pytest.approx(expected[-1].loss_nats, abs=1e-5)
        assert found.grad_norm == pytest.approx(expected[-1].grad_norm, abs=1e-5)
    assert sizes == [8, 2, 2]
    assert short.rows_per_step == 16
    other = weights_of(short)
    for name, weight in weights_of(plain).items():
        torch.testing.assert_close(other[name], weight, atol=1e-5, rtol=0)


def test_other_failures_are_not_taken_for_a_lack_of_memory() -> None:
    training = training_of(4, 1)
    model = training.processes.model
    error = RuntimeError("shape mismatch")
    model.forward = refusing(model.forward, 0, error)  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="shape mismatch"):
        take_step(training)


def test_when_not_one_row_fits_the_training_stops_with_advice() -> None:
    training = training_of(4, 1)
    model = training.processes.model
    model.forward = refusing(model.forward, 0, REFUSALS[0])  # type: ignore[method-assign]
    with pytest.raises(memory.OutOfMemory, match="memory ran out") as caught:
        fit(training, Quiet(), StopRequest())
    assert caught.value.exit_code == 6
    assert "--dry-run" in str(caught.value.hint)
    assert training.progress.step == 0


def test_a_resume_keeps_the_size_that_memory_left(
    text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Transformer.forward

    def tight(self: Transformer, ids: torch.Tensor, *rest: Any, **named: Any) -> torch.Tensor:
        if self.training and len(ids) > 2:
            raise REFUSALS[0]
        return plain(self, ids, *rest, **named)

    monkeypatch.setattr(Transformer, "forward", tight)
    result, reporter = train(config_for(text, max_steps=3))
    assert any("micro_batch_size is 2" in warning for warning in reporter.warnings)
    state = read_state(list_states(result.run_folder / "state")[-1])
    assert state.progress.micro_batch_size == 2
    monkeypatch.undo()
    again, _ = train(config_for(text, max_steps=6))
    state = read_state(list_states(again.run_folder / "state")[-1])
    assert (again.resumed_from, state.progress.micro_batch_size) == (3, 2)


def test_a_network_that_memory_refuses_is_told_in_a_sentence(
    text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise REFUSALS[0]

    monkeypatch.setattr("tinyllm.training.assembly.build_model", refuse)
    with pytest.raises(memory.OutOfMemory, match="memory ran out"):
        train(config_for(text))


@given(
    fixed=st.integers(0, 1000),
    per_row=st.integers(1, 100),
    wanted=st.integers(1, 300),
    free=st.integers(1, 40_000),
)
def test_the_largest_size_that_fits_is_found_without_asking_for_too_much(
    fixed: int, per_row: int, wanted: int, free: int
) -> None:
    asked: list[int] = []

    def need(n: int) -> int:
        asked.append(n)
        return fixed + per_row * n

    sizes = memory.halvings(wanted)
    found = memory.largest_that_fits(sizes, need, free, fixed)
    assert found == max((n for n in sizes if fixed + per_row * n <= 0.9 * free), default=None)
    assert all(fixed + per_row * n <= 0.9 * free for n in asked if n > sizes[0])


def test_a_refusal_while_trying_ends_the_search() -> None:
    def need(n: int) -> int:
        if n > 4:
            raise memory.OutOfMemory("no")
        return n

    assert memory.largest_that_fits([1, 2, 4, 8, 16], need, 1000) == 4
    assert memory.halvings(12) == [1, 2, 3, 6, 12]


def test_trying_leaves_no_gradient_and_no_changed_weight() -> None:
    training = training_of(8, 1, stream=FixedRows())
    before = weights_of(training)
    fitting = fit_to_memory(training, 8, 12)
    assert fitting.micro_batch_size == 8
    assert all(p.grad is None for p in training.processes.model.parameters())
    after = weights_of(training)
    assert all(torch.equal(after[n], before[n]) for n in before)
    assert fit_to_memory(training, 8, 12, available_bytes=1).micro_batch_size is None


def test_the_peak_counts_what_was_held_and_given_back() -> None:
    """In a process of its own: memory that others gave back would hide what is taken."""
    measured = subprocess.run(
        [sys.executable, "-c", TAKE_AND_GIVE_BACK], capture_output=True, text=True, check=True
    )
    held, grown = map(int, measured.stdout.split())
    assert held < 50_000_000
    assert grown > 150_000_000
    assert memory.available(torch.device("cpu")) > 0


def test_auto_keeps_the_rows_of_a_step(text: Path) -> None:
    results = []
    for name, size in (("auto", "auto"), ("sixteen", 16)):
        path = text.parent / name / "model.safetensors"
        config = config_for(text, batch__micro_batch_size=size, checkpoint__path=path, max_steps=3)
        result, reporter = train(config)
        results.append(result)
        said = any("micro_batch_size: 16 of 16 rows" in note for note in reporter.notes)
        assert said == (size == "auto")
    assert results[0].trained_tokens == results[1].trained_tokens
    assert results[0].validation == results[1].validation


def test_garbage_is_looked_for_among_new_objects_and_afterwards_among_all() -> None:
    class Circle:
        pass

    old, new = Circle(), Circle()
    old.myself, new.myself = old, new
    of_old, of_new = weakref.ref(old), weakref.ref(new)
    del new
    with pytest.raises(KeyError), memory.garbage_of_steps_only():
        newer = Circle()
        newer.myself = newer
        of_newer = weakref.ref(newer)
        del old, newer
        gc.collect()
        assert of_newer() is None
        assert of_old() is not None
        raise KeyError
    gc.collect()
    assert of_old() is None
    assert of_new() is None
