"""What happens between steps: the state is saved, the loss measured; a run may end or go back.

Saving always comes before measuring, so that nothing that fails afterwards costs the run. What is
shown and written down of it is `monitor.py`'s.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tinyllm.config.train import TrainConfig
from tinyllm.training.loop import StepReport, Training
from tinyllm.training.monitor import RunMonitor
from tinyllm.training.rollback import weights_are_finite
from tinyllm.training.save_clock import SaveClock
from tinyllm.training.validation import Measurement

_MEASURING_SHARE = 0.35
"""Time of a token that is only measured, as a share of one that is trained on."""
_RESERVE_AT_MOST = 0.3
"""Largest share of a wall-clock budget that is kept back for the last save and measurement."""


@dataclass
class Milestones:
    """Observe a training: tell of every step, save, measure and write samples when due.

    `save`, `save_best`, `save_counters`, `measure` and `write_samples` are what the workflow
    hands in; the last two may be None when there is nothing to measure or to prompt with.
    `restore_good` returns to the last good state, or tells that there is none.
    """

    config: TrainConfig
    training: Training
    monitor: RunMonitor
    log: logging.Logger
    save: Callable[[], None]
    save_best: Callable[[Measurement], None]
    save_milestone: Callable[[int], None]
    save_counters: Callable[[], None]
    restore_good: Callable[[], bool]
    measure: Callable[[], Measurement] | None
    write_samples: Callable[[int], None] | None
    measure_pairs: Callable[[], Mapping[str, float]] | None = None
    """Figures of pairs that were kept aside, where a preference is learnt."""
    n_measured_tokens: int = 0
    """Tokens of the held-out split that each measurement reads."""
    latest: Measurement | None = None
    saved_at: int = -1
    measured_at: int = -1
    sampled_at: int = -1
    save_clock: SaveClock = field(init=False)
    _took: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.save_clock = SaveClock(
            self.config.checkpoint.every_minutes,
            saved_at=self.training.clock(),
            is_saved=self.training.progress.step > 0,
        )

    def after_step(self, report: StepReport) -> None:
        """Tell of the step, save, measure and write samples, as due."""
        self.monitor.after_step(report)
        if self.measured_at < 0:
            self.training.reserve_seconds = self.expected_measuring_seconds()
        step = report.step
        if report.skipped:
            return
        if step % self.config.checkpoint.every_steps == 0 or self._time_to_save():
            self.save_now()
        self._keep_milestone(step)
        evaluation, samples = self.config.evaluation, self.config.samples
        is_due = step % evaluation.every_steps == 0, step % samples.every_steps == 0
        if not any(is_due) or self._the_last_ones_are_near():
            return
        if is_due[0]:
            self.measure_now()
        if is_due[1]:
            self.sample_now()

    def _time_to_save(self) -> bool:
        """Tell whether the main process's clock asks for a save; all of them save together."""
        processes = self.training.processes
        return processes.agree(processes.is_main and self.save_clock.is_due(self.training.clock()))

    def _the_last_ones_are_near(self) -> bool:
        """Tell whether measuring now would take the time in which the learning rate ends its fall.

        What is left out here is done when the training ends, moments later. Any process that finds
        it so decides for all: none may measure alone.
        """
        left = self.training.seconds_left()
        if left is None:
            return False
        return self.training.processes.agree(left < 3 * self.training.reserve_seconds)

    def catch_up(self) -> None:
        """Do what was due at the step from which the training goes on, where it was not done.

        A sitting may have ended between saving and measuring, and patience counts on measurements.
        """
        step, progress = self.training.progress.step, self.training.progress
        if step == 0:
            if self.config.preference is not None and self.measure is not None:
                self._measure_the_start(self.measure())
            return
        self._keep_milestone(step)
        if step % self.config.evaluation.every_steps == 0 and progress.measured_step != step:
            self.measure_now()

    def _measure_the_start(self, measurement: Measurement) -> None:
        """Keep what the starting weights say of the held-out split: forgetting begins there."""
        self.training.progress.first_bits_per_byte = measurement.bits_per_byte
        self.monitor.measured(0, measurement)

    def wants_to_stop(self) -> str | None:
        """End early when the model forgets, or when the validation loss no longer falls."""
        return self._forgets() or self._stands_still()

    def _forgets(self) -> str | None:
        preference, first = self.config.preference, self.training.progress.first_bits_per_byte
        watches = self.config.data.validation is not None and self.latest is not None
        if preference is None or preference.max_forgetting is None or not first or not watches:
            return None
        assert self.latest is not None
        grown = self.latest.bits_per_byte / first - 1
        if grown <= preference.max_forgetting:
            return None
        return (
            f"bits per byte of data.validation grew by {grown:.1%}, which is more than "
            f"preference.max_forgetting {preference.max_forgetting:g}"
        )

    def _stands_still(self) -> str | None:
        patience, progress = self.config.evaluation.patience, self.training.progress
        if patience is None or progress.evaluations_without_gain < patience:
            return None
        return (
            f"the validation loss has not fallen in {patience} measurements "
            f"since step {progress.best_step}"
        )

    def go_back(self) -> bool:
        """Return to the last good state, when there is one, and say so."""
        progress = self.training.progress
        step = progress.step
        if not self.restore_good():
            return False
        self.saved_at = progress.step
        self.measured_at = self.sampled_at = -1
        self.monitor.went_back(step)
        return True

    def save_now(self) -> None:
        """Save the state and the checkpoint of this step, once, unless its weights are lost."""
        step = self.training.progress.step
        if self.saved_at != step and not weights_are_finite(self.training.processes):
            self.log.warning("step %d not saved: its weights are not finite", step)
        elif self.saved_at != step:
            began = self.training.clock()
            self.save()
            self.saved_at = step
            self.save_clock.saved(began, self.training.clock())
            self.log.info("step %d saved in %.2f s", step, self.save_clock.took_seconds)

    def measure_now(self) -> None:
        """Measure the validation loss of this step, once, after saving it."""
        step, progress = self.training.progress.step, self.training.progress
        if self.measure is None or self.measured_at == step:
            return
        began = self.training.clock()
        self.save_now()
        self.latest = measurement = self.measure()
        self.measured_at = step
        if progress.measured_step == step:  # an earlier sitting ended here, and has counted it
            return
        if progress.best_loss_nats is None or measurement.loss_nats < progress.best_loss_nats:
            progress.best_loss_nats, progress.best_step = measurement.loss_nats, step
            progress.evaluations_without_gain = 0
            self.save_best(measurement)
        else:
            progress.evaluations_without_gain += 1
        progress.measured_step = step
        of_pairs = {} if self.measure_pairs is None else self.measure_pairs()
        self.monitor.measured(step, measurement, of_pairs)
        self.save_counters()
        self._reserve("measure", self.training.clock() - began)

    def _reserve(self, work: str, seconds: float) -> None:
        """Keep back as much of the budget as the last measurement and samples took this time."""
        self._took[work] = seconds
        if self.training.limits.max_seconds is not None:
            most = _RESERVE_AT_MOST * self.training.limits.max_seconds
            self.training.reserve_seconds = min(sum(self._took.values()), most)

    def _keep_milestone(self, step: int) -> None:
        every = self.config.checkpoint.milestones_every_steps
        if every is not None and step % every == 0:
            self.save_now()
            self.save_milestone(step)

    def sample_now(self) -> None:
        """Write samples of this step, once."""
        step = self.training.progress.step
        if self.write_samples is None or self.sampled_at == step:
            return
        self.sampled_at = step
        began = self.training.clock()
        self.write_samples(step)
        self._reserve("sample", self.training.clock() - began)

    def expected_measuring_seconds(self) -> float:
        """Guess how long a measurement takes before there was one: a third of training it."""
        if self.measure is None or self.training.limits.max_seconds is None:
            return 0.0
        guess = _MEASURING_SHARE * self.n_measured_tokens / self.monitor.tokens_per_second()
        return min(guess, _RESERVE_AT_MOST * self.training.limits.max_seconds)
