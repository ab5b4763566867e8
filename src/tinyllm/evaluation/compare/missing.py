"""Measure what no report has: bits per byte, questions, stories without a judge.

Each report goes where its own command would put it, beside the checkpoint, so that it is there the
next time, for whoever asks.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tinyllm.checkpoint import LoadedModel, load_checkpoint
from tinyllm.config.compare import CompareConfig
from tinyllm.config.evaluation import EvalLossConfig
from tinyllm.device import choose_device, prepare_arithmetic
from tinyllm.evaluation.compare.subjects import StoredReport, Subject, reports_of
from tinyllm.evaluation.loss import run as measure_loss
from tinyllm.evaluation.report import data_head
from tinyllm.reporting import Reporter, SilentReporter


def complete(
    subjects: Sequence[Subject], config: CompareConfig, reporter: Reporter
) -> list[Subject]:
    """Make the missing reports of every checkpoint, and return the subjects with them."""
    return [_completed(subject, config, reporter) for subject in subjects]


def _completed(subject: Subject, config: CompareConfig, reporter: Reporter) -> Subject:
    if subject.info is None or subject.sha256 is None:
        return subject
    todo = [work for work in (_loss_work(subject, config),) if work is not None]
    if not todo:
        return subject
    device = choose_device(config.device)
    prepare_arithmetic(device)
    loaded = load_checkpoint(subject.path, device=str(device))
    for work in todo:
        with reporter.stage(f"measure {subject.name}"):
            work(loaded, reporter)
    reports = reports_of(subject.path, subject.sha256, SilentReporter())
    return replace(subject, reports=tuple(reports))


Work = Callable[[LoadedModel, Reporter], object]


def _loss_work(subject: Subject, config: CompareConfig) -> Work | None:
    """Return what measures the loss on the data named; None where a report has it."""
    if config.data is None:
        return None
    data = data_head(config.data)

    def is_of(report: StoredReport) -> bool:
        return (
            report.task == "loss"
            and _same_data(report.results.get("data"), data)
            and report.results.get("max_documents") == config.max_documents
        )

    if any(map(is_of, subject.reports)):
        return None
    name = f"loss-{Path(config.data.replace(':', '-')).stem}"
    if config.max_documents is not None:
        name += f"-{config.max_documents}"
    wanted = EvalLossConfig(
        data=config.data,
        max_documents=config.max_documents,
        output=_beside(subject.path, name),
        device=config.device,
    )
    return lambda loaded, reporter: measure_loss(loaded, wanted, reporter)


def _same_data(known: object, wanted: Mapping[str, Any]) -> bool:
    """Tell by hash; of what is not one file, by its name."""
    key = "sha256" if wanted["sha256"] is not None else "source"
    return isinstance(known, Mapping) and known.get(key) == wanted[key]


def _beside(checkpoint: Path, name: str) -> Path:
    return checkpoint.with_name(f"{checkpoint.stem}-eval") / name
