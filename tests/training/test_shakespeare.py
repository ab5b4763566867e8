"""The shipped character training reaches what it promises on the real text."""

from pathlib import Path

import pytest

from tests.training.test_workflow import train
from tinyllm.config.base import load_config
from tinyllm.config.train import TrainConfig

PLAN = Path(__file__).parent.parent.parent / "training" / "shakespeare-char" / "train.json"


@pytest.mark.long
@pytest.mark.real_data
@pytest.mark.timeout(1800)
def test_two_thousand_small_steps_reach_1_88_nats_per_character(
    real_data: Path, tmp_path: Path
) -> None:
    flags = {
        "data.train": str(real_data / "tinyshakespeare" / "input.txt"),
        "checkpoint.path": tmp_path / "shakespeare.safetensors",
    }
    config = load_config(TrainConfig, PLAN, flags=flags)
    assert (config.max_steps, config.batch.micro_batch_size, config.model.context_length) == (
        2000,
        12,
        64,
    )
    result, _ = train(config)
    assert result.validation is not None
    assert result.validation.n_tokens > 100_000
    assert result.validation.loss_nats <= 1.88
