"""Summaries by a provider, each asked for once: the same engine and journals as the stories'."""

import hashlib
import json
from array import array
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from tinyllm.config.instructions import SummaryConfig
from tinyllm.providers.base import Capabilities, Completion, usage_to_json
from tinyllm.providers.pipeline.work import Accepted, Ask, Rejected, Verdict, sampling_of_attempt
from tinyllm.records import Message
from tinyllm.seeding import derive_seed, random_for
from tinyllm.stories.cleaning import clean, patterns
from tinyllm.stories.instructions.gather import read_record, read_records
from tinyllm.stories.instructions.record import StoryRecord

_MIN_WORDS = 4
_ENDS = (".", "!", "?", '"')


@cache
def _resource() -> dict[str, Any]:
    text = files("tinyllm.stories.instructions").joinpath("summaries.json").read_text("utf-8")
    content: dict[str, Any] = json.loads(text)
    return content


def is_wanted(record: StoryRecord, config: SummaryConfig, seed: int) -> bool:
    """Whether a story's summary is to be asked for."""
    if not config.ask or record.summary:
        return False
    return random_for(seed, f"summary {record.text_hash}").random() < config.share


class SummaryWork:
    """The stories that want a summary, numbered in the order of the records."""

    def __init__(
        self, config: SummaryConfig, seed: int, records: Path, asked: Capabilities, sha: str
    ) -> None:
        """Find the stories; 8 bytes each are held. `sha` is the records' SHA-256."""
        self._config, self._seed, self._records, self._asked = config, seed, records, asked
        self._sha = sha
        self._offsets = array(
            "q", (o for o, record in read_records(records) if is_wanted(record, config, seed))
        )
        self._n_accepted = 0

    def identity(self) -> dict[str, Any]:
        """Return what the summaries are a function of, as plain JSON values."""
        return {
            "records_sha256": self._sha,
            "seed": self._seed,
            "share": self._config.share,
            "prompt_version": _resource()["version"],
            "prompt_sha256": hashlib.sha256(_resource()["prompt"].encode()).hexdigest(),
            "provider": {"kind": self._asked.kind, "model": self._asked.model},
            "sampling": self._config.sampling.model_dump(mode="json"),
            "max_words": self._config.max_words,
            "max_attempts": self._config.max_attempts,
        }

    @property
    def n_items(self) -> int:
        """How many summaries are wanted."""
        return len(self._offsets)

    def item_id(self, index: int) -> str:
        """Return the id of a summary."""
        return f"{self._sha[:12]}-{index}"

    def leader(self, index: int) -> int | None:
        """No summary waits for another."""
        return None

    def ask(self, index: int, rejected: Sequence[str]) -> Ask:
        """Ask for a summary, with more room after a cut."""
        record = read_record(self._records, self._offsets[index])
        seed = derive_seed(self._seed, f"summary call {record.text_hash}", len(rejected))
        prompt = _resource()["prompt"].replace("{story}", record.story)
        return Ask(
            (Message("user", prompt),),
            sampling_of_attempt(self._config.sampling, rejected, seed),
            record,
        )

    def examine(self, index: int, attempt: int, ask: Ask, completion: Completion) -> Verdict:
        """Judge a summary by its form; whether it is true is not judged."""
        text = " ".join(clean(completion.text)[0].split())
        fault = self._fault(text, ask.plan)
        if fault is not None:
            return Rejected(*fault, text=completion.text)
        record = {
            "story_id": ask.plan.id,
            "summary": text,
            "attempt": attempt,
            "model": self._asked.model,
            "finish_reason": completion.finish_reason,
            "usage": usage_to_json(completion.usage),
        }
        key = hashlib.sha256(self.item_id(index).encode()).hexdigest()[:16]
        return Accepted(key, record)

    def _fault(self, text: str, story: StoryRecord) -> tuple[str, object] | None:
        n_words = len(text.split())
        if n_words < _MIN_WORDS:
            return "too_short", n_words
        if n_words > self._config.max_words:
            return "too_long", n_words
        if not text.endswith(_ENDS):
            return "no_terminal_punct", text[-20:]
        for name in ("refusal", "meta", "special_token", "markup"):
            found = patterns()[name].search(text)
            if found is not None:
                return name, found.group()[:40]
        return ("copied", n_words) if text in " ".join(story.story.split()) else None

    def note_accepted(self, index: int, offset: int) -> None:
        """Count a summary."""
        self._n_accepted += 1

    def count_kept(self) -> int:
        """Count the summaries; none is a duplicate of another."""
        return self._n_accepted
