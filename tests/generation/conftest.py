"""A tiny model with random weights, as every test of the engine needs one."""

import pytest

from tests.tiny import tiny_loaded


@pytest.fixture(scope="session")
def plain():
    """A base model with a byte-level BPE tokenizer."""
    return tiny_loaded()


@pytest.fixture(scope="session")
def chatty():
    """The same model with a chat template."""
    return tiny_loaded(chat=True)
