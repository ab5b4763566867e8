from collections.abc import Iterator

import pytest

from tests.data.file_server import FileServer


@pytest.fixture
def server() -> Iterator[FileServer]:
    """Return a file server on loopback."""
    with FileServer() as running:
        yield running
