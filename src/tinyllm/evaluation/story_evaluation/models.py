"""The models of one evaluation: where their completions come from, and having them written."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tinyllm
from tinyllm.checkpoint import find_checkpoint
from tinyllm.config.eval_stories import EvalStoriesConfig
from tinyllm.errors import DataError, ProviderError
from tinyllm.evaluation.report import report_head
from tinyllm.evaluation.story_evaluation.asking import ask_all, open_ledgers, settle
from tinyllm.evaluation.story_evaluation.folder import SEVERAL, EvaluationFolder, ModelFolder
from tinyllm.evaluation.story_evaluation.foreign_writer import (
    WritingWork,
    collected,
    writing_identity,
)
from tinyllm.evaluation.story_evaluation.prompts import PromptSet
from tinyllm.evaluation.story_evaluation.writers import (
    Written,
    draw_completions,
    names_of,
    read_completions,
)
from tinyllm.files import read_json, sha256_file, write_text
from tinyllm.generation.opening import open_engine
from tinyllm.journal import quarantine
from tinyllm.providers.opening import open_provider
from tinyllm.providers.pipeline.ledgers import repair
from tinyllm.reporting import Reporter

TASK = "stories"
_PROVIDER = "provider"


@dataclass(frozen=True)
class Source:
    """A model that is evaluated: a checkpoint, a file of completions, or the provider (None)."""

    name: str
    path: Path | None
    is_checkpoint: bool
    folder: ModelFolder


def sources_of(
    config: EvalStoriesConfig, reporter: Reporter
) -> tuple[EvaluationFolder, list[Source]]:
    """Return the folder of an evaluation and its models; without any named, the newest checkpoint.

    Raises CheckpointError when there is none.
    """
    names: tuple[str | None, ...] = config.checkpoints
    if not names and not config.completions and not config.has_foreign_writer:
        names = (None,)
    checkpoints = []
    for name in names:
        found = find_checkpoint(name)
        if found.was_sought:
            reporter.note(f"checkpoint: {found.path} ({found.reason})")
        checkpoints.append(found.path)
    paths = [*checkpoints, *config.completions]
    if config.has_foreign_writer:
        paths.append(Path(_model_name(config)))
    folder = EvaluationFolder(config.output or _default_folder(paths, checkpoints))
    sources = []
    for i, (name, path) in enumerate(zip(names_of(paths), paths, strict=True)):
        is_checkpoint = i < len(checkpoints)
        is_provider = config.has_foreign_writer and i + 1 == len(paths)
        own = folder.path if len(paths) == 1 else folder.path / name
        sources.append(Source(name, None if is_provider else path, is_checkpoint, ModelFolder(own)))
    return folder, sources


def _model_name(config: EvalStoriesConfig) -> str:
    """Name the provider's model so that it can be a folder's name."""
    provider = config.writer.provider
    section = getattr(provider, provider.kind)
    name = str(getattr(section, "model", None) or provider.kind)
    return Path(name.rstrip("/")).name.replace(".", "-") or _PROVIDER


def _default_folder(paths: list[Path], checkpoints: list[Path]) -> Path:
    if len(paths) == 1 and (checkpoints or paths[0].suffix):
        return paths[0].with_name(f"{paths[0].stem}-eval") / TASK
    return SEVERAL


def read_all(
    config: EvalStoriesConfig, prompts: PromptSet, sources: list[Source]
) -> Iterator[tuple[Written, dict[str, Any]]]:
    """Yield what every model wrote before, with the head of its report. Raises DataError."""
    for source in sources:
        if source.path is not None and not source.is_checkpoint:
            written = read_completions(source.path, prompts, config.writer.n_samples, source.name)
            yield written, foreign_head(written, "completions")
            continue
        if not source.folder.writing.is_file():
            raise DataError(f"{source.name} wrote nothing yet", "Run it without --reparse first.")
        path = source.folder.completions
        head = read_json(source.folder.writing)["head"]
        yield read_completions(path, prompts, config.writer.n_samples, source.name), head


def write_all(
    config: EvalStoriesConfig, prompts: PromptSet, sources: list[Source], reporter: Reporter
) -> Iterator[tuple[Written, dict[str, Any]]]:
    """Have every model's completions written, and yield them with the head of their report."""
    for source in sources:
        if source.path is None:
            yield _by_provider(config, prompts, source, reporter)
        elif source.is_checkpoint:
            yield _by_checkpoint(config, prompts, source, reporter)
        else:
            written = read_completions(source.path, prompts, config.writer.n_samples, source.name)
            yield written, foreign_head(written, "completions")


def repair_journals(folder: EvaluationFolder, sources: list[Source], reporter: Reporter) -> None:
    """Move broken lines of all journals of an evaluation aside."""
    repair(folder.judge, reporter, locks=False)
    for source in sources:
        repair(source.folder.writer, reporter, locks=False)
        if source.is_checkpoint and quarantine(source.folder.completions):
            reporter.warn(f"broken lines of {source.folder.completions} were moved aside")


def _by_checkpoint(
    config: EvalStoriesConfig, prompts: PromptSet, source: Source, reporter: Reporter
) -> tuple[Written, dict[str, Any]]:
    assert source.path is not None
    engine = open_engine(
        source.path, reporter, device=config.device, max_batch_size=config.writer.batch_size
    )
    head = report_head(engine.loaded, TASK)
    identity = {
        **writing_identity(prompts, config.writer, config.seed),
        "checkpoint_sha256": head["sha256"],
    }
    settle(source.folder.writing, source.folder.path, identity, head=head)
    path = source.folder.completions
    draw_completions(engine, prompts, config.writer, config.seed, path, reporter)
    return read_completions(path, prompts, config.writer.n_samples, source.name), head


def _by_provider(
    config: EvalStoriesConfig, prompts: PromptSet, source: Source, reporter: Reporter
) -> tuple[Written, dict[str, Any]]:
    """Ask a provider for completions, and collect what came in a completions.jsonl."""
    provider_config = config.writer.provider
    with ExitStack() as stack:
        provider = open_provider(provider_config, reporter)
        asked = provider.capabilities()
        ledgers = open_ledgers(
            source.folder.writer.folder, config.model_dump(mode="json"), reporter, stack
        )
        work = WritingWork(
            prompts, config.writer, config.seed, asked, ledgers.state,
            continues=provider_config.kind == "transformers" and provider_config.transformers.raw,
        )  # fmt: skip
        head = foreign_head(None, asked.kind, asked.model)
        settle(source.folder.writing, source.folder.path, work.identity(), head=head)
        ask_all(
            work, provider, provider_config, ledgers, reporter,
            max_attempts=3, grace_seconds=config.grace_seconds,
        )  # fmt: skip
    rows = collected(source.folder.writer)
    if not rows:
        raise ProviderError(
            f"{source.name} wrote no completion",
            f"Look at {source.folder.writer.rejects} and {source.folder.writer.attempts}.",
        )
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    write_text(source.folder.completions, lines)
    written = read_completions(
        source.folder.completions, prompts, config.writer.n_samples, source.name
    )
    return written, head


def foreign_head(written: Written | None, kind: str, model: str | None = None) -> dict[str, Any]:
    """Return the first keys of results.json for a model that is no checkpoint of ours."""
    return {
        "task": TASK,
        "checkpoint": None,
        "sha256": sha256_file(written.path) if written is not None else None,
        "parameters": None,
        "kind": kind,
        "model": model,
        "tinyllm_version": tinyllm.__version__,
    }
