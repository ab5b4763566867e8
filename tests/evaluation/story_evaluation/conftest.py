"""A judge's server for each test, and completions to judge."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.evaluation.story_evaluation.judges import fair, serve
from tests.evaluation.story_evaluation.small_runs import write_completions
from tests.stories.fault_server import FaultServer


@pytest.fixture
def server() -> Iterator[FaultServer]:
    """A server that judges fairly until a test tells it otherwise."""
    with FaultServer() as serving:
        serve(serving, fair)
        yield serving


@pytest.fixture
def completions(tmp_path: Path) -> Path:
    """What a model wrote."""
    return write_completions(tmp_path / "writer.jsonl")
