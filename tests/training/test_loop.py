"""The step and the loop: right mathematics, whatever the split into micro-batches."""

import itertools
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
import torch
from torch import Tensor

from tinyllm.config.base import load_config
from tinyllm.config.model import ModelConfig
from tinyllm.config.train import TrainConfig
from tinyllm.config.train_sections import Optimizer
from tinyllm.data.loader import IGNORE, Batch
from tinyllm.device import choose_compute
from tinyllm.errors import TrainingStopped
from tinyllm.model.transformer import Transformer
from tinyllm.reporting import CountedProgress, SilentReporter
from tinyllm.training.distributed import Processes
from tinyllm.training.loop import Limits, StepReport, Training, fit, hopeless, take_step
from tinyllm.training.loss import next_token_loss
from tinyllm.training.milestones import Milestones
from tinyllm.training.monitor import RunMonitor
from tinyllm.training.optimizer import build_optimizers
from tinyllm.training.run_folder import RunFolder
from tinyllm.training.schedule import LearningRateShape
from tinyllm.training.state import Progress
from tinyllm.training.stop import StopRequest
from tinyllm.training.validation import Measurement

CONFIG = ModelConfig(
    vocab_size=17, hidden_size=16, n_layers=2, n_heads=2, context_length=12, dropout=0.0
)


@dataclass
class FixedRows:
    """Rows with masks of very unequal size."""

    n_rows: int | None = 64
    batches: list[tuple[int, int]] = field(default_factory=list)

    def batch(self, start: int, stop: int) -> Batch:
        self.batches.append((start, stop))
        rows = [self._row(i) for i in range(start, stop)]
        ids, targets = (torch.stack(column) for column in zip(*rows, strict=True))
        return Batch(ids, targets)

    def documents(self, start: int, stop: int) -> list[int]:
        return list(range(start, stop))

    def _row(self, i: int) -> tuple[Tensor, Tensor]:
        draw = torch.Generator().manual_seed(i)
        ids = torch.randint(0, 17, (13,), generator=draw)
        targets = ids[1:].clone()
        targets[: (i * 5) % 12] = IGNORE
        return ids[:-1], targets


def training_of(
    micro: int,
    accum: int,
    *,
    stream: FixedRows | None = None,
    steps: int = 8,
    lr: float = 1e-2,
    optimizer: Literal["adamw", "muon"] = "adamw",
) -> Training:
    torch.manual_seed(0)
    model = Transformer(CONFIG)
    optimizers = build_optimizers(model, Optimizer(name=optimizer, learning_rate=lr))
    processes = Processes.start(choose_compute("cpu", "float32"), model, optimizers)
    return Training(
        processes=processes,
        stream=stream or FixedRows(),
        shape=LearningRateShape("cosine", 2, 0.1, steps),
        limits=Limits(steps, None),
        micro_batch_size=micro,
        grad_accum_steps=accum,
        grad_clip=1.0,
        seed=0,
        progress=Progress(),
    )


def weights_of(training: Training) -> dict[str, Tensor]:
    return {n: p.detach().clone() for n, p in training.processes.model.named_parameters()}


class Quiet:
    def __init__(self) -> None:
        self.reports: list[StepReport] = []

    def after_step(self, report: StepReport) -> None:
        self.reports.append(report)

    def wants_to_stop(self) -> str | None:
        return None

    def go_back(self) -> bool:
        return False


@contextmanager
def gradients_kept(training: Training) -> Iterator[dict[str, Tensor]]:
    """Catch the gradient of a step before it is cleared."""
    caught: dict[str, Tensor] = {}
    step = training.processes.step

    def keep() -> None:
        caught.update({n: p.grad.clone() for n, p in training.processes.model.named_parameters()})
        step()

    training.processes.step = keep  # type: ignore[method-assign]
    yield caught


def test_one_times_eight_equals_eight_times_one_with_unequal_masks() -> None:
    results = []
    for micro, accum in ((8, 1), (1, 8)):
        training = training_of(micro, accum)
        with gradients_kept(training) as gradients:
            report = take_step(training)
        results.append((report, gradients))
    (whole, expected), (split, found) = results
    assert split.loss_nats == pytest.approx(whole.loss_nats, abs=1e-6)
    assert split.n_tokens == whole.n_tokens
    assert split.grad_norm == pytest.approx(whole.grad_norm, abs=1e-6)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-6, rtol=0)


def test_the_loss_is_the_mean_over_all_trained_tokens_of_the_step() -> None:
    training = training_of(2, 4)
    batch = training.stream.batch(0, 8)
    expected, count = next_token_loss(training.processes.model, batch)
    report = take_step(training)
    assert report.n_tokens == int(count) == int((batch.targets != IGNORE).sum())
    assert report.loss_nats == pytest.approx(expected.item() / int(count), rel=1e-5)


