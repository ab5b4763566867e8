"""Speed of training: steps of the very training that a config describes, and no run kept.

    config -> Assembly (data, network, optimizers, as for `tinyllm train`) -> timed steps -> figures

A config that names no text learns from a made-up one, whose vocabulary has the size wanted.
"""

import statistics
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tinyllm.bench.ceilings import Ceilings, measure_ceilings
from tinyllm.bench.made_up import write_made_up_text
from tinyllm.config.model import ModelConfig
from tinyllm.config.train import TrainConfig
from tinyllm.device import choose_compute, memory_in_use, prepare_arithmetic
from tinyllm.model.sizing import count_parameters, training_flops_per_token
from tinyllm.reporting import Reporter
from tinyllm.training import memory
from tinyllm.training.assembly import Assembly
from tinyllm.training.loop import StepReport, take_step
from tinyllm.training.run_folder import RunFolder
from tinyllm.training.start import Start

VOCAB_SIZE = 10_000
"""That of the made-up text."""
_EPOCH_TOKENS = 1_000_000
_MINUTES = 30.0
"""As long as this, a made-up training pretends to go on: what pays back in the end is done."""


@dataclass(frozen=True)
class TrainingSpeed:
    """What some steps of a training came to; times and speeds are medians over them."""

    n_parameters: int
    rows_per_step: int
    context_length: int
    device: str
    precision: str
    optimizer: str
    n_steps: int
    first_step_seconds: float
    """With everything that is done once: compiling, allocating."""
    step_seconds: float
    tokens_per_second: float
    gflops_per_second: float
    data_wait_share: float
    """Part of the time in which the step waited for its rows, 0 to 1."""
    peak_memory_bytes: int
    memory_before_bytes: int
    """What the process held before the network was built."""
    ceilings: Ceilings

    @property
    def ceiling_share(self) -> float:
        """Part of the arithmetic that the machine's matrix products could do, 0 to 1."""
        return self.gflops_per_second / self.ceilings.gflops_per_second

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {**asdict(self), "ceiling_share": self.ceiling_share}


def run(
    config: TrainConfig,
    reporter: Reporter,
    *,
    steps: int = 10,
    warmup_steps: int = 3,
    ceilings: Ceilings | None = None,
) -> TrainingSpeed:
    """Take steps and time them; the first ones are not counted.

    Raises what `tinyllm train` would raise for the config before its first step.
    """
    compute = choose_compute(config.device, config.precision)
    prepare_arithmetic(compute.device)
    before = memory_in_use(compute.device)
    with tempfile.TemporaryDirectory(prefix="tinyllm-bench-") as folder:
        built = _assemble(config, reporter, Path(folder))
        memory.forget_peak(compute.device)
        with memory.garbage_of_steps_only():
            reports = [take_step(built.training) for _ in range(warmup_steps + steps)]
        peak = memory.peak(compute.device)
    timed = reports[warmup_steps:]
    shape, context = built.model.config, built.rows.train.context_length
    assert isinstance(shape, ModelConfig)  # the bench makes its own networks
    speed = statistics.median(report.n_tokens / report.seconds for report in timed)
    return TrainingSpeed(
        n_parameters=count_parameters(shape).total,
        rows_per_step=built.training.rows_per_step,
        context_length=context,
        device=str(compute.device),
        precision=built.compute.precision,
        optimizer=config.optimizer.name,
        n_steps=len(timed),
        first_step_seconds=reports[0].seconds,
        step_seconds=statistics.median(report.seconds for report in timed),
        tokens_per_second=speed,
        gflops_per_second=speed * training_flops_per_token(shape, context) / 1e9,
        data_wait_share=_data_wait_share(timed),
        peak_memory_bytes=peak,
        memory_before_bytes=before,
        ceilings=ceilings or measure_ceilings(compute.device),
    )


@contextmanager
def made_up_data(vocab_size: int, *, n_tokens: int = _EPOCH_TOKENS) -> Iterator[Mapping[str, Any]]:
    """Yield settings of a TrainConfig that learns from a made-up text while the block lasts."""
    with tempfile.TemporaryDirectory(prefix="tinyllm-bench-text-") as folder:
        text = Path(folder, "made-up.txt")
        write_made_up_text(text, vocab_size, n_tokens)
        yield {
            "data": {"train": [str(text)], "validation_fraction": 0.0},
            "tokenizer": {"kind": "char", "vocab_size": vocab_size},
            "max_minutes": _MINUTES,
        }


def _assemble(config: TrainConfig, reporter: Reporter, folder: Path) -> Assembly:
    """Build a training in a folder that does not last."""
    compute = choose_compute(config.device, config.precision)
    checkpoint = folder / "bench.safetensors"
    run_folder = RunFolder.beside(checkpoint)
    built = Assembly(config, reporter, checkpoint, run_folder, compute, Start(None), "bench", "")
    built.build()
    built.processes.model.train()
    return built


def _data_wait_share(reports: list[StepReport]) -> float:
    return sum(r.data_seconds for r in reports) / sum(r.seconds for r in reports)


__all__ = ["VOCAB_SIZE", "TrainingSpeed", "made_up_data", "run"]
