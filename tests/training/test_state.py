"""States on disk: whole or absent, and the same bits back."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tinyllm.config.model import ModelConfig
from tinyllm.config.train_sections import Optimizer
from tinyllm.errors import CheckpointError
from tinyllm.model.transformer import Transformer
from tinyllm.training.optimizer import build_optimizers
from tinyllm.training.state import (
    Progress,
    expected_bytes,
    list_states,
    read_state,
    restore,
    save_state,
)

CONFIG = ModelConfig(vocab_size=11, hidden_size=8, n_layers=1, n_heads=2, context_length=8)
IDENTITY = {"config": {}, "fingerprints": {}, "limits": {}}


def trained(name: str, steps: int) -> tuple[Transformer, list[torch.optim.Optimizer]]:
    model = Transformer(CONFIG)
    optimizers = build_optimizers(model, Optimizer(name=name))
    for step in range(steps):
        learn(model, optimizers, step)
    return model, optimizers


def learn(model: Transformer, optimizers: list[torch.optim.Optimizer], step: int) -> None:
    ids = torch.randint(0, 11, (4, 8), generator=torch.Generator().manual_seed(step))
    model(ids).square().mean().backward()
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_weights_and_moments_come_back_to_the_bit(tmp_path: Path, name: str) -> None:
    model, optimizers = trained(name, 3)
    path = save_state(tmp_path, model, optimizers, Progress(step=3), IDENTITY)
    other, other_optimizers = trained(name, 0)
    restore(path, other, other_optimizers)
    for step in (3, 4):
        learn(model, optimizers, step)
        learn(other, other_optimizers, step)
    for (key, weight), found in zip(model.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(weight, found), key


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_the_room_for_a_state_is_known_before_the_first_step(tmp_path: Path, name: str) -> None:
    model, optimizers = trained(name, 0)
    expected = expected_bytes(model, optimizers)
    learn(model, optimizers, 1)
    path = save_state(tmp_path, model, optimizers, Progress(step=1), IDENTITY)
    tensors = [t for file in path.glob("*.safetensors") for t in load_file(file).values()]
    assert expected == sum(t.nbytes for t in tensors) + 1_000_000


def test_counters_come_back(tmp_path: Path) -> None:
    model, optimizers = trained("adamw", 1)
    progress = Progress(step=7, rows=56, trained_tokens=99, best_loss_nats=0.1 + 0.2, best_step=5)
    saved = read_state(save_state(tmp_path, model, optimizers, progress, IDENTITY, scaler={"s": 1}))
    assert saved.progress == progress
    assert saved.scaler == {"s": 1}


def test_only_the_newest_states_are_kept(tmp_path: Path) -> None:
    model, optimizers = trained("adamw", 1)
    for step in (1, 2, 9, 10):
        save_state(tmp_path, model, optimizers, Progress(step=step), IDENTITY, keep=2)
    assert [p.name for p in list_states(tmp_path)] == ["step-00000009", "step-00000010"]


def test_saving_the_same_step_again_renews_its_counters(tmp_path: Path) -> None:
    model, optimizers = trained("adamw", 1)
    save_state(tmp_path, model, optimizers, Progress(step=4), IDENTITY)
    path = save_state(tmp_path, model, optimizers, Progress(step=4, best_step=4), IDENTITY)
    assert read_state(path).progress.best_step == 4


def test_a_torn_save_is_not_a_state_and_is_cleared_away(tmp_path: Path) -> None:
    model, optimizers = trained("adamw", 1)
    torn = tmp_path / ".step-00000005.123.tmp"
    torn.mkdir()
    (torn / "model.safetensors").write_bytes(b"half")
    assert list_states(tmp_path) == []
    save_state(tmp_path, model, optimizers, Progress(step=6), IDENTITY)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000006"]


def test_a_state_of_another_shape_is_refused(tmp_path: Path) -> None:
    model, optimizers = trained("adamw", 1)
    path = save_state(tmp_path, model, optimizers, Progress(step=1), IDENTITY)
    wider = Transformer(CONFIG.model_copy(update={"vocab_size": 12}))
    with pytest.raises(CheckpointError, match="does not fit"):
        restore(path, wider, build_optimizers(wider, Optimizer()))


def test_a_broken_state_is_refused_in_one_sentence(tmp_path: Path) -> None:
    model, optimizers = trained("adamw", 1)
    path = save_state(tmp_path, model, optimizers, Progress(step=1), IDENTITY)
    (path / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(CheckpointError, match="cannot be read"):
        restore(path, model, optimizers)
    with pytest.raises(CheckpointError, match="not a training state"):
        read_state(tmp_path)


def test_nothing_but_safetensors_and_json_is_written(tmp_path: Path) -> None:
    model, optimizers = trained("muon", 1)
    path = save_state(tmp_path, model, optimizers, Progress(step=1), IDENTITY)
    assert {p.suffix for p in path.iterdir()} == {".safetensors", ".json"}
