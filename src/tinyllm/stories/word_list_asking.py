"""Lists of words from a provider: request i is a pure function of the seed and i."""

import hashlib
import json
import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from tinyllm.config.vocabulary import VocabularyConfig
from tinyllm.providers.base import Capabilities, Completion, usage_to_json
from tinyllm.providers.pipeline.work import Accepted, Ask, Rejected, Verdict, sampling_of_attempt
from tinyllm.records import Message
from tinyllm.seeding import derive_seed, random_for
from tinyllm.stories.vocabulary import CLASSES

_LETTERS = "abcdefghijklmnopqrstuvwy"
_BULLET = re.compile(r"^[\s\-*•\d.)\]\[\"']+|[\s.;\"'\]]+$")
_FEWEST = 3


@cache
def _resource() -> dict[str, Any]:
    text = files("tinyllm.stories").joinpath("word_list_prompts.json").read_text("utf-8")
    content: dict[str, Any] = json.loads(text)
    return content


def words_in(answer: str) -> list[str]:
    """Return what an answer lists, one entry a line or between commas, as it is written."""
    entries = (_BULLET.sub("", entry) for entry in re.split(r"[\n,]", answer))
    return [entry for entry in entries if entry]


class WordListWork:
    """Requests for words, the classes in turn."""

    def __init__(self, config: VocabularyConfig, asked: Capabilities) -> None:
        self._config, self._asked = config, asked
        self._accepted: dict[int, int] = {}
        self._sha = hashlib.sha256(json.dumps(self.identity(), sort_keys=True).encode()).hexdigest()

    def identity(self) -> dict[str, Any]:
        """Return what the answers are a function of: neither targets nor rules are part of it."""
        resource = _resource()
        return {
            "seed": self._config.seed,
            "ages": list(self._config.ages),
            "words_per_request": self._config.words_per_request,
            "prompts_version": resource["version"],
            "prompts_sha256": hashlib.sha256(json.dumps(resource).encode()).hexdigest(),
            "provider": {"kind": self._asked.kind, "model": self._asked.model},
            "sampling": self._config.sampling.model_dump(mode="json"),
        }

    @property
    def offsets(self) -> list[tuple[int, int]]:
        """(index, offset in the ledger) of every answer, in the order of the requests."""
        return sorted(self._accepted.items())

    @property
    def n_items(self) -> int:
        """How many requests may be made."""
        return self._config.max_requests

    def item_id(self, index: int) -> str:
        """Return the id of a request."""
        return f"{self._sha[:12]}-{index}"

    def leader(self, index: int) -> int | None:
        """No request waits for another."""
        return None

    def ask(self, index: int, rejected: Sequence[str]) -> Ask | Rejected:
        """Ask for words of one class about one topic."""
        name = CLASSES[index % len(CLASSES)]
        seed = derive_seed(self._config.seed, "word list call", index, len(rejected))
        return Ask(
            (Message("user", self.prompt(index)),),
            sampling_of_attempt(self._config.sampling, rejected, seed),
            name,
        )

    def prompt(self, index: int) -> str:
        """Return the text of a request: topics in turn, then again with other letters."""
        resource, name = _resource(), CLASSES[index % len(CLASSES)]
        random = random_for(self._config.seed, "word list", index)
        topics = resource["topics"][name]
        topic = topics[(index // len(CLASSES)) % len(topics)]
        youngest, oldest = self._config.ages
        values = {
            "n": str(self._config.words_per_request),
            "kind": resource["kinds"][name],
            "form": resource["forms"][name],
            "ages": f"{youngest} to {oldest}" if youngest < oldest else str(youngest),
            "topic": topic.replace("{letter}", random.choice(_LETTERS)),
        }
        return str(resource["prompt"]).format_map(values)

    def examine(self, index: int, attempt: int, ask: Ask, completion: Completion) -> Verdict:
        """Take an answer that lists something; which words are good is judged later, together."""
        words = words_in(completion.text)
        if len(words) < _FEWEST:
            return Rejected("no_list", len(words), completion.text)
        record = {
            "class": ask.plan,
            "words": words,
            "attempt": attempt,
            "model": self._asked.model,
            "usage": usage_to_json(completion.usage),
        }
        return Accepted(hashlib.sha256(self.item_id(index).encode()).hexdigest()[:16], record)

    def note_accepted(self, index: int, offset: int) -> None:
        """Learn where an answer stands in the ledger."""
        self._accepted[index] = offset

    def count_kept(self) -> int:
        """Count the answers."""
        return len(self._accepted)
