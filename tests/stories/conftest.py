"""A fault server for each test, and what an undisturbed run makes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stories.fault_server import FaultServer
from tests.stories.small_runs import data_of, make


@pytest.fixture
def server() -> Iterator[FaultServer]:
    """A server that answers properly until a test tells it otherwise."""
    with FaultServer() as serving:
        yield serving


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The data set of a short run without any fault."""
    output: Path = tmp_path_factory.mktemp("undisturbed")
    with FaultServer() as serving:
        make(output, serving)
    return data_of(output)