def test_training_lowers_the_loss_and_ends_after_its_steps() -> None:
    training, observer = training_of(8, 1, steps=30), Quiet()
    training.stream.n_rows = None
    training.stream.batch = lambda start, stop: FixedRows().batch(0, 8)  # type: ignore[method-assign]
    reason = fit(training, observer, StopRequest())
    assert reason == "all 30 steps are done"
    assert observer.reports[-1].loss_nats < 0.7 * observer.reports[0].loss_nats


def test_a_short_last_step_takes_the_rows_that_are_left() -> None:
    stream = FixedRows(n_rows=11)
    training = training_of(4, 2, stream=stream, steps=2)
    fit(training, Quiet(), StopRequest())
    assert stream.batches == [(0, 4), (4, 8), (8, 11)]
    assert training.progress.rows == 11


def test_a_step_without_a_finite_gradient_changes_nothing_and_is_counted() -> None:
    training = training_of(4, 1)
    take_step(training)
    before = weights_of(training)
    model = training.processes.model
    forward = model.forward
    model.forward = lambda *a, **k: forward(*a, **k) * float("nan")  # type: ignore[method-assign]
    report = take_step(training)
    assert report.skipped
    assert training.progress.skipped_steps == 1
    for name, weight in weights_of(training).items():
        assert torch.equal(weight, before[name])
    model.forward = forward  # type: ignore[method-assign]
    assert not take_step(training).skipped
    assert training.progress.skipped_in_a_row == 0


@pytest.mark.parametrize("overflows", [False, True])
def test_half_precision_unscales_once_and_skips_for_all_optimizers(overflows: bool) -> None:
    """A scaler on the CPU stands for that of fp16, and powers of two change no gradient."""
    after = []
    for scale in (None, 1024.0):
        training = training_of(4, 1, optimizer="muon")
        processes = training.processes
        assert len(processes.optimizers) == 2
        if scale is not None:
            accelerator = processes.accelerator
            accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=99)
            processes.optimizers = [
                type(o)(o.optimizer, scaler=accelerator.scaler)  # type: ignore[attr-defined,call-arg]
                for o in processes.optimizers
            ]
            accelerator.native_amp = True
            accelerator.state._mixed_precision = "fp16"
        take_step(training)
        before = weights_of(training)
        if overflows:
            weight = training.processes.model.model.norm.weight
            weight.register_hook(lambda gradient: gradient * float("nan"))
        assert take_step(training).skipped == overflows
        assert overflows == all(torch.equal(w, before[n]) for n, w in weights_of(training).items())
        after.append(weights_of(training))
        if scale is not None:
            state = processes.scaler_state()
            assert state is not None
            assert state["scale"] == (scale / 2 if overflows else scale)
    for name, weight in after[0].items():
        torch.testing.assert_close(after[1][name], weight, atol=1e-6, rtol=0)


def test_several_bad_steps_in_a_row_stop_the_training_with_advice() -> None:
    training = training_of(4, 1, steps=50)
    model = training.processes.model
    forward = model.forward
    model.forward = lambda *a, **k: forward(*a, **k) * float("inf")  # type: ignore[method-assign]
    with pytest.raises(TrainingStopped, match="5 steps in a row") as caught:
        fit(training, Quiet(), StopRequest())
    assert "learning_rate" in str(caught.value.hint)


def test_a_single_bad_step_is_told_in_the_singular() -> None:
    progress = Progress(step=3, skipped_in_a_row=1, rollbacks=1)
    said = hopeless(progress).message
    assert said.startswith("step 3 had no finite loss or gradient, ")
    assert said.endswith(" and 1 rollback")


def test_being_asked_to_stop_ends_after_the_step_at_hand() -> None:
    training, stop = training_of(4, 1, steps=50), StopRequest()

    class AsksAtThree(Quiet):
        def after_step(self, report: StepReport) -> None:
            stop.asked = report.step == 3

    assert fit(training, AsksAtThree(), stop) is None
    assert training.progress.step == 3


def test_a_clock_ends_the_training_with_the_rate_at_its_floor() -> None:
    training = training_of(4, 1, steps=8)
    training.stream.n_rows = None
    training.limits = Limits(None, 10.0)
    training.shape = LearningRateShape("cosine", 0, 0.1, None)
    now = [0.0]

    def clock() -> float:
        now[0] += 0.05
        return now[0]

    training.clock, training.started = clock, 0.0
    observer = Quiet()
    reason = fit(training, observer, StopRequest())
    assert reason == "the budget of 10.0 s is used up"
    assert now[0] == pytest.approx(10.0, rel=0.05)
    assert observer.reports[-1].learning_rate == pytest.approx(1e-3, rel=0.02)


