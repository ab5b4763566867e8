"""What `tinyllm infer` writes of an answer, what the answers depend on, and what they sum up to."""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tinyllm.checkpoint import SpeakingModel, checkpoint_fingerprint
from tinyllm.config.generation import InferConfig, Sampling
from tinyllm.data.manifest import Manifest, Source, author
from tinyllm.files import sha256_file
from tinyllm.generation.engine import Completion
from tinyllm.generation.prompting import settings
from tinyllm.generation.prompts_file import STANDARD_INPUT, Prompt
from tinyllm.reporting import counted
from tinyllm.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt as the model reads it, and the settings in force for it, with the seed."""

    prompt: Prompt
    ids: list[int]
    sampling: Sampling


def dumps(value: object) -> str:
    """Return one line of JSON."""
    return json.dumps(value, ensure_ascii=False) + "\n"


def answer_line(question: Question, completion: Completion, tokenizer: Tokenizer) -> str:
    """Return the line of JSON that stands for an answer. The same text gives the same line."""
    record: dict[str, object] = {
        "id": question.prompt.id,
        "sample": completion.sample,
        **question.prompt.to_json(),
        "text": completion.text,
        "finish_reason": completion.finish_reason,
        "n_prompt_tokens": len(question.ids),
        "n_tokens": len(completion.ids),
        "seed": question.sampling.seed,
    }
    if question.sampling.logprobs is not None:
        record["logprobs"] = _logprobs(completion, tokenizer)
    return dumps(record)


def _logprobs(completion: Completion, tokenizer: Tokenizer) -> list[dict[str, object]]:
    return [
        {
            **_token(odds.token_id, odds.logprob, tokenizer),
            "top": [_token(token_id, logprob, tokenizer) for token_id, logprob in odds.top],
        }
        for odds in completion.odds or ()
    ]


def _token(token_id: int, logprob: float, tokenizer: Tokenizer) -> dict[str, object]:
    return {
        "token": tokenizer.token_text(token_id),
        "token_id": token_id,
        "logprob": round(logprob, 6),
    }


def made_with(
    path: Path,
    config: InferConfig,
    questions: Sequence[Question],
    loaded: SpeakingModel,
    seed: int,
) -> Manifest:
    """Return the manifest of answers that are still to be drawn: what they depend on.

    The device counts as it was asked for: `auto` may go on elsewhere, where rounding can differ.
    """
    sampling = settings(loaded, config.sampling, raw=config.raw).model_copy(update={"seed": seed})
    prompts_path, checkpoint = config.prompts_file, loaded.info.path
    is_file = prompts_path is not None and prompts_path != STANDARD_INPUT
    values: dict[str, Any] = {
        "checkpoint_sha256": checkpoint_fingerprint(checkpoint),
        "prompts_sha256": _fingerprint(questions),
        "n": config.n,
        "sampling": sampling.model_dump(mode="json"),
        "raw": config.raw,
        "system": config.system,
        "dtype": config.dtype,
        "device": config.device,
    }
    return Manifest(
        name=path.name,
        format="records",
        documents=0,
        bytes=0,
        sha256="",
        sources=(
            Source(
                str(prompts_path) if is_file else "the command line or standard input",
                sha256_file(prompts_path) if is_file and prompts_path is not None else None,
                documents=len(questions),
            ),
            Source(str(checkpoint), values["checkpoint_sha256"]),
        ),
        settings=json.loads(json.dumps(values)),
        written_by=author("infer"),
    )


def _fingerprint(questions: Sequence[Question]) -> str:
    """Return the SHA-256 of all prompts with their names and settings of their own."""
    digest = hashlib.sha256()
    for prompt in (question.prompt for question in questions):
        own = prompt.sampling.model_dump_json(exclude_unset=True) if prompt.sampling else None
        digest.update(json.dumps([prompt.id, prompt.to_json(), own]).encode() + b"\n")
    return digest.hexdigest()


@dataclass
class Tally:
    """What was drawn, and how fast."""

    started: float = 0.0
    first_token: float | None = None
    n_tokens: int = 0
    n_texts: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    first: Completion | None = None

    def count_token(self) -> None:
        """Take note of a token that has just been drawn."""
        if self.first_token is None:
            self.first_token = time.perf_counter()
        self.n_tokens += 1

    def add(self, completion: Completion) -> None:
        """Count a whole text."""
        self.n_texts += 1
        self.reasons[completion.finish_reason] += 1
        self.first = self.first or completion

    def sentence(self, seed: int) -> str:
        """Say how many texts there were, how fast they came and why they ended."""
        elapsed_seconds = time.perf_counter() - self.started
        waited_seconds = (self.first_token or self.started) - self.started
        ended = ", ".join(f"{reason} {count:,}" for reason, count in self.reasons.items())
        return (
            f"{counted(self.n_texts, 'text')}, {counted(self.n_tokens, 'token')} in "
            f"{elapsed_seconds:.2f} s ({self.n_tokens / elapsed_seconds:,.0f} tokens/s, the first "
            f"after {1000 * waited_seconds:.0f} ms), seed {seed}, ended by: {ended}"
        )
