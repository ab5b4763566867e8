"""Short runs of gen-stories against the fault server, with waits that a test can afford."""

import json
from pathlib import Path
from typing import Any

from tests.stories.fault_server import FaultServer
from tinyllm.config.base import load_config
from tinyllm.config.stories import StoriesConfig
from tinyllm.reporting import RecordingReporter, Reporter
from tinyllm.stories.workflow import RunOptions, StoriesResult, run

QUICK = {
    "provider.kind": "openai",
    "provider.openai.model": "teller",
    "provider.retries.base_seconds": 0.02,
    "provider.retries.longest_seconds": 0.1,
    "provider.retries.max_tries": 20,
    "provider.concurrency": 4,
    "n_stories": 8,
    "charts": False,
}
DATA = ("dataset.jsonl", "train.txt", "valid.txt")


def config_for(output: Path, server: FaultServer | str, **flags: Any) -> StoriesConfig:
    """Return a config of a short run; `__` in a name stands for a dot."""
    url = server if isinstance(server, str) else server.url
    given = {name.replace("__", "."): value for name, value in flags.items()}
    base = {"output": output, "provider.openai.base_urls": (url,)}
    return load_config(StoriesConfig, flags={**QUICK, **base, **given})


def make(
    output: Path,
    server: FaultServer | str,
    reporter: Reporter | None = None,
    options: RunOptions | None = None,
    **flags: Any,
) -> StoriesResult:
    """Run to the end, in this process."""
    return run(config_for(output, server, **flags), reporter or RecordingReporter(), options)


def lines(path: Path) -> list[dict[str, Any]]:
    """Return the records of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def ledger(output: Path, name: str) -> list[dict[str, Any]]:
    """Return one of a run's ledgers."""
    return lines(output / "stories-run" / f"{name}.jsonl")


def data_of(output: Path) -> dict[str, bytes]:
    """Return the bytes of a finished data set, by file."""
    return {name: (output / name).read_bytes() for name in DATA if (output / name).exists()}
