"""What a run would ask and cost, and how far one is: without asking anybody."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tinyllm import journal
from tinyllm.config.eval_stories import EvalStoriesConfig
from tinyllm.errors import DataError
from tinyllm.evaluation.story_evaluation.grading import conversation
from tinyllm.evaluation.story_evaluation.judging import require_rivals, subjects_for
from tinyllm.evaluation.story_evaluation.models import Source, sources_of
from tinyllm.evaluation.story_evaluation.prompts import PromptSet, read_prompt_set
from tinyllm.evaluation.story_evaluation.protocols import Protocol, protocol_for
from tinyllm.evaluation.story_evaluation.subjects import Subject
from tinyllm.evaluation.story_evaluation.writers import Written, read_completions
from tinyllm.evaluation.story_metrics import StorySample
from tinyllm.files import read_json
from tinyllm.providers.pipeline.looking import (
    SAMPLED,
    Projection,
    RunStatus,
    project,
    read_run_status,
)
from tinyllm.records import Message
from tinyllm.reporting import Reporter

_REPLY_TOKENS = 100
_CHARACTERS_PER_TOKEN = 4
_NONCE = "00000000"


@dataclass(frozen=True)
class DryRun:
    """All that a judge is asked about one text, and estimates for all of them."""

    question: str
    n_texts: int
    projection: Projection

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; money as strings."""
        values = self.projection.to_json()
        del values["prompts"]
        return {"question": self.question, "n_texts": self.n_texts, **values}

    def as_text(self) -> str:
        """Say it for people."""
        lines = [
            f"{self.question}\n",
            f"texts to judge   {self.n_texts:,}, our anchors and repeated gradings among them",
            f"requests         {self.projection.n_requests:,}",
            *self.projection.as_lines(),
        ]
        return "\n".join(lines)


def look_ahead(config: EvalStoriesConfig, reporter: Reporter) -> DryRun:
    """Project what judging takes. Texts that are not written yet count as long as they may be.

    Raises DataError where there is no text to judge, and as a run does for models and prompts.
    """
    prompts = read_prompt_set(config.prompts).first(config.limit)
    protocol = protocol_for(config.judge.protocol, prompts)
    _, sources = sources_of(config, reporter)
    require_rivals(protocol, len(sources))
    models = [_so_far(config, prompts, source) for source in sources]
    subjects = subjects_for(config, protocol, models)
    if not subjects:
        raise DataError(
            "there is nothing to judge: every text is empty, and `judge.anchors` is off"
        )
    sampled = [
        (str(number), _messages(subject, protocol, turn))
        for number, subject in enumerate(subjects[:SAMPLED])
        for turn in range(protocol.n_turns)
    ]
    whole = _messages(subjects[0], protocol, protocol.n_turns - 1, "(the judge's reply)")
    projection = project(
        config.judge.provider,
        sampled,
        len(subjects) * protocol.n_turns,
        likely_tokens=_REPLY_TOKENS,
        max_tokens=config.judge.sampling.max_tokens,
    )
    return DryRun("\n\n".join(m.content for m in whole), len(subjects), projection)


def _messages(
    subject: Subject,
    protocol: Protocol,
    turn: int,
    reply: str = "x" * (_REPLY_TOKENS * _CHARACTERS_PER_TOKEN),
) -> list[Message]:
    """Return the messages of a turn, something standing in for what a judge said before."""
    return conversation(subject, protocol, [reply] * turn, _NONCE)


def _so_far(config: EvalStoriesConfig, prompts: PromptSet, source: Source) -> Written:
    """Return a model's completions, made-up ones where they are not written."""
    path = source.folder.completions
    if source.path is not None and not source.is_checkpoint:
        return read_completions(source.path, prompts, config.writer.n_samples, source.name)
    there: Sequence[StorySample] = ()
    if path.is_file() and path.stat().st_size:
        there = read_completions(path, prompts, config.writer.n_samples).samples
    places = {(sample.prompt_id, sample.sample) for sample in there}
    n_words = max(1, config.writer.max_new_tokens * _CHARACTERS_PER_TOKEN // len(" word"))
    text = " word" * n_words
    made_up = [
        StorySample(prompt.id, k, prompt.text, text, "length", prompt.words, prompt.features)
        for prompt in prompts.prompts
        for k in range(config.writer.n_samples)
        if (prompt.id, k) not in places
    ]
    return Written(source.name, (*there, *made_up), path)


@dataclass(frozen=True)
class Status:
    """Where a run stands, from its journals."""

    written: dict[str, int]
    """Completions so far, by model."""
    n_wanted: int
    judged: RunStatus | None
    """The judge's replies; None while nobody was asked."""

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "written": self.written,
            "wanted_per_model": self.n_wanted,
            "judged": None if self.judged is None else self.judged.to_json(),
        }

    def as_text(self) -> str:
        """Say it in a few lines."""
        lines = [f"written    {n:,} of {self.n_wanted:,} by {m}" for m, n in self.written.items()]
        said = "judged     nobody was asked" if self.judged is None else self.judged.as_text()
        return "\n".join([*lines, said])


def read_status(config: EvalStoriesConfig, reporter: Reporter) -> Status:
    """Read where a run stands, also while it runs. Raises DataError when there is none."""
    prompts = read_prompt_set(config.prompts).first(config.limit)
    folder, sources = sources_of(config, reporter)
    folder.require_run()
    judged = None
    if folder.judge_run.is_file():
        n_items = int(read_json(folder.judge_run)["n_items"])
        judged = read_run_status(folder.judge, n_items, "replies")
    return Status(
        {source.name: _n_written(source, prompts) for source in sources},
        len(prompts.prompts) * config.writer.n_samples,
        judged,
    )


def _n_written(source: Source, prompts: PromptSet) -> int:
    if source.path is not None and not source.is_checkpoint:
        return len(read_completions(source.path, prompts, None).samples)
    kept = source.folder.completions if source.path is not None else source.folder.writer.accepted
    return sum(1 for _ in journal.scan(kept))
