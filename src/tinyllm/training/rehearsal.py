"""`tinyllm train --dry-run`: a training measured before it is begun.

Everything is built as for the training itself; some real steps, a save, a measurement and a
sample are taken in a folder that goes when they are done. What is told is measured, and only the
projection onto the whole length is arithmetic. The cache of the tokenized text stays: the
training will want it.
"""

import itertools
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tinyllm.config.model import ModelConfig
from tinyllm.config.train_sections import MICRO_BATCH_SIZE
from tinyllm.data.preferences import Pairs
from tinyllm.errors import ConfigError
from tinyllm.model.advice import warnings_for
from tinyllm.model.foreign import ForeignNetwork, ForeignShape
from tinyllm.model.lora import count_parameters
from tinyllm.model.sizing import training_memory
from tinyllm.reporting import format_bytes
from tinyllm.training import memory
from tinyllm.training.fitting import fit_to_memory, require_room
from tinyllm.training.forecast import Forecast
from tinyllm.training.loop import StepReport, take_step
from tinyllm.training.objective import likelihoods_of
from tinyllm.training.prepare import Network
from tinyllm.training.rows import validation_batches
from tinyllm.training.sitting import Sitting
from tinyllm.training.validation import measure

_UNTIMED_STEPS = 2
_LEAST_STEPS, _MOST_STEPS = 5, 200
_STEP_SECONDS = 5.0
_MEASURE_SECONDS = 3.0
_ALL_TRAINS = "weights, gradients and optimizer"
_PARTS = {
    "embed_tokens": "token embedding",
    "embed_positions": "position embedding",
    "self_attn": "attention",
    "mlp": "feed-forward",
    "lm_head": "head",
}


