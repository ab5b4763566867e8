"""Small pieces that training tests share."""

import json
import random
from pathlib import Path

import pytest

_WORDS = ["the", "cat", "dog", "sat", "ran", "on", "mat", "to", "big", "red", "hat", "saw", "sun"]


def make_text(path: Path, n_documents: int = 60, seed: int = 0) -> Path:
    """Write small stories of common words."""
    rng = random.Random(seed)
    stories = [
        " ".join(rng.choices(_WORDS, k=rng.randint(8, 40))) + "." for _ in range(n_documents)
    ]
    path.write_text("\n<|endoftext|>\n".join(stories) + "\n<|endoftext|>\n", encoding="utf-8")
    return path


def make_conversations(path: Path, n: int = 40, seed: int = 0) -> Path:
    """Write conversations with answers of unequal length."""
    rng = random.Random(seed)
    lines = []
    for i in range(n):
        messages = [
            {"role": "user", "content": " ".join(rng.choices(_WORDS, k=rng.randint(2, 6)))},
            {"role": "assistant", "content": " ".join(rng.choices(_WORDS, k=rng.randint(1, 20)))},
        ]
        lines.append(json.dumps({"id": str(i), "messages": messages}))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def figures(folder: Path, key: str) -> list[float]:
    """Return one kind of figure of the run in `folder`, as its metrics tell it."""
    lines = (
        (folder / "out" / "model-run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    )
    return [row[key] for row in map(json.loads, lines) if key in row]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """Return a small text."""
    return make_text(tmp_path / "text.txt")


@pytest.fixture
def conversations(tmp_path: Path) -> Path:
    """Return a small set of conversations."""
    return make_conversations(tmp_path / "chat.jsonl")
