"""Numbers that go wrong: what is skipped, told, taken back, and when a training gives up."""

import math
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.training.conftest import make_text
from tests.training.test_workflow import config_for, rows_of, train, tuning_config
from tinyllm.checkpoint import load_checkpoint, save_checkpoint
from tinyllm.config.train import TrainConfig
from tinyllm.errors import TrainingStopped
from tinyllm.training.rollback import return_to
from tinyllm.training.run_folder import RunFolder
from tinyllm.training.spikes import SPIKE_SCORE, score_loss
from tinyllm.training.state import Progress, list_states, read_state


@dataclass
class Trend:
    loss_mean: float = 0.0
    loss_variance: float = 0.0
    loss_count: int = 0


def folder_of(config: TrainConfig) -> RunFolder:
    assert config.checkpoint.path is not None
    return RunFolder.beside(config.checkpoint.path)


def log_of(config: TrainConfig) -> str:
    return (folder_of(config).path / "train.log").read_text()


def diverging(text: Path, weight_decay: float, **flags: object) -> TrainConfig:
    """Return a training whose weights grow by (rate x decay - 1) a step, until they overflow."""
    return config_for(
        text,
        optimizer__learning_rate=1e-3,
        optimizer__weight_decay=weight_decay,
        schedule__decay="constant",
        schedule__warmup_steps=0,
        checkpoint__every_steps=2,
        evaluation__every_steps=50,
        **flags,
    )


@given(st.lists(st.floats(0.5, 12.0), max_size=200))
def test_scores_are_finite_whatever_the_losses(losses: list[float]) -> None:
    trend = Trend()
    scores = [score_loss(trend, loss) for loss in losses]
    assert all(score is None or math.isfinite(score) for score in scores)
    assert all(score is None for score in scores[:20])


def test_a_jump_scores_high_once_and_becomes_normal_when_it_stays() -> None:
    trend, noise = Trend(), torch.randn(400, generator=torch.Generator().manual_seed(0)) * 0.1
    steady = [score_loss(trend, 3.0 + float(x)) for x in noise[:200]]
    assert all(score is None or abs(score) < SPIKE_SCORE for score in steady)
    after = [score_loss(trend, 6.0 + float(x)) or 0.0 for x in noise[200:]]
    assert after[0] > 15
    assert after[1] > SPIKE_SCORE  # one spike is no excuse for the next
    assert all(score < SPIKE_SCORE for score in after[100:])


def test_a_spike_is_scored_in_the_metrics_and_its_documents_are_logged(tmp_path: Path) -> None:
    text = make_text(tmp_path / "text.txt", n_documents=600)
    strange = "zq" * 60
    text.write_text(text.read_text() + f"{strange}\n<|endoftext|>\n")
    config = config_for(
        text,
        data__shuffle=False,
        data__packing="single",
        data__validation_fraction=0.0,
        batch__micro_batch_size=4,
        model__context_length=160,
        optimizer__learning_rate=1e-2,
        checkpoint__every_steps=1000,
        max_steps=None,
        epochs=1,
    )
    result, reporter = train(config)
    rows = [row for row in rows_of(result) if "loss_nats" in row]
    assert "loss_spike_score" not in rows[19]
    assert rows[-1]["loss_spike_score"] > SPIKE_SCORE
    assert any("the loss jumped" in warning for warning in reporter.warnings)
    told = re.findall(r"step (\d+): the loss jumped .*; documents ([\d, ]+)", log_of(config))
    assert told[-1] == ("151", "600")


