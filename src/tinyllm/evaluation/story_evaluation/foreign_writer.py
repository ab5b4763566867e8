"""Completions by a provider: a model of `transformers`, a server, anything that answers."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from tinyllm import journal
from tinyllm.config.eval_stories import WriterConfig
from tinyllm.evaluation.story_evaluation.prompts import PromptSet, StoryPrompt
from tinyllm.evaluation.story_evaluation.writers import call_seed, completion_row
from tinyllm.providers.base import CallSampling, Capabilities, Completion
from tinyllm.providers.pipeline.ledgers import LedgerPaths, State
from tinyllm.providers.pipeline.work import Accepted, Ask, Rejected, Verdict, server_seed
from tinyllm.records import Message
from tinyllm.seeding import derive_seed


class WritingWork:
    """Sample k of prompt i is item `i * n_samples + k`. Every text that ended is taken as it is.

    A text without a word is one, too. `continues` says that the provider goes on with a text; one
    that answers messages is told to.
    """

    def __init__(
        self,
        prompts: PromptSet,
        config: WriterConfig,
        seed: int,
        asked: Capabilities,
        state: State,
        *,
        continues: bool,
    ) -> None:
        self._prompts, self._config, self._seed = prompts, config, seed
        self._asked, self._continues = asked, continues
        self._n_accepted = state.n_accepted
        text = json.dumps(self.identity(), sort_keys=True)
        self._sha = hashlib.sha256(text.encode()).hexdigest()

    def identity(self) -> dict[str, Any]:
        """Return what the texts are a function of, as plain JSON values."""
        return {
            **writing_identity(self._prompts, self._config, self._seed),
            "writer": {"kind": self._asked.kind, "model": self._asked.model},
            "instruction": None if self._continues else self._config.instruction,
        }

    @property
    def n_items(self) -> int:
        """How many texts are wanted."""
        return len(self._prompts.prompts) * self._config.n_samples

    def item_id(self, index: int) -> str:
        """Return a text's id."""
        return f"{self._sha[:12]}-{index}"

    def leader(self, index: int) -> int | None:
        """No text waits for another."""
        return None

    def ask(self, index: int, rejected: Sequence[str]) -> Ask | Rejected:
        """Ask for a text."""
        i, k = divmod(index, self._config.n_samples)
        prompt = self._prompts.prompts[i]
        seed = derive_seed(call_seed(self._seed, i), "sample", k)
        return Ask(
            (Message("user", self._message(prompt)),),
            CallSampling(
                max_tokens=self._config.max_new_tokens,
                temperature=self._config.temperature,
                top_p=self._config.top_p,
                seed=server_seed(seed),
            ),
            (i, k, prompt),
            takes_any_ending=True,
        )

    def _message(self, prompt: StoryPrompt) -> str:
        if prompt.is_instruction or self._continues:
            return prompt.text
        return self._config.instruction.replace("{prompt}", prompt.text)

    def examine(self, index: int, attempt: int, ask: Ask, completion: Completion) -> Verdict:
        """Take what came."""
        i, k, prompt = ask.plan
        row = completion_row(
            i, k, prompt, completion.text, completion.finish_reason,
            completion.usage.completion_tokens,
        )  # fmt: skip
        del row["id"]
        key = hashlib.sha256(self.item_id(index).encode()).hexdigest()[:16]
        return Accepted(key, {"place": f"{i}-{k}", **row})

    def note_accepted(self, index: int, offset: int) -> None:
        """Count a text."""
        self._n_accepted += 1

    def count_kept(self) -> int:
        """Count the texts; equal ones are not duplicates."""
        return self._n_accepted


def writing_identity(prompts: PromptSet, config: WriterConfig, seed: int) -> dict[str, Any]:
    """Return what completions are a function of, the writer aside."""
    return {
        "prompts_sha256": prompts.sha256,
        "n_samples": config.n_samples,
        "temperature": config.temperature,
        "top_p": config.top_p,
        "max_new_tokens": config.max_new_tokens,
        "seed": seed,
    }


def collected(ledgers: LedgerPaths) -> list[dict[str, Any]]:
    """Return the lines of completions.jsonl from a provider's journal, in the plan's order."""
    rows = []
    for _, record in journal.read(ledgers.accepted):
        kept = ("prompt_id", "sample", "text", "finish_reason", "n_tokens")
        rows.append({"id": record["place"], **{key: record[key] for key in kept}})
    return sorted(rows, key=lambda row: tuple(map(int, row["id"].split("-"))))
