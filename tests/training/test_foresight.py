"""What is told before the first step of a training with adapters."""

import time

import pytest

from tests.training.test_loop import training_of
from tinyllm.config.lora import LoraConfig
from tinyllm.training.foresight import in_words


def test_the_time_that_is_told_is_that_of_a_pass_with_all_in_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    training = training_of(2, 3, steps=10)
    model = training.processes.model
    next(model.parameters()).requires_grad_(False)
    took, now = iter((500.0, 2.0)), [0.0]

    def pass_by(*_: object) -> None:
        now[0] += next(took)

    model.register_forward_hook(pass_by)
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    lines = in_words(training, model, LoraConfig(rank=2), 8, packs=False)
    assert "time: 1 min 00 s if all rows are full, less if not" in lines
    assert all(p.grad is None for p in model.parameters())
