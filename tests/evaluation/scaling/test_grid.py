"""Folders of trained models, read before anything is written."""

from pathlib import Path

import pytest

from tinyllm.config.base import load_config
from tinyllm.config.compare import CompareConfig
from tinyllm.errors import DataError
from tinyllm.evaluation.scaling import run
from tinyllm.reporting import SilentReporter


def test_a_folder_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    flags = {"models": [str(tmp_path / "nowhere")], "scaling": True}
    with pytest.raises(DataError, match="there is no folder"):
        run(load_config(CompareConfig, flags=flags), SilentReporter())
    assert not list(tmp_path.iterdir())
