"""The training step and the one loop around it; pretraining and tuning differ only in data.

The loop knows no files and no screen: what is kept lives in `milestones.py`, what is seen in
`monitor.py`.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from tinyllm.data.loader import Batch
from tinyllm.errors import TrainingStopped
from tinyllm.reporting import format_count, format_duration
from tinyllm.seeding import derive_seed
from tinyllm.training import memory
from tinyllm.training.distributed import Processes
from tinyllm.training.loss import count_trained, without_targets
from tinyllm.training.objective import NextToken, Objective
from tinyllm.training.optimizer import set_learning_rate
from tinyllm.training.schedule import LearningRateShape
from tinyllm.training.spikes import score_loss
from tinyllm.training.state import Progress
from tinyllm.training.stop import StopRequest

MAX_SKIPS_IN_A_ROW = 5
"""So many steps without a finite gradient in a row are no accident."""


class RowStream(Protocol):
    """All rows of all epochs in the order they are trained on."""

    @property
    def n_rows(self) -> int | None:
        """How many rows there are; None when epochs follow without end."""

    def batch(self, start: int, stop: int) -> Batch:
        """Return rows start..stop of the stream; fewer at its end."""

    def documents(self, start: int, stop: int) -> list[int]:
        """Return the numbers of the documents in rows start..stop, in the order of the text."""


@dataclass(frozen=True)
class Limits:
    """What ends a training: the first one reached."""

    total_steps: int | None
    max_seconds: float | None


@dataclass
class Training:
    """Everything a step needs, and how far it has come."""

    processes: Processes
    stream: RowStream
    shape: LearningRateShape
    limits: Limits
    micro_batch_size: int
    grad_accum_steps: int
    grad_clip: float
    seed: int
    progress: Progress
    objective: Objective = field(default_factory=NextToken)
    clock: Callable[[], float] = time.monotonic
    reserve_seconds: float = 0.0
    """Part of the wall-clock budget that the last save and measurement will need."""
    step_seconds: float = 0.0
    """How long the latest step took."""
    started: float = field(init=False)
    rows_per_step: int = field(init=False)
    """Rows in an optimizer step, over all processes, however small a micro-batch has to be."""

    def __post_init__(self) -> None:
        self.started = self.clock() - self.progress.elapsed_seconds
        self.rows_per_step = self.micro_batch_size * self.grad_accum_steps

    def clock_progress(self) -> float:
        """Return the share of the wall-clock budget used when the coming step ends.

        The main process's clock counts, so that all take the same learning rate.
        """
        if self.limits.max_seconds is None:
            return 0.0
        usable = max(1e-9, self.limits.max_seconds - self.reserve_seconds)
        used = self.clock() - self.started + self.step_seconds
        return self.processes.from_main(used / usable)

    def seconds_left(self) -> float | None:
        """Return the time for steps that the budget leaves, None without one."""
        if self.limits.max_seconds is None:
            return None
        return (1.0 - self.clock_progress()) * (self.limits.max_seconds - self.reserve_seconds)

    def end_reason(self) -> str | None:
        """Say why the training is over, or None while it is not."""
        total = self.limits.total_steps
        if total is not None and self.progress.step >= total:
            return f"all {total} steps are done"
        if self.progress.step > 0 and self.clock_progress() - self._half_step() > 1.0:
            assert self.limits.max_seconds is not None
            return f"the budget of {format_duration(self.limits.max_seconds)} is used up"
        return None

    def _half_step(self) -> float:
        """Return half a step as a share of the budget: the clock may be missed by so much.

        The main process's step counts, so that all end at the same one.
        """
        if self.limits.max_seconds is None:
            return 0.0
        return self.processes.from_main(0.5 * self.step_seconds / self.limits.max_seconds)


@dataclass(frozen=True)
class StepReport:
    """The figures of one optimizer step."""

    step: int
    """Number of finished steps, this one included."""
    loss_nats: float
    """Mean over the trained tokens of the step, or over its pairs."""
    n_tokens: int
    grad_norm: float
    learning_rate: float
    skipped: bool
    spike_score: float | None
    """Running standard deviations above the running mean of the loss; None for the first steps."""
    rows: range
    """The rows of the stream that the step was taken on."""
    seconds: float
    data_seconds: float
    micro_batch_size: int
    """Rows in one forward pass; smaller than at the step before when memory ran out."""
    figures: Mapping[str, float] = field(default_factory=dict)
    """What the objective tells beside its loss."""


class Observer(Protocol):
    """Who is told of each finished step."""

    def after_step(self, report: StepReport) -> None:
        """Log, save, measure, as due."""

    def wants_to_stop(self) -> str | None:
        """Return why the training should end early, or None."""

    def go_back(self) -> bool:
        """Return to the last good state at a lower learning rate; False where there is none."""


def fit(training: Training, observer: Observer, stop: StopRequest) -> str | None:
    """Take steps until a limit is reached; return why it ended, None when asked to stop.

    Several steps in a row without a finite gradient let the observer go back to a good state.
    Raises TrainingStopped when it cannot.
    """
    processes = training.processes
    processes.model.train()
    with memory.garbage_of_steps_only():
        while True:
            reason = training.end_reason() or observer.wants_to_stop()
            if processes.agree(reason is not None):
                return reason or "another process ended"
            if processes.agree(bool(stop)):
                return None
            report = take_step(training)
            observer.after_step(report)
            in_trouble = training.progress.skipped_in_a_row >= MAX_SKIPS_IN_A_ROW
            if in_trouble and not observer.go_back():
                raise hopeless(training.progress)


def take_step(training: Training) -> StepReport:
    """Take one optimizer step: the gradient of the mean loss over all its trained tokens.

    Micro-batches and processes add their summed losses; the one division is by the number of
    tokens in the whole step, so unequal masks weigh what they hold. For the same reason a step
    for which memory does not suffice is taken again in smaller micro-batches, with the same result.
    """
    progress, processes = training.progress, training.processes
    began = training.clock()
    share = training.shape.at(progress.step, training.clock_progress())
    set_learning_rate(processes.optimizers, share * progress.learning_rate_scale)
    while True:
        batches, n_rows = _micro_batches(training)
        n_tokens = _sum_over(processes, [count_trained(b.targets) for b in batches.values()])
        count_units = training.objective.count_units
        n_units = _sum_over(processes, [count_units(b) for b in batches.values()])
        data_seconds = training.clock() - began
        try:
            with memory.refusals_translated():
                loss = _add_gradients(training, batches, n_units)
            break
        except memory.OutOfMemory:
            if training.micro_batch_size == 1 or processes.count > 1:
                raise  # the other processes wait for this one's gradients: there is no way back
        _take_smaller_bites(training)
    grad_norm = processes.clip(training.grad_clip)
    finite = math.isfinite(loss) and math.isfinite(grad_norm)
    if finite:
        processes.step()
    processes.adjust_loss_scale()
    processes.clear_gradients()
    _count(progress, n_rows, n_tokens if finite else None)
    spike_score = score_loss(progress, loss) if finite else None
    training.step_seconds = training.clock() - began
    progress.elapsed_seconds = training.clock() - training.started
    progress.micro_batch_size = training.micro_batch_size
    return StepReport(
        step=progress.step,
        loss_nats=loss,
        n_tokens=n_tokens,
        grad_norm=grad_norm,
        learning_rate=processes.optimizers[0].param_groups[0]["lr"],
        skipped=not finite,
        spike_score=spike_score,
        rows=range(progress.rows - n_rows, progress.rows),
        seconds=training.step_seconds,
        data_seconds=data_seconds,
        micro_batch_size=training.micro_batch_size,
        figures=_figures(training, n_units),
    )


def _sum_over(processes: Processes, counts: Sequence[Tensor]) -> int:
    """Add counts up, over all processes."""
    return int(processes.sum(torch.stack(list(counts)).sum().to(processes.device)))


def _figures(training: Training, n_units: int) -> dict[str, float]:
    """Return what the objective tells of the step: means over its units, in all processes."""
    taken = training.objective.take_figures()
    if not taken:
        return {}
    sums = training.processes.sum_figures([value for _, value in taken])
    return {name: total / n_units for (name, _), total in zip(taken, sums, strict=True)}


def _take_smaller_bites(training: Training) -> None:
    """Halve the micro-batch and forget what was computed of the step that did not fit."""
    training.processes.clear_gradients()
    training.objective.take_figures()
    memory.release(training.processes.device)
    training.micro_batch_size = (training.micro_batch_size + 1) // 2


def _add_gradients(training: Training, batches: Mapping[int, Batch], n_units: int) -> float:
    """Run forward and backward over this process's micro-batches; return the step's mean loss.

    Dropout draws from a seed of the micro-batch's own, so that neither a resume nor the number
    of processes changes what it draws.
    """
    processes = training.processes
    loss_sum = torch.zeros((), device=processes.device)
    for n_left, (first_row, batch) in zip(
        reversed(range(len(batches))), batches.items(), strict=True
    ):
        _seed_dropout(processes.device, derive_seed(training.seed, "dropout", first_row))
        with processes.gradients_stay_here(n_left > 0):
            micro_loss = training.objective.loss(processes.model, processes.place(batch))
            processes.backward(micro_loss, n_units)
        loss_sum += micro_loss.detach()
    return float(processes.sum(loss_sum)) / n_units


def _seed_dropout(device: torch.device, seed: int) -> None:
    if device.type == "cpu":  # for all devices, torch also notes where it was asked: 0.1 ms
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)


def _count(progress: Progress, n_rows: int, n_tokens: int | None) -> None:
    """Count a finished step; n_tokens is None when it was skipped."""
    progress.step += 1
    progress.rows += n_rows
    if n_tokens is None:
        progress.skipped_steps += 1
        progress.skipped_in_a_row += 1
    else:
        progress.trained_tokens += n_tokens
        progress.skipped_in_a_row = 0


def _micro_batches(training: Training) -> tuple[dict[int, Batch], int]:
    """Return this process's micro-batches of the coming step by first row, and all its rows.

    Rows are dealt in micro-batches, so that any number of processes trains on the same rows; they
    are smaller than configured where a step would else not have one for each process. All run
    equally many, since parted weights are gathered together: at the end of the data a process may
    run one without targets.
    """
    count, rank = training.processes.count, training.processes.rank
    start, size = training.progress.rows, _rows_at_once(training)
    stop = start + training.rows_per_step
    if training.stream.n_rows is not None:
        stop = min(stop, training.stream.n_rows)
    starts = range(start, stop, size)
    batches = {s: training.stream.batch(s, min(s + size, stop)) for s in starts[rank::count]}
    if len(batches) < -(-len(starts) // count):
        batches[stop] = without_targets(training.stream.batch(start, start + 1))
    return batches, stop - start


def _rows_at_once(training: Training) -> int:
    """Return the rows of a forward pass: micro_batch_size, or an equal share that is smaller."""
    count, rows = training.processes.count, training.rows_per_step
    if count == 1:
        return training.micro_batch_size
    rounds = -(-rows // (training.micro_batch_size * count))
    return -(-rows // (rounds * count))


def hopeless(progress: Progress) -> TrainingStopped:
    """Return the error that says why a training cannot go on, with advice."""
    in_a_row, tries = progress.skipped_in_a_row, progress.rollbacks
    what = (
        f"{in_a_row} steps in a row up to step {progress.step} had no finite loss or gradient"
        if in_a_row > 1
        else f"step {progress.step} had no finite loss or gradient"
        if in_a_row
        else f"the weights are no longer finite after step {progress.step}"
    )
    return TrainingStopped(
        f"{what}, after {format_count(progress.trained_tokens)} trained tokens"
        + (f" and {tries} rollback{'s' if tries > 1 else ''}" if tries else ""),
        "The last save is whole, and train.log names the documents of skipped steps. Lower "
        "optimizer.learning_rate by half, or set precision to float32, and start again with "
        "--fresh.",
    )
