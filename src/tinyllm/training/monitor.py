"""What a run shows and writes down of itself: figures of its steps, troubles, measurements."""

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tinyllm.device import memory_in_use
from tinyllm.reporting import Progress as ProgressBar
from tinyllm.reporting import Reporter
from tinyllm.training.budget import expected_steps
from tinyllm.training.loop import StepReport, Training
from tinyllm.training.objective import SHOWN_FIGURES
from tinyllm.training.run_folder import RunFolder
from tinyllm.training.spikes import SPIKE_SCORE
from tinyllm.training.validation import Measurement

_SHOWN_EVERY_SECONDS = 0.25
_SPEED_WINDOW = 50


@dataclass
class RunMonitor:
    """Tell of a training on the screen, in `metrics.jsonl`, in the log and to the trackers.

    Every process counts its steps; only the main one shows and keeps them.
    """

    training: Training
    folder: RunFolder
    reporter: Reporter
    bar: ProgressBar
    log: logging.Logger
    track: Callable[[Mapping[str, float | str]], None]
    """Hand figures to the trackers."""
    utilization: Callable[[float], float | None]
    """The share of the device's peak that so many tokens a second are, where the peak is known."""
    micro_batch_size: int = field(init=False)
    """Rows in one forward pass at the latest step."""
    _recent: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=_SPEED_WINDOW))
    _shown: float = 0.0

    def __post_init__(self) -> None:
        self.micro_batch_size = self.training.micro_batch_size

    def after_step(self, report: StepReport) -> None:
        """Count a step, show and keep its figures, and warn of what is wrong with it."""
        self._recent.append((report.n_tokens, report.seconds))
        if self.training.processes.is_main:
            self._show(report)
        self._tell_trouble(report)
        self._tell_smaller(report)

    def measured(
        self, step: int, measurement: Measurement, of_pairs: Mapping[str, float] | None = None
    ) -> None:
        """Tell of a measurement of the held-out split, and of the figures of pairs kept aside."""
        if not self.training.processes.is_main:
            return
        figures: dict[str, float | str] = {
            "validation_loss_nats": measurement.loss_nats,
            "validation_perplexity": measurement.perplexity,
            "validation_bits_per_byte": measurement.bits_per_byte,
            **(of_pairs or {}),
        }
        self.reporter.metrics(step, figures)
        self._keep({"step": step, **figures})
        self.log.info("step %d validation loss %.4f nats", step, measurement.loss_nats)

    def went_back(self, step: int) -> None:
        """Tell that the run has returned from a step to an earlier one."""
        progress = self.training.progress
        if not self.training.processes.is_main:
            return
        text = (
            f"went back from step {step} to step {progress.step}, and on with "
            f"{progress.learning_rate_scale:g} of the learning rate"
        )
        self.log.warning(text)
        self.reporter.warn(text)
        self._keep(
            {
                "step": progress.step,
                "rolled_back_from_step": step,
                "learning_rate_scale": progress.learning_rate_scale,
            }
        )

    def tokens_per_second(self) -> float:
        """Trained tokens over measured seconds of the recent steps."""
        tokens = sum(n for n, _ in self._recent)
        seconds = sum(s for _, s in self._recent)
        return tokens / max(seconds, 1e-9)

    def _eta_seconds(self) -> float | None:
        """Estimate the time left from recent steps and the wall-clock budget."""
        progress, limits = self.training.progress, self.training.limits
        left = []
        if limits.total_steps is not None:
            mean = sum(s for _, s in self._recent) / len(self._recent)
            left.append(mean * (limits.total_steps - progress.step))
        if limits.max_seconds is not None:
            left.append(limits.max_seconds - progress.elapsed_seconds)
        return max(0.0, min(left)) if left else None

    def _show(self, report: StepReport) -> None:
        progress = self.training.progress
        figures: dict[str, float | str] = {
            self.training.objective.loss_name: report.loss_nats,
            "learning_rate": report.learning_rate,
            "grad_norm": report.grad_norm,
            "tokens_per_second": self.tokens_per_second(),
        }
        row = {
            "step": report.step,
            **figures,
            "trained_tokens": progress.trained_tokens,
            "elapsed_seconds": progress.elapsed_seconds,
            **report.figures,
            **({} if report.spike_score is None else {"loss_spike_score": report.spike_score}),
            "data_wait_share": report.data_seconds / max(report.seconds, 1e-9),
        }
        used = self.utilization(self.tokens_per_second())
        if used is not None:
            row["model_flops_utilization"] = used
        for name in SHOWN_FIGURES & report.figures.keys():
            figures[name] = report.figures[name]
        now = time.monotonic()
        if now - self._shown >= _SHOWN_EVERY_SECONDS:
            self._shown = now
            reserve = self.training.reserve_seconds
            self.bar.total = expected_steps(self.training.limits, progress, reserve)
            eta = self._eta_seconds()
            if eta is not None:
                figures["eta_seconds"] = eta
            figures["memory_bytes"] = row["memory_bytes"] = memory_in_use(
                self.training.processes.device
            )
            self.reporter.metrics(report.step, figures)
        self._keep(row)
        self.bar.advance(1)

    def _keep(self, row: Mapping[str, float | str]) -> None:
        self.folder.append_metrics(row)
        self.track(row)

    def _tell_trouble(self, report: StepReport) -> None:
        """Warn of a step that was skipped, or whose loss jumped; the log names its documents."""
        if report.skipped:
            text = (
                f"step {report.step} skipped: loss {report.loss_nats:g}, "
                f"gradient norm {report.grad_norm:g}"
            )
        elif report.spike_score is not None and report.spike_score >= SPIKE_SCORE:
            text = (
                f"step {report.step}: the loss jumped to {report.loss_nats:.3f} nats, "
                f"{report.spike_score:.1f} running standard deviations above its mean"
            )
        else:
            return
        if self.training.processes.is_main:
            documents = self.training.stream.documents(report.rows.start, report.rows.stop)
            self.log.warning("%s; documents %s", text, ", ".join(map(str, documents)))
            self.reporter.warn(text)

    def _tell_smaller(self, report: StepReport) -> None:
        before, self.micro_batch_size = self.micro_batch_size, report.micro_batch_size
        if report.micro_batch_size >= before:
            return
        text = (
            f"memory ran out at step {report.step}: micro_batch_size is "
            f"{report.micro_batch_size} from here on, and a step keeps its "
            f"{self.training.rows_per_step} rows"
        )
        self.log.warning(text)
        if self.training.processes.is_main:
            self.reporter.warn(text)
