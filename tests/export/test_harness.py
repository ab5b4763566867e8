"""lm-evaluation-harness, given an exported folder by its path, picks the answers that we pick."""

import json
from pathlib import Path

import pytest

from tests.evaluation.test_agreement import METRICS, answers_of, harness, make_task, same
from tests.tiny import write_tiny_checkpoint
from tinyllm.checkpoint import read_checkpoint
from tinyllm.data.multiple_choice import read_multiple_choice
from tinyllm.evaluation.multiple_choice import evaluate
from tinyllm.export.hf_folder import write_folder
from tinyllm.generation.engine import Engine

__all__ = ["harness"]  # the fixture

pytestmark = [
    pytest.mark.long,
    pytest.mark.real_data,
    pytest.mark.filterwarnings("ignore"),
]


def agree_on(checkpoint: Path, questions_path: Path, folder: Path, harness: tuple) -> int:
    """Compare sums and picks of all published questions; return how many there were."""
    import torch

    stored = read_checkpoint(checkpoint)
    write_folder(folder, stored, dtype=torch.float32, card="")
    rows = []
    for line in questions_path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        choices = row["question"]["choices"]
        rows.append(
            {
                "id": row["id"],
                "question_stem": row["question"]["stem"],
                "choices": {key: [c[key] for c in choices] for key in ("text", "label")},
                "answerKey": row["answerKey"],
            }
        )
    _, harness_model, *_ = harness
    reference = harness_model(pretrained=str(folder), dtype="float32", device="cpu", batch_size=8)
    theirs = answers_of(make_task(harness, "openbookqa", rows), reference)
    ours = evaluate(Engine(stored), list(read_multiple_choice(str(questions_path))))
    same(ours, theirs, METRICS)
    return len(rows)


@pytest.mark.parametrize("family", ["llama", "gpt-neo"])
def test_every_pick_is_the_same(
    family: str, harness: tuple, tmp_path: Path, real_data: Path
) -> None:
    path = write_tiny_checkpoint(
        tmp_path / "tiny.safetensors", family=family, context_length=256, seed=4
    )
    questions = real_data / "openbookqa" / "Main" / "dev.jsonl"
    assert agree_on(path, questions, tmp_path / "out", harness) == 500