def milestones_of(
    training: Training, folder: Path, measure: Callable[[], Measurement], every_steps: int
) -> Milestones:
    """Return milestones that measure, in a training by the clock, and keep nothing."""
    config = load_config(
        TrainConfig,
        flags={"data.train": "a.txt", "max_minutes": 1.0, "evaluation.every_steps": every_steps},
    )
    log = logging.getLogger("test")
    return Milestones(
        config=config,
        training=training,
        monitor=RunMonitor(
            training=training,
            folder=RunFolder(folder),
            reporter=SilentReporter(),
            bar=CountedProgress(None),
            log=log,
            track=lambda _: None,
            utilization=lambda _: None,
        ),
        log=log,
        save=lambda: None,
        save_milestone=lambda _: None,
        save_best=lambda _: None,
        save_counters=lambda: None,
        restore_good=lambda: False,
        measure=measure,
        write_samples=None,
    )


@pytest.mark.parametrize("seconds_per_measure", [0.5, 2.0, 3.1])
@pytest.mark.parametrize("every_steps", [3, 7, 10])
def test_measuring_on_the_way_keeps_the_clock_and_the_fall_of_the_rate(
    every_steps: int, seconds_per_measure: float, tmp_path: Path
) -> None:
    """Steps of uneven length, with pauses to measure, in a budget of forty seconds."""
    training = training_of(4, 1, steps=8)
    training.stream.n_rows = None
    training.limits = Limits(None, 40.0)
    training.shape = LearningRateShape("cosine", 0, 0.1, None)
    now, ticks = [0.0], itertools.cycle([0.05, 0.2, 0.1])

    def clock() -> float:
        now[0] += next(ticks)
        return now[0]

    def measure() -> Measurement:
        now[0] += seconds_per_measure
        return Measurement(1.0, 1, 1)

    training.clock, training.started = clock, 0.0
    milestones = milestones_of(training, tmp_path, measure, every_steps)
    rates = []
    after_step = milestones.after_step

    def keep_rate(report: StepReport) -> None:
        rates.append(report.learning_rate)
        after_step(report)

    milestones.after_step = keep_rate  # type: ignore[method-assign]
    reason = fit(training, milestones, StopRequest())
    milestones.measure_now()
    assert "is used up" in str(reason)
    assert now[0] == pytest.approx(40.0, rel=0.05)
    assert rates[-1] == pytest.approx(1e-3, rel=0.02)


class OneOfTwo:
    """A process whose clock is not the main one's, and whose partner raises a flag."""

    def __init__(self, of_main: list[float], flag: bool) -> None:
        self.of_main, self.flag = of_main, flag

    def from_main(self, value: float) -> float:
        return self.of_main.pop(0)

    def agree(self, flag: bool) -> bool:
        return flag or self.flag


@pytest.mark.parametrize(("used", "half_step", "is_over"), [(1.1, 0.05, True), (1.1, 0.2, False)])
def test_the_main_process_tells_when_the_time_is_up(
    used: float, half_step: float, is_over: bool
) -> None:
    training = training_of(4, 1)
    training.limits, training.step_seconds = Limits(None, 10.0), 3.0
    training.progress.step = 2
    training.processes = OneOfTwo([used, half_step], flag=False)  # type: ignore[assignment]
    assert (training.end_reason() is not None) == is_over


@pytest.mark.parametrize("flag", [True, False])
def test_no_process_measures_alone_near_the_end(flag: bool, tmp_path: Path) -> None:
    training = training_of(4, 1)
    training.limits = Limits(None, 10.0)
    milestones = milestones_of(training, tmp_path, lambda: Measurement(1.0, 1, 1), 1)
    training.reserve_seconds = 1.0
    training.processes = OneOfTwo([0.1], flag)  # type: ignore[assignment]
    assert milestones._the_last_ones_are_near() == flag


def test_dropout_draws_the_same_in_any_sitting() -> None:
    def weights_after(n_before: int) -> dict[str, Tensor]:
        training = training_of(4, 1)
        for module in training.processes.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.5
        training.processes.model.train()
        for i in range(4):
            if i == n_before:
                torch.rand(7)  # whatever happens between steps
            take_step(training)
        return weights_of(training)

    first, second = weights_after(1), weights_after(3)
    assert all(torch.equal(first[n], second[n]) for n in first)
