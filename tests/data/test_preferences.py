"""Pairs of answers: what is read as one, and what is refused by file and line."""

import json
from pathlib import Path
from typing import Any

import pytest

from tinyllm.data.preferences import read_preferences
from tinyllm.errors import DataError
from tinyllm.records import Message
from tinyllm.reporting import SilentReporter

ASKED = {"role": "user", "content": "Tell a story."}


def pairs(path: Path, prompt: Any) -> list[tuple[Message, ...]]:
    row = {"prompt": prompt, "chosen": "Once …", "rejected": "No."}
    path.write_text(json.dumps(row))
    return [pair.prompt for pair in read_preferences([str(path)], SilentReporter())]


@pytest.mark.parametrize("prompt", [" Tell a story. ", [ASKED]])
def test_a_prompt_is_a_text_or_turns(tmp_path: Path, prompt: Any) -> None:
    assert pairs(tmp_path / "p.jsonl", prompt) == [(Message("user", "Tell a story."),)]


@pytest.mark.parametrize(
    "turn", [{"role": "tool", "content": "7"}, {"role": "user", "content": None}, "Hello"]
)
def test_a_prompt_is_never_read_without_one_of_its_turns(tmp_path: Path, turn: Any) -> None:
    with pytest.raises(DataError, match=r"p\.jsonl.*holds no pair"):
        pairs(tmp_path / "p.jsonl", [turn, ASKED])
