"""Tiny models with random weights."""

import pytest

from tests.tiny import tiny_loaded


@pytest.fixture(scope="session")
def plain():
    """A base model."""
    return tiny_loaded()


@pytest.fixture(scope="session")
def chatty():
    """The same model with a chat template."""
    return tiny_loaded(chat=True)
