"""`tinyllm quickstart` from nothing to a chat model: joins corpus, recipe and examination.

demo/
    quickstart.json   the config; marks the folder as ours, so that it may be replaced
    data/             what was learned from, each file with its manifest
        gen-stories/  what that command leaves: the stories, their plans, a report, the journals
    tokenizer.json
    copying.safetensors  base.safetensors  chat.safetensors   each with its run folder
    results.json      all figures
"""

import shlex
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tinyllm.checkpoint import load_checkpoint, save_checkpoint
from tinyllm.config.base import load_config
from tinyllm.config.quickstart import QuickstartConfig
from tinyllm.config.tokenize import TokenizerSpec
from tinyllm.data.tokenize import prepare_tokenizer
from tinyllm.errors import Interrupted, UsageError
from tinyllm.files import os_error, write_json, write_text
from tinyllm.quickstart.corpus import Corpus, write_corpus
from tinyllm.quickstart.examination import TEMPERATURE, Examination, examine
from tinyllm.quickstart.recipe import plan
from tinyllm.reporting import Reporter
from tinyllm.training.workflow import TrainResult
from tinyllm.training.workflow import run as train

_MARK = "quickstart.json"


@dataclass(frozen=True)
class Stage:
    """One part of the demo; `tokens_per_second` only where it was a training, of its steps."""

    name: str
    seconds: float
    tokens_per_second: float | None = None


@dataclass(frozen=True)
class QuickstartResult:
    """What the demo came to."""

    checkpoint: Path
    n_parameters: int
    n_bytes: int
    """Size of the checkpoint file."""
    stages: list[Stage]
    examination: Examination

    @property
    def seconds(self) -> float:
        """Wall-clock time of all stages."""
        return sum(stage.seconds for stage in self.stages)

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {**asdict(self), "checkpoint": str(self.checkpoint), "seconds": self.seconds}


def run(config: QuickstartConfig, reporter: Reporter, *, resume: bool = False) -> QuickstartResult:
    """Make data, train, measure. With `resume`, go on where an interrupted demo stopped.

    An earlier demo in the output folder is replaced; a folder that holds anything else is
    refused with UsageError. Raises Interrupted after saving when asked to stop.
    """
    folder = config.output.absolute()
    _prepare_folder(folder, config, keeps_earlier=resume)
    stages: list[Stage] = []
    command = _resume_command(config)
    with _timed("write stories and facts", stages, reporter), _goes_on_with(command):
        corpus = write_corpus(folder / "data", config.seed, config.n_stories, reporter)
    with _timed("train the tokenizer", stages, reporter):
        tokenizer = _make_tokenizer(folder, corpus, reporter)
    for training in plan(config, corpus, tokenizer, folder):
        with _timed(f"train: {training.name}", stages, reporter):
            result = train(training, reporter, resume_command=command)
        tokens_per_second = result.trained_tokens / max(result.elapsed_seconds, 1e-9)
        stages[-1] = replace(stages[-1], tokens_per_second=tokens_per_second)
    with _timed("ask for stories and answers", stages, reporter):
        examination = _finish(config, corpus, result, reporter)
    finished = QuickstartResult(
        checkpoint=result.checkpoint,
        n_parameters=result.n_parameters,
        n_bytes=result.checkpoint.stat().st_size,
        stages=stages,
        examination=examination,
    )
    write_json(folder / "results.json", finished.to_json())
    return finished


def stored_config(folder: Path) -> QuickstartConfig:
    """Return what an interrupted demo was started with. Raises UsageError where there is none."""
    mark = folder / _MARK
    if not mark.is_file():
        raise UsageError(
            f"there is no demo to go on with in {folder}", "Leave --resume out to begin one."
        )
    return load_config(QuickstartConfig, mark, flags={"output": folder})


def _prepare_folder(folder: Path, config: QuickstartConfig, *, keeps_earlier: bool) -> None:
    try:
        is_ours = (folder / _MARK).is_file()
        if folder.exists() and not is_ours and (folder.is_file() or any(folder.iterdir())):
            raise UsageError(
                f"{folder} holds something else than a demo, which would be overwritten",
                "Choose another folder with --output.",
            )
        if is_ours and not keeps_earlier:
            shutil.rmtree(folder)
        (folder / "data").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise os_error(error, f"prepare the folder {folder}") from error
    write_json(folder / _MARK, config.model_dump(mode="json", exclude={"output"}))


@contextmanager
def _timed(name: str, stages: list[Stage], reporter: Reporter) -> Iterator[None]:
    """Report a stage and note how long it took."""
    began = time.monotonic()
    with reporter.stage(name):
        yield
    stages.append(Stage(name, time.monotonic() - began))


@contextmanager
def _goes_on_with(command: str) -> Iterator[None]:
    """Let what is stopped inside say how the demo, not a part of it, goes on."""
    try:
        yield
    except Interrupted as stopped:
        raise Interrupted(stopped.message, f"Go on with: {command}", stopped.exit_code) from None


def _make_tokenizer(folder: Path, corpus: Corpus, reporter: Reporter) -> Path:
    sources = [str(corpus.warm_up), str(corpus.stories)]
    tokenizer = prepare_tokenizer(TokenizerSpec(), sources, format="text", reporter=reporter)
    path = folder / "tokenizer.json"
    write_text(path, tokenizer.to_json())
    return path


def _finish(
    config: QuickstartConfig, corpus: Corpus, result: TrainResult, reporter: Reporter
) -> Examination:
    """Give the checkpoint the temperature that suits it, then measure it."""
    loaded = load_checkpoint(result.checkpoint)
    save_checkpoint(
        result.checkpoint,
        loaded.model,
        loaded.tokenizer,
        template=loaded.template,
        training=loaded.info.training,
        generation={"temperature": TEMPERATURE},
    )
    loaded = load_checkpoint(result.checkpoint)
    return examine(loaded, corpus, seed=config.seed, n_trials=config.n_trials, reporter=reporter)


def _resume_command(config: QuickstartConfig) -> str:
    return f"tinyllm quickstart --resume --output {shlex.quote(str(config.output))}"
