"""Short runs of revise-stories: against a server on loopback whose answers go by rules, or none."""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.stories.batch_server import BatchServer
from tests.stories.fault_server import FaultServer
from tinyllm.config.base import load_config
from tinyllm.config.revision import ReviseStoriesConfig
from tinyllm.errors import TinyLLMError
from tinyllm.providers.base import CallSampling, Capabilities, Completion
from tinyllm.providers.offline import OfflineProvider
from tinyllm.providers.story_grammar import tell_story
from tinyllm.records import Message
from tinyllm.reporting import RecordingReporter, Reporter, SilentReporter
from tinyllm.stories.revision.offline_editor import OfflineEditor
from tinyllm.stories.revision.workflow import RevisionResult, run

ROLES = ("drafts", "critic", "reviser", "judge")
DATA = ("sft.jsonl", "prefs.jsonl", "revisions.jsonl")
TWO_RULES = Path(__file__).parent / "two_rules.json"
"""The principles that the editor by rules knows."""


class Everybody:
    """Writes stories for prompts, and edits where it is asked to edit."""

    def __init__(self) -> None:
        self._editor, self._writer = OfflineEditor(), OfflineProvider()

    def capabilities(self) -> Capabilities:
        """Say what the editor says."""
        return self._editor.capabilities()

    async def generate(
        self,
        messages: Sequence[Message],
        sampling: CallSampling,
        *,
        on_text: Callable[[str], None] | None = None,
    ) -> Completion:
        """Answer by who is meant."""
        is_marked = "\n--- story" in messages[-1].content
        provider = self._editor if is_marked else self._writer
        return await provider.generate(messages, sampling, on_text=on_text)

    async def aclose(self) -> None:
        """Do nothing."""


def everybody() -> FaultServer:
    """Return a server that is writer, critic, reviser and judge."""
    return FaultServer(Everybody())


def flawed(number: int) -> tuple[str, str]:
    """Return a prompt with a story: a third lacks the words, a third says things twice."""
    story = tell_story(1, number)
    prompt = f"Write a story with the words: {', '.join(story.words)}."
    if number % 3 == 0:
        return prompt, tell_story(1, number + 1000).text
    sentences = story.text.split(". ")
    twice = [*sentences[:2], *sentences[1:]]
    return prompt, ". ".join(twice if number % 3 == 1 else sentences)


def write_source(path: Path, n: int) -> Path:
    """Write prompts with stories, two in three of them flawed."""
    rows = ({"instruction": prompt, "story": story} for prompt, story in map(flawed, range(n)))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def config_for(
    source: Path, output: Path, server: FaultServer | BatchServer | None = None, **flags: Any
) -> Any:
    """Return a config; with a server, everybody answers there. `__` in a name is a dot."""
    given: dict[str, Any] = {"sources": (str(source),), "output": output}
    for role in ROLES if server is not None else ():
        asked = f"{role}.provider"
        given |= {
            f"{asked}.kind": "openai",
            f"{asked}.openai.model": role,
            f"{asked}.openai.base_urls": (server.url,) if server is not None else (),
            f"{asked}.retries.base_seconds": 0.02,
            f"{asked}.retries.longest_seconds": 0.1,
            f"{asked}.retries.max_tries": 100,
            f"{asked}.retries.breaker_window": 1000,
            f"{asked}.concurrency": 4,
        }
    given |= {name.replace("__", "."): value for name, value in flags.items()}
    return load_config(ReviseStoriesConfig, flags=given)


def revise(
    source: Path,
    output: Path,
    server: FaultServer | BatchServer | None = None,
    reporter: Reporter | None = None,
    **flags: Any,
) -> RevisionResult:
    """Run to the end, in this process."""
    return run(config_for(source, output, server, **flags), reporter or RecordingReporter())


def run_alone(config: ReviseStoriesConfig) -> None:
    """Be one run; the process ends with its exit code."""
    try:
        run(config, SilentReporter())
    except TinyLLMError as error:
        os._exit(error.exit_code)


def lines(path: Path) -> list[dict[str, Any]]:
    """Return the records of a file of JSON lines; none where there is no file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def ledger(output: Path, role: str, name: str) -> list[dict[str, Any]]:
    """Return one of a role's ledgers."""
    return lines(output / "revision-run" / role / f"{name}.jsonl")


def data_of(output: Path) -> dict[str, bytes]:
    """Return the bytes of what was made, by file."""
    return {name: (output / name).read_bytes() for name in DATA if (output / name).exists()}


def paid_twice(output: Path, server: FaultServer, bad: set[int]) -> int:
    """Return how many answers came that are in no journal. Checks that no id is there twice."""
    n_kept = 0
    for role in ROLES:
        accepted = [row["id"] for row in ledger(output, role, "stories")]
        rejects = [(row["id"], row["attempt"]) for row in ledger(output, role, "rejects")]
        assert len(accepted) == len(set(accepted))
        assert len(rejects) == len(set(rejects))
        n_kept += len(accepted) + len(rejects)
    n_requests = len(server.requests)
    return n_requests - sum(number in bad for number in range(n_requests)) - n_kept
