"""Optimizers: AdamW for everything, or Muon for the hidden matrices and AdamW for the rest.

Every parameter group carries `peak_learning_rate`; the loop multiplies it by the schedule's
share before each step, so that one schedule drives groups of different height.
"""

import sys
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tinyllm.config.train_sections import Optimizer as OptimizerConfig
from tinyllm.device import multiplies_bfloat16

# Quintic Newton-Schulz coefficients, chosen for the steepest slope at zero
# (K. Jordan, "Muon: An optimizer for hidden layers in neural networks", 2024).
_A, _B, _C = 3.4445, -4.7750, 2.0315
_ITERATIONS = 5
_MOMENTUM = 0.95
_COUNTER_BYTES = 4


def build_optimizers(model: nn.Module, config: OptimizerConfig) -> list[torch.optim.Optimizer]:
    """Return the optimizers that together train every parameter that requires a gradient.

    Weight decay applies to matrices only. Muon takes the matrices inside the layers; embeddings
    and the head, whose rows are looked up rather than multiplied, stay with AdamW.
    """
    _leave_the_compiler_out()
    parameters = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    hidden = [p for n, p in parameters if config.name == "muon" and _is_hidden_matrix(n, p)]
    taken = {id(p) for p in hidden}
    rest = [p for _, p in parameters if id(p) not in taken]
    optimizers: list[torch.optim.Optimizer] = []
    if rest:
        optimizers.append(_adamw(rest, config))
    if hidden:
        optimizers.append(
            Muon(hidden, lr=config.matrix_learning_rate, weight_decay=config.weight_decay)
        )
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak_learning_rate"] = group["lr"]
    return optimizers


def set_learning_rate(optimizers: Iterable[torch.optim.Optimizer], share: float) -> None:
    """Give every group `share` of its peak learning rate."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["peak_learning_rate"] * share


def expected_state_bytes(optimizers: Iterable[torch.optim.Optimizer]) -> int:
    """Return the bytes of what the optimizers will remember from their first step on.

    That is two moments and a counter for each parameter with AdamW, one momentum with Muon.
    """
    return sum(
        p.numel() * p.element_size() * (1 if isinstance(optimizer, Muon) else 2)
        + (0 if isinstance(optimizer, Muon) else _COUNTER_BYTES)
        for optimizer in optimizers
        for group in optimizer.param_groups
        for p in group["params"]
    )


def _leave_the_compiler_out() -> None:
    """Keep torch.optim from importing torch.compile's machinery, which takes two seconds.

    Two methods import it to hide themselves from a compiler that looks at the optimizer; ours
    looks at the network only. They accept the hidden form in an attribute.
    """
    for method in (torch.optim.Optimizer.add_param_group, torch.optim.Optimizer.zero_grad):
        plain = getattr(method, "__wrapped__", None)
        if plain is not None and "torch._dynamo" not in sys.modules:
            plain.__dynamo_disable = plain


def _is_hidden_matrix(name: str, parameter: Tensor) -> bool:
    return parameter.ndim == 2 and ".layers." in f".{name}"


def _adamw(parameters: Sequence[nn.Parameter], config: OptimizerConfig) -> torch.optim.Optimizer:
    matrices = [p for p in parameters if p.ndim >= 2]
    vectors = [p for p in parameters if p.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [g for g in groups if g["params"]],
        lr=config.learning_rate,
        betas=config.betas,
        fused=parameters[0].device.type in ("cpu", "cuda"),
    )


class Muon(torch.optim.Optimizer):
    """Momentum whose update is orthogonalised (Jordan et al. 2024).

    The update's scale is sqrt(max(1, rows / columns)), as in the original. We differ from
    `torch.optim.Muon` in stacking matrices of one shape: a handful of large products instead of
    hundreds of small ones is twice as fast at small widths.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], lr: float, weight_decay: float = 0.0
    ) -> None:
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take one step on all matrices that have a gradient."""
        for group in self.param_groups:
            for same_shape in _by_shape(group["params"]):
                self._step_stack(same_shape, group)

    def _step_stack(self, matrices: list[Tensor], group: dict[str, Any]) -> None:
        gradients = torch.stack([_gradient(p) for p in matrices])  # (N, rows, columns)
        momenta = [self._momentum(p) for p in matrices]
        torch._foreach_lerp_(momenta, list(gradients), 1.0 - _MOMENTUM)
        update = gradients.lerp(torch.stack(momenta), _MOMENTUM)  # Nesterov
        update = orthogonalise(update)
        rows, columns = matrices[0].shape
        scale = group["lr"] * max(1.0, rows / columns) ** 0.5
        torch._foreach_mul_(matrices, 1.0 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(matrices, list(update.to(matrices[0].dtype)), alpha=-scale)

    def _momentum(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum: Tensor = state["momentum"]
        return momentum


def orthogonalise(matrices: Tensor) -> Tensor:
    """Push the singular values of a stack of matrices towards one.

    `matrices` is (N, rows, columns); the result has its shape and dtype. Singular values end
    between about 0.7 and 1.2, which bfloat16 resolves where the processor multiplies it fast.
    """
    tall = matrices.size(-2) > matrices.size(-1)
    x = (matrices.mT if tall else matrices).contiguous()
    x = x.to(torch.bfloat16 if multiplies_bfloat16(x.device) else torch.float32)
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(_ITERATIONS):
        gram = torch.bmm(x, x.mT)  # (N, rows, rows)
        gram = torch.baddbmm(gram, gram, gram, beta=_B, alpha=_C)
        x = torch.baddbmm(x, gram, x, beta=_A)  # (N, rows, columns)
    return (x.mT if tall else x).to(matrices.dtype)


def _gradient(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


def _by_shape(parameters: Iterable[Tensor]) -> list[list[Tensor]]:
    shapes: dict[torch.Size, list[Tensor]] = {}
    for parameter in parameters:
        if parameter.grad is not None:
            shapes.setdefault(parameter.shape, []).append(parameter)
    return list(shapes.values())
