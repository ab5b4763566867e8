"""Who completes the prompts, and the file that keeps what was written.

    {"id": "3-0", "prompt_id": "fact-04", "sample": 0, "text": " and so …",
     "finish_reason": "stop", "n_tokens": 57}

Sample k of prompt i has the same seed for every model. Each text is a line as soon as it ends, so a
run that was stopped draws only what is missing.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinyllm import journal
from tinyllm.byte_level import without_surrogates
from tinyllm.config.eval_stories import WriterConfig
from tinyllm.config.generation import Sampling
from tinyllm.data.rows import read_rows
from tinyllm.errors import DataError, TinyLLMError, UsageError
from tinyllm.evaluation.story_evaluation.prompts import PromptSet, StoryPrompt
from tinyllm.evaluation.story_metrics import StorySample
from tinyllm.files import require_file
from tinyllm.generation.batch import Batch
from tinyllm.generation.engine import Engine
from tinyllm.generation.prompting import prompt_ids, turn_markers
from tinyllm.generation.steps import Passage, join_passages
from tinyllm.journal import Journal
from tinyllm.reporting import Reporter
from tinyllm.seeding import derive_seed

UNKNOWN = "unknown"
"""The finish reason where a file of completions names none."""

COMPLETIONS = "completions.jsonl"
"""What the file of a model's completions is called."""

_PURPOSE = "story completion"


@dataclass(frozen=True)
class Written:
    """The completions of one model, prompt by prompt, sample by sample."""

    name: str
    samples: tuple[StorySample, ...]
    path: Path
    n_missing: int = 0
    """Completions that a file lacks, or that a writer did not come up with."""

    @property
    def sha256(self) -> str:
        """Name the texts: the same texts of the same prompts have the same hash."""
        rows = [[s.prompt_id, s.sample, s.text] for s in self.samples]
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def completion_row(
    index: int, sample: int, prompt: StoryPrompt, text: str, reason: str, n_tokens: int
) -> dict[str, Any]:
    """Return a text's line of completions.jsonl."""
    return {
        "id": f"{index}-{sample}",
        "prompt_id": prompt.id,
        "sample": sample,
        "text": text,
        "finish_reason": reason,
        "n_tokens": n_tokens,
    }


def call_seed(seed: int, index: int) -> int:
    """Return the seed of a prompt's samples, whoever writes them."""
    return derive_seed(seed, _PURPOSE, index)


def draw_completions(
    engine: Engine,
    prompts: PromptSet,
    config: WriterConfig,
    seed: int,
    path: Path,
    reporter: Reporter,
) -> None:
    """Draw what `path` lacks of a checkpoint's completions, all in one batch.

    Raises UsageError for a prompt that leaves no room in the context.
    """
    there = {entry.id for entry in journal.scan(path)}
    with Journal(path) as kept:
        wanted = [
            (i, k)
            for i in range(len(prompts.prompts))
            for k in range(config.n_samples)
            if f"{i}-{k}" not in there
        ]
        if not wanted:
            return
        batch = engine.open_batch()
        asked = {i: _ask(engine, prompts.prompts[i], config) for i in {i for i, _ in wanted}}
        places = {
            batch.add(asked[i][0], asked[i][1], seed=call_seed(seed, i), index=i, sample=k): (i, k)
            for i, k in wanted
        }
        total = len(prompts.prompts) * config.n_samples
        n_done = total - len(wanted)
        with reporter.progress("writing stories", total, "stories", n_done) as progress:
            for passages in _finished(batch, set(places)):
                whole = join_passages(passages)
                prompt = prompts.prompts[whole.index]
                reason = "stop" if whole.finish_reason == "stop_string" else whole.finish_reason
                kept.append(
                    completion_row(
                        whole.index, whole.sample, prompt, whole.text, reason, len(whole.ids)
                    )
                )
                progress.advance(1)