def test_a_document_that_breaks_the_gradient_is_skipped_counted_and_named(tmp_path: Path) -> None:
    text = make_text(tmp_path / "text.txt", n_documents=40)
    documents = text.read_text().split("\n<|endoftext|>\n")
    documents[17] += " z"
    text.write_text("\n<|endoftext|>\n".join(documents))
    base, _ = train(config_for(text, model__family="gpt-neo", model__tie_embeddings=False))
    start = overflowing_at(base.checkpoint, "z")
    config = tuning_config(
        text,
        start,
        data__packing="documents",
        data__validation_fraction=0.0,
        batch__micro_batch_size=1,
        max_steps=None,
        epochs=1,
        checkpoint__path=tmp_path / "out" / "tuned.safetensors",
    )
    result, reporter = train(config)
    skipped = re.findall(r"step (\d+) skipped: loss nan.*; documents ([\d, ]+)", log_of(config))
    assert len(skipped) == 1
    assert "17" in skipped[0][1].split(", ")
    assert any(f"step {skipped[0][0]} skipped" in warning for warning in reporter.warnings)
    assert read_state(list_states(folder_of(config).states)[-1]).progress.skipped_steps == 1
    assert "1 step had no finite gradient" in (result.run_folder / "report.md").read_text()
    assert load_checkpoint(result.checkpoint).info.training["step"] == result.steps


def overflowing_at(checkpoint: Path, character: str) -> Path:
    """Write a copy whose embedding of a character is finite, and too large for a layer norm."""
    loaded = load_checkpoint(checkpoint)
    (token,) = loaded.tokenizer.encode(character)
    with torch.no_grad():
        row = loaded.model.get_parameter("model.embed_tokens.weight")[token]
        row.copy_(3e38 * (-1.0) ** torch.arange(len(row)))
    path = checkpoint.with_name("overflowing.safetensors")
    save_checkpoint(path, loaded.model, loaded.tokenizer, template=None, training={})
    return path


def test_a_training_that_diverges_goes_back_until_its_rate_is_low_enough(tmp_path: Path) -> None:
    runs = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        config = diverging(make_text(tmp_path / name / "text.txt"), 7500, max_steps=60)
        result, reporter = train(config)
        runs.append((rows_of(result), load_checkpoint(result.checkpoint).model.state_dict()))
    (rows, weights), (others, other_weights) = runs
    back = [row for row in rows if "rolled_back_from_step" in row]
    scales = [row["learning_rate_scale"] for row in back]
    assert scales
    assert scales == [0.5, 0.25, 0.125][: len(back)]
    assert [row["step"] for row in others] == [row["step"] for row in rows]
    assert all(torch.equal(weights[n], other_weights[n]) for n in weights)
    assert rows[-1]["step"] == 60
    rates = [row["learning_rate"] for row in rows if "learning_rate" in row]
    assert rates[-1] == pytest.approx(scales[-1] * 1e-3)
    report = (result.run_folder / "report.md").read_text()
    assert "went back to an earlier state" in report
    assert any("went back from step" in warning for warning in reporter.warnings)


def test_a_training_that_no_lower_rate_saves_stops_with_its_last_state_whole(text: Path) -> None:
    config = diverging(text, 1e6, max_steps=90)
    with pytest.raises(TrainingStopped, match="and 3 rollbacks") as caught:
        train(config)
    assert caught.value.exit_code == 6
    assert "learning_rate" in str(caught.value.hint)
    assert config.checkpoint.path is not None
    load_checkpoint(config.checkpoint.path)
    state = list_states(folder_of(config).states)[-1]
    assert read_state(state).progress.rollbacks == 3


def test_going_back_keeps_time_and_best_and_halves_the_rate() -> None:
    good = Progress(step=4, rows=16, trained_tokens=99, best_loss_nats=3.0, best_step=2)
    now = Progress(step=11, skipped_in_a_row=5, skipped_steps=6, best_loss_nats=2.0, best_step=6)
    return_to(now, good)
    assert (now.step, now.rows, now.trained_tokens) == (4, 16, 99)
    assert (now.skipped_in_a_row, now.skipped_steps) == (0, 6)
    assert (now.best_loss_nats, now.best_step) == (2.0, 6)  # best.safetensors is still there
    assert (now.rollbacks, now.learning_rate_scale, now.rolled_back_to) == (1, 0.5, 4)
