"""Optimizers: who trains what, and what orthogonalising does."""

import torch
from torch import nn

from tinyllm.config.train_sections import Optimizer
from tinyllm.training.optimizer import build_optimizers, orthogonalise, set_learning_rate


class Toy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 8)
        self.layers = nn.ModuleList([nn.Linear(8, 8) for _ in range(2)])
        self.norm = nn.LayerNorm(8)


def names_trained_by(model: nn.Module, optimizer: torch.optim.Optimizer) -> set[str]:
    mine = {id(p) for group in optimizer.param_groups for p in group["params"]}
    return {n for n, p in model.named_parameters() if id(p) in mine}


def test_every_parameter_has_exactly_one_optimizer() -> None:
    model = Toy()
    for name in ("adamw", "muon"):
        trained = [
            names_trained_by(model, o) for o in build_optimizers(model, Optimizer(name=name))
        ]
        assert set().union(*trained) == {n for n, _ in model.named_parameters()}
        assert sum(map(len, trained)) == len(list(model.parameters()))


def test_muon_takes_only_matrices_inside_layers() -> None:
    model = Toy()
    _, muon = build_optimizers(model, Optimizer(name="muon"))
    assert names_trained_by(model, muon) == {"layers.0.weight", "layers.1.weight"}


def test_only_matrices_decay() -> None:
    model = Toy()
    (adamw,) = build_optimizers(model, Optimizer(weight_decay=0.3))
    for group in adamw.param_groups:
        dimensions = {p.ndim >= 2 for p in group["params"]}
        assert dimensions == {group["weight_decay"] == 0.3}


def test_frozen_parameters_are_left_out() -> None:
    model = Toy()
    model.embed.weight.requires_grad_(False)
    (adamw,) = build_optimizers(model, Optimizer())
    assert "embed.weight" not in names_trained_by(model, adamw)


def test_one_share_drives_groups_of_different_height() -> None:
    optimizers = build_optimizers(
        Toy(), Optimizer(name="muon", learning_rate=1e-3, matrix_learning_rate=0.02)
    )
    set_learning_rate(optimizers, 0.5)
    assert [o.param_groups[0]["lr"] for o in optimizers] == [5e-4, 1e-2]


def test_orthogonalising_brings_singular_values_near_one() -> None:
    stack = torch.randn(3, 24, 40, generator=torch.Generator().manual_seed(0))
    for matrices in (stack, stack.mT):
        values = torch.linalg.svdvals(orthogonalise(matrices))
        assert values.min() > 0.5
        assert values.max() < 1.4


def test_a_stack_and_its_members_are_orthogonalised_alike() -> None:
    stack = torch.randn(3, 16, 8, generator=torch.Generator().manual_seed(1))
    alone = torch.stack([orthogonalise(m[None])[0] for m in stack])
    assert torch.allclose(orthogonalise(stack), alone, atol=2e-2)


def test_both_optimizers_learn_a_linear_map() -> None:
    for name in ("adamw", "muon"):
        torch.manual_seed(0)
        model = nn.Module()
        model.layers = nn.ModuleList([nn.Linear(6, 6)])
        x, target = torch.randn(64, 6), torch.randn(64, 6) * 0.1
        optimizers = build_optimizers(model, Optimizer(name=name, weight_decay=0.0))
        losses = []
        for _ in range(60):
            loss = (model.layers[0](x) - target).square().mean()
            loss.backward()
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
            losses.append(loss.item())
        assert losses[-1] < 0.7 * losses[0], name