class Rehearsal(Sitting):
    """A sitting in a folder that does not last, of a few steps."""

    def forecast(self, available_bytes: int | None = None) -> Forecast:
        """Measure some steps and project them; `available_bytes` overrides what is free.

        Raises OutOfMemory when not even one row fits.
        """
        self._refuse_the_hopeless(available_bytes)
        with self.reporter.stage("measure"), self.folder.open_log() as self.log:
            self.build()
            device = self.processes.device
            fits = self._fit(available_bytes)
            memory.forget_peak(device)
            reports = self._steps()
            seconds_per_save = _timed(self.keeper.save)
            seconds_per_measure = self._seconds_per_measure()
            seconds_per_sample = _timed(lambda: self._sample(0)) if self._prompts else 0.0
            seconds_before = self._seconds_to_ask()
            peak = memory.peak(device)
        tokens = sum(r.n_tokens for r in reports)
        seconds = sum(r.seconds for r in reports)
        n_steps, eta = self._project(
            seconds / len(reports), seconds_per_save, seconds_per_measure, seconds_per_sample
        )
        trained_tokens = round(tokens / len(reports) * n_steps)
        parts = parameters_by_part(self.model)
        checkpoint, state = _bytes(self.keeper.written), _bytes(self.folder.states)
        n_checkpoints = 1 if self.rows.validation is None else 2
        per_parameter = trained_tokens / sum(parts.values())
        return Forecast(
            parameters=parts,
            n_steps=n_steps,
            rows_per_step=self.training.rows_per_step,
            micro_batch_size=self.training.micro_batch_size,
            fits=fits,
            available_bytes=self.available_bytes,
            peak_memory_bytes=peak,
            tokens_per_second=tokens / seconds,
            data_wait_share=sum(r.data_seconds for r in reports) / seconds,
            eta_seconds=seconds_before + eta,
            trained_tokens=trained_tokens,
            tokens_per_parameter=per_parameter,
            checkpoint_bytes=checkpoint,
            state_bytes=state,
            disk_bytes=n_checkpoints * checkpoint + (self.config.checkpoint.keep + 1) * state,
            verdict=self._verdict(fits),
            warnings=[
                *self._doubts_of_the_shape(),
                *(_amount(per_parameter) if self.config.lora is None else []),
            ],
        )

    @property
    def _prompts(self) -> bool:
        return bool(self.config.samples.prompts)

    def _refuse_the_hopeless(self, available_bytes: int | None) -> None:
        """Refuse a network that alone is larger than memory: to build it would harm the machine."""
        device = self.compute.device
        free = memory.available(device) if available_bytes is None else available_bytes
        least, what = self._least()
        if least > free:
            raise ConfigError(
                f"does not fit: {what} take {format_bytes(least)}, and {format_bytes(free)} are "
                "free",
                "Take a smaller model; see `tinyllm config schema` for model.preset.",
            )

    def _least(self) -> tuple[int, str]:
        """Return the bytes that a training cannot do without, and what they are for."""
        shape = self.beginning.model_config
        if isinstance(shape, ForeignShape):
            width = 2 if self._settled_compute().precision == "bf16" else 4
            weights = width * shape.n_parameters
        else:
            parts = training_memory(shape, 1, 1, optimizer=self.config.optimizer.name)
            if self.config.lora is None:
                return parts.weights + parts.gradients + parts.optimizer, _ALL_TRAINS
            weights = parts.weights
        # hardly anything beside the frozen weights, which are packed to an eighth at most
        return weights // (8 if self.base.packs else 1), "weights"

    def _doubts_of_the_shape(self) -> list[str]:
        shape = self.model.config
        return warnings_for(shape) if isinstance(shape, ModelConfig) else []

    def _fit(self, available_bytes: int | None) -> bool:
        """Set the largest micro-batch that fits, at most the wanted one; say whether it is it."""
        wanted = self.training.micro_batch_size
        if self.config.batch.micro_batch_size == "auto":
            wanted = self.training.rows_per_step
        fitting = fit_to_memory(
            self.training, wanted, self.rows.train.context_length, available_bytes
        )
        self.available_bytes = fitting.available_bytes
        self.training.micro_batch_size = require_room(fitting)
        return (
            self.config.batch.micro_batch_size == "auto" or self.training.micro_batch_size == wanted
        )

    def _verdict(self, fits: bool) -> str:
        size, rows = self.training.micro_batch_size, self.training.rows_per_step
        if fits:
            return "fits"
        return (
            f"does not fit: set micro_batch_size {size} and grad_accum_steps {-(-rows // size)}, "
            'or micro_batch_size "auto", which keeps the rows of a step'
        )

    def _steps(self) -> list[StepReport]:
        """Take the first steps of the training; return all but the slow first ones."""
        total = self.training.limits.total_steps or _MOST_STEPS
        reports: list[StepReport] = []
        began = time.monotonic()
        while len(reports) < min(total, _MOST_STEPS):
            reports.append(take_step(self.training))
            enough = len(reports) >= _UNTIMED_STEPS + _LEAST_STEPS
            if enough and time.monotonic() - began > _STEP_SECONDS:
                break
        return reports[_UNTIMED_STEPS:] or reports[-1:]

    def _seconds_per_measure(self) -> float:
        """Time a part of the validation rows, and scale it up to those that will be measured."""
        loader = self.rows.validation
        if loader is None:
            return 0.0
        limit = self.config.evaluation.max_tokens
        total = loader.n_targets if limit is None else min(limit, loader.n_targets)
        began, done = time.monotonic(), 0
        for batch in validation_batches(self.config, loader):
            placed = self.processes.place(batch)
            done += measure(self.processes.model, [placed], self.byte_lengths).n_tokens
            if time.monotonic() - began > _MEASURE_SECONDS:
                break
        return (time.monotonic() - began) * max(1.0, total / max(1, done))

    def _seconds_to_ask(self) -> float:
        """Time what the starting model says of some pairs, and scale it up to all."""
        pairs = self.rows.train
        if not isinstance(pairs, Pairs):
            return 0.0
        batch = self.processes.place(pairs.batch(range(min(len(pairs), MICRO_BATCH_SIZE))))
        seconds = _timed(lambda: likelihoods_of(self.processes.model, [batch]))
        return seconds * 2 * len(pairs) / len(batch.targets)

    def _project(
        self, step: float, save: float, measurement: float, sample: float
    ) -> tuple[int, float]:
        """Return the steps that will be taken, and the seconds of the whole training."""
        config, limits = self.config, self.training.limits

        def seconds(n_steps: int) -> float:
            measured = {*range(0, n_steps + 1, config.evaluation.every_steps), n_steps} - {0}
            saved = {*range(0, n_steps + 1, config.checkpoint.every_steps), n_steps} - {0}
            sampled = {*range(0, n_steps + 1, config.samples.every_steps), n_steps} - {0}
            if self.rows.validation is None:
                measured = set()
            n_saves = len(saved | measured) + 1  # the last one twice, with what was measured
            return (
                n_steps * step
                + n_saves * save
                + len(measured) * measurement
                + (len(sampled) * sample if self._prompts else 0.0)
            )

        if limits.max_seconds is None:
            assert limits.total_steps is not None
            return limits.total_steps, seconds(limits.total_steps)
        n_steps = max(1, int(limits.max_seconds / step))
        n_steps = max(1, round(n_steps * limits.max_seconds / seconds(n_steps)))
        if limits.total_steps is not None and seconds(limits.total_steps) < limits.max_seconds:
            return limits.total_steps, seconds(limits.total_steps)
        return n_steps, limits.max_seconds


def parameters_by_part(model: Network) -> dict[str, int]:
    """Count parameters by what they are for, in the order they are met.

    Of a network that is not ours: which are frozen, and which are the adapters'.
    """
    if isinstance(model, ForeignNetwork):
        n_trained, n_all = count_parameters(model)
        return {"frozen": n_all - n_trained, "adapters": n_trained}
    counts: Counter[str] = Counter()
    for name, parameter in model.named_parameters():
        words = name.split(".")
        part = next((_PARTS[word] for word in words if word in _PARTS), "norms")
        counts[part] += parameter.numel()
    return dict(counts)


def folder_that_exists(path: Path) -> Path:
    """Return the nearest folder above a path that is there already."""
    return next(p for p in itertools.chain([path], path.parents) if p.is_dir())


def _amount(tokens_per_parameter: float) -> list[str]:
    if tokens_per_parameter >= 1:
        return []
    few = (
        f"{tokens_per_parameter:.2g} tokens for each parameter are few: train longer, on more "
        "text, or a smaller model (about 20 are usual)"
    )
    return [few]


def _timed(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


def _bytes(place: Path) -> int:
    """Return the size of a file, or of all in a folder."""
    return sum(path.stat().st_size for path in [place, *place.rglob("*")] if path.is_file())
