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
from tinyllm.config.eval_stories import EvalStoriesConfig, WriterConfig
from tinyllm.config.evaluation import EvalLossConfig
from tinyllm.config.multiple_choice import QuestionsConfig
from tinyllm.data.multiple_choice_task import known_tasks
from tinyllm.device import choose_device, prepare_arithmetic
from tinyllm.errors import UsageError
from tinyllm.evaluation.compare.scores import is_whole
from tinyllm.evaluation.compare.subjects import StoredReport, Subject, reports_of
from tinyllm.evaluation.loss import run as measure_loss
from tinyllm.evaluation.multiple_choice.workflow import run as ask_questions
from tinyllm.evaluation.report import data_head
from tinyllm.evaluation.story_evaluation.workflow import run as evaluate_stories
from tinyllm.reporting import Reporter, SilentReporter

SHIPPED = ("beginnings", "instructions")
"""Prompts that can be named again from a report of them."""

_QUESTIONS = "openbookqa"

Work = Callable[[Reporter], object]
StorySettings = tuple[str, int, WriterConfig]
"""Prompts, seed, and how completions are drawn."""


def complete(
    subjects: Sequence[Subject], config: CompareConfig, reporter: Reporter
) -> list[Subject]:
    """Make the missing reports of every checkpoint, and return the subjects with them."""
    settings = _story_settings(subjects, config)
    return [_completed(subject, config, settings, reporter) for subject in subjects]


def _completed(
    subject: Subject, config: CompareConfig, settings: StorySettings, reporter: Reporter
) -> Subject:
    works = [
        _loss_work(subject, config),
        _question_work(subject, config),
        _story_work(subject, config, settings),
    ]
    todo = [work for work in works if work is not None]
    if not todo or subject.sha256 is None:
        return subject
    with reporter.stage(f"measure {subject.name}"):
        for work in todo:
            work(reporter)
    reports = reports_of(subject.path, subject.sha256, SilentReporter())
    return replace(subject, reports=tuple(reports))


def _loss_work(subject: Subject, config: CompareConfig) -> Work | None:
    """Return what measures the loss on the data named; None where a report has it."""
    if config.data is None or subject.info is None:
        return None
    data = data_head(config.data)
    name = f"loss-{Path(config.data.replace(':', '-')).stem}"
    if config.max_documents is not None:
        name += f"-{config.max_documents}"
    wanted = EvalLossConfig(
        data=config.data,
        max_documents=config.max_documents,
        output=_beside(subject.path, name),
        device=config.device,
    )

    def is_of(report: StoredReport) -> bool:
        return (
            report.task == "loss"
            and _same_data(report.results.get("data"), data)
            and report.results.get("max_documents") == wanted.max_documents
            and report.results.get("overlap") == wanted.overlap
        )

    if any(map(is_of, subject.reports)):
        return None
    return lambda reporter: measure_loss(_load(subject, config), wanted, reporter)


def _question_work(subject: Subject, config: CompareConfig) -> Work | None:
    """Return what asks the questions named, in plain text; None where a report has them."""
    if config.questions is None or subject.info is None:
        return None
    data = data_head(config.questions)
    for report in subject.reports:
        is_of = report.task == _QUESTIONS and _same_data(report.results.get("data"), data)
        if is_of and is_whole(report.results):
            return None
    task = known_tasks()[_QUESTIONS]
    wanted = QuestionsConfig(data=config.questions, device=config.device)
    return lambda reporter: ask_questions(_load(subject, config), task, wanted, reporter)


def _load(subject: Subject, config: CompareConfig) -> LoadedModel:
    device = choose_device(config.device)
    prepare_arithmetic(device)
    return load_checkpoint(subject.path, device=str(device))


def _same_data(known: object, wanted: Mapping[str, Any]) -> bool:
    """Tell by hash; of what is not one file, by its name."""
    key = "sha256" if wanted["sha256"] is not None else "source"
    return isinstance(known, Mapping) and known.get(key) == wanted[key]


def _beside(path: Path, name: str) -> Path:
    return path.with_name(f"{path.stem}-eval") / name


def _story_settings(subjects: Sequence[Subject], config: CompareConfig) -> StorySettings:
    """Return how stories were drawn for a model that has a report, so that others compare."""
    for subject in subjects:
        for report in subject.reports:
            if report.task == "stories" and report.results["prompts"]["name"] in SHIPPED:
                writer = dict(report.results["writer"])
                seed = int(writer.pop("seed"))
                return str(report.results["prompts"]["name"]), seed, WriterConfig(**writer)
    return SHIPPED[0], config.seed, WriterConfig(n_samples=config.n_completions)


def _story_work(subject: Subject, config: CompareConfig, settings: StorySettings) -> Work | None:
    """Return what has stories written and measured; None where a report has them."""
    if not config.stories or any(report.task == "stories" for report in subject.reports):
        return None
    if subject.info is None and subject.completions is None:
        return None
    prompts, seed, writer = settings
    wanted = EvalStoriesConfig(
        checkpoints=() if subject.completions else (str(subject.path),),
        completions=(subject.completions,) if subject.completions else (),
        prompts=prompts,
        seed=seed,
        writer=writer,
        output=_beside(subject.path, "stories"),
        device=config.device,
    )
    return lambda reporter: _write_stories(subject, wanted, reporter)


def _write_stories(subject: Subject, config: EvalStoriesConfig, reporter: Reporter) -> None:
    """Have stories written; a model that cannot go on with them is compared without."""
    try:
        evaluate_stories(config, reporter)
    except UsageError as error:  # a context that holds no beginning
        reporter.warn(f"{subject.name} writes no stories: {error.message}")
