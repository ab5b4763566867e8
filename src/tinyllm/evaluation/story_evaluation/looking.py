"""What a run would ask and cost, and how far one is: without asking anybody."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from tinyllm import journal
from tinyllm.config.eval_stories import EvalStoriesConfig
from tinyllm.evaluation.story_evaluation.grading import conversation
from tinyllm.evaluation.story_evaluation.judging import require_rivals, subjects_for
from tinyllm.evaluation.story_evaluation.models import Source, sources_of
from tinyllm.evaluation.story_evaluation.prompts import PromptSet, read_prompt_set
from tinyllm.evaluation.story_evaluation.protocols import Protocol, protocol_for
from tinyllm.evaluation.story_evaluation.subjects import Subject
from tinyllm.evaluation.story_evaluation.writers import Written, read_completions
from tinyllm.evaluation.story_metrics import StorySample
from tinyllm.files import read_json
from tinyllm.providers.base import Usage, estimate_prompt_tokens
from tinyllm.providers.pipeline.budget import Purse, Spent
from tinyllm.providers.pipeline.figures import format_cost
from tinyllm.providers.pipeline.ledgers import read_state
from tinyllm.reporting import Reporter

_SAMPLED = 200
_REPLY_TOKENS = 100
_CHARACTERS_PER_TOKEN = 4
_NONCE = "00000000"


@dataclass(frozen=True)
class DryRun:
    """What a judge is asked about one text, and estimates for all of them."""

    question: str
    n_texts: int
    n_requests: int
    prompt_tokens: int
    likely_tokens: int
    most_tokens: int
    likely_cost: Decimal
    most_cost: Decimal

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; money as strings."""
        return {
            "question": self.question,
            "n_texts": self.n_texts,
            "n_requests": self.n_requests,
            "prompt_tokens": self.prompt_tokens,
            "likely_tokens": self.likely_tokens,
            "most_tokens": self.most_tokens,
            "likely_cost": str(self.likely_cost),
            "most_cost": str(self.most_cost),
        }

    def as_text(self) -> str:
        """Say it for people."""
        likely, most = format_cost(self.likely_cost), format_cost(self.most_cost)
        lines = [
            f"{self.question}\n",
            f"texts to grade   {self.n_texts:,}, our anchors and repeated gradings among them",
            f"requests         {self.n_requests:,}",
            f"prompt tokens    about {self.prompt_tokens:,}",
            f"reply tokens     about {self.likely_tokens:,}, {self.most_tokens:,} at most",
            f"cost             about {likely}, {most} at most, replies without grades aside",
        ]
        return "\n".join(lines)


def look_ahead(config: EvalStoriesConfig, reporter: Reporter) -> DryRun:
    """Project what judging takes. Texts that are not written yet count as long as they may be."""
    prompts = read_prompt_set(config.prompts).first(config.limit)
    protocol = protocol_for(config.judge.protocol, prompts)
    _, sources = sources_of(config, reporter)
    require_rivals(protocol, len(sources))
    models = [_so_far(config, prompts, source) for source in sources]
    subjects = subjects_for(config, protocol, models)
    sampled = subjects[:_SAMPLED]
    share = len(subjects) / len(sampled)
    prompt_tokens = round(share * sum(_prompt_tokens(s, protocol) for s in sampled))
    n_requests = len(subjects) * protocol.n_turns
    likely = n_requests * min(_REPLY_TOKENS, config.judge.sampling.max_tokens)
    most = n_requests * config.judge.sampling.max_tokens
    provider = config.judge.provider
    purse = Purse(provider.budget, provider.price, Spent())
    return DryRun(
        _question(subjects[0], protocol),
        len(subjects),
        n_requests,
        prompt_tokens,
        likely,
        most,
        purse.cost(Usage(prompt_tokens, likely)),
        purse.cost(Usage(prompt_tokens, most)),
    )


def _question(subject: Subject, protocol: Protocol) -> str:
    """Return all turns about one text, something standing in for what a judge says."""
    replies = ["(the judge's reply)"] * (protocol.n_turns - 1)
    return "\n\n".join(m.content for m in conversation(subject, protocol, replies, _NONCE))


def _prompt_tokens(subject: Subject, protocol: Protocol) -> int:
    """Count the tokens that all turns of one text send, about."""
    total = 0
    for turn in range(protocol.n_turns):
        reply = "x" * (_REPLY_TOKENS * _CHARACTERS_PER_TOKEN)
        total += estimate_prompt_tokens(conversation(subject, protocol, [reply] * turn, _NONCE))
    return total


def _so_far(config: EvalStoriesConfig, prompts: PromptSet, source: Source) -> Written:
    """Return a model's completions, made-up ones where they are not written."""
    path = source.folder.completions
    if source.path is not None and not source.is_checkpoint:
        return read_completions(source.path, prompts, config.writer.n_samples, source.name)
    there: Sequence[StorySample] = ()
    if path.is_file():
        there = read_completions(path, prompts, config.writer.n_samples).samples
    places = {(sample.prompt_id, sample.sample) for sample in there}
    text = " word" * (config.writer.max_new_tokens * _CHARACTERS_PER_TOKEN // len(" word"))
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
    replies: int
    replies_wanted: int | None
    """None while nobody was asked."""
    rejects: dict[str, int]
    spent: Spent

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "written": self.written,
            "wanted_per_model": self.n_wanted,
            "replies": self.replies,
            "replies_wanted": self.replies_wanted,
            "rejects": self.rejects,
            "spent": self.spent.to_json(),
        }

    def as_text(self) -> str:
        """Say it in a few lines."""
        lines = [f"written    {n:,} of {self.n_wanted:,} by {m}" for m, n in self.written.items()]
        if self.replies_wanted is None:
            return "\n".join([*lines, "judged     nobody was asked"])
        cost = format_cost(self.spent.cost)
        lines += [
            f"judged     {self.replies:,} of {self.replies_wanted:,} replies",
            f"requests   {self.spent.requests:,}, {self.spent.tokens:,} tokens, cost {cost}",
        ]
        return "\n".join([*lines, *(f"rejected   {n:,} {r}" for r, n in self.rejects.items())])


def read_status(config: EvalStoriesConfig, reporter: Reporter) -> Status:
    """Read where a run stands, also while it runs. Raises DataError when there is none."""
    prompts = read_prompt_set(config.prompts).first(config.limit)
    folder, sources = sources_of(config, reporter)
    folder.require_run()
    state, spent = read_state(folder.judge)
    wanted = None
    if folder.judge_run.is_file():
        wanted = int(read_json(folder.judge_run)["n_items"])
    return Status(
        {source.name: _n_written(source, prompts) for source in sources},
        len(prompts.prompts) * config.writer.n_samples,
        state.n_accepted,
        wanted,
        dict(state.reasons.most_common()),
        spent,
    )


def _n_written(source: Source, prompts: PromptSet) -> int:
    if source.path is not None and not source.is_checkpoint:
        return len(read_completions(source.path, prompts, None).samples)
    kept = source.folder.completions if source.path is not None else source.folder.writer.accepted
    return sum(1 for _ in journal.scan(kept))