def _ask(engine: Engine, prompt: StoryPrompt, config: WriterConfig) -> tuple[list[int], Sampling]:
    """Return the ids to go on from and the settings: those of the config, not the checkpoint's.

    A beginning is gone on with as it is; an instruction goes through the chat template.
    """
    loaded = engine.loaded
    is_raw = not prompt.is_instruction or loaded.template is None
    stops = () if is_raw or loaded.template is None else tuple(turn_markers(loaded.template))
    sampling = Sampling(
        temperature=config.temperature,
        top_p=config.top_p,
        max_new_tokens=config.max_new_tokens,
        stop=stops,
        stop_on_loop=False,  # a text that goes round in circles is a text, too
    )
    text = f"{prompt.text}\n\n" if is_raw and prompt.is_instruction else prompt.text
    try:
        ids = prompt_ids(loaded, text, raw=is_raw)
        engine.require_room([ids])
    except UsageError as error:
        raise UsageError(f"prompt {prompt.id!r}: {error.message}", error.hint) from error
    return ids, sampling


def _finished(batch: Batch, going: set[int]) -> Iterable[list[Passage]]:
    """Yield the passages of each text when it ends."""
    parts: dict[int, list[Passage]] = {}
    while going:
        for ticket, outcome in batch.step_at_once():
            if isinstance(outcome, TinyLLMError):
                raise outcome
            parts.setdefault(ticket, []).append(outcome)
            if outcome.finish_reason is not None:
                going.discard(ticket)
                yield parts.pop(ticket)


def read_completions(
    path: Path, prompts: PromptSet, n_samples: int | None, name: str | None = None
) -> Written:
    """Read a file of completions, ours or others'.

    A row without `sample` is the next one of its prompt. Rows of prompts that are not in the set,
    and samples from `n_samples` on, are left out. Raises DataError for a row that is no completion
    and for a file without any of these prompts.
    """
    require_file(path, "file of completions")
    by_id = {prompt.id: prompt for prompt in prompts.prompts}
    found: dict[tuple[str, int], StorySample] = {}
    counts: dict[str, int] = {}
    for number, row in enumerate(read_rows(path), 1):
        prompt_id, sample, text, reason = _completion(f"{path}:{number}", row, counts)
        counts[prompt_id] = counts.get(prompt_id, 0) + 1
        if prompt_id not in by_id or (n_samples is not None and sample >= n_samples):
            continue
        if (prompt_id, sample) in found:
            raise DataError(f"{path}:{number}: sample {sample} of {prompt_id!r} stands there twice")
        prompt = by_id[prompt_id]
        found[prompt_id, sample] = StorySample(
            prompt_id, sample, prompt.text, text, reason, prompt.words, prompt.features
        )
    if not found:
        raise DataError(
            f"{path} has no completion of these prompts",
            f'Its rows need a `prompt_id` such as "{prompts.prompts[0].id}".',
        )
    order = {prompt.id: i for i, prompt in enumerate(prompts.prompts)}
    samples = sorted(found.values(), key=lambda s: (order[s.prompt_id], s.sample))
    wanted = len(by_id) * n_samples if n_samples is not None else len(by_id) * max(counts.values())
    return Written(name or path.stem, tuple(samples), path, max(0, wanted - len(samples)))


def _completion(
    place: str, row: Mapping[str, Any], counts: dict[str, int]
) -> tuple[str, int, str, str]:
    prompt_id, text = row.get("prompt_id"), row.get("text", row.get("completion"))
    if isinstance(prompt_id, int) and not isinstance(prompt_id, bool):
        prompt_id = str(prompt_id)
    if not isinstance(prompt_id, str) or not isinstance(text, str):
        raise DataError(
            f"{place}: this is no completion",
            'Write {"prompt_id": …, "text": …} on every line.',
        )
    sample = row.get("sample", counts.get(prompt_id, 0))
    if isinstance(sample, bool) or not isinstance(sample, int) or sample < 0:
        raise DataError(f"{place}: sample is a whole number from 0, found {sample!r:.40}")
    return prompt_id, sample, without_surrogates(text), str(row.get("finish_reason") or UNKNOWN)


def names_of(paths: Sequence[Path]) -> list[str]:
    """Return a name for each model: its file's, or of a completions.jsonl its folder's.

    Where two have the same name the later one gets a number.
    """
    names: list[str] = []
    for path in paths:
        plain = path.absolute().parent.name if path.name == COMPLETIONS else path.stem
        name, number = plain, 2
        while name in names:
            name, number = f"{plain}-{number}", number + 1
        names.append(name)
    return names
