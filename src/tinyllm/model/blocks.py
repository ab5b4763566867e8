"""What a layer does to each position by itself: norms and feed-forward.

On a CPU the arithmetic between matrix products runs in native code where there is any
(`kernels/elementwise.py`); the plain PyTorch beside each call is the same mathematics. Under
autocast, the native norm hands the coming product what it reads, in half precision, while the
residual stream stays float32. Dimensions are named as in `transformer.py`.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from tinyllm.config.model import Activation, ModelConfig
from tinyllm.kernels import elementwise as native


class RMSNorm(nn.Module):
    """Scale by the root mean square (arXiv:1910.07467), in float32; x is (…, D).

    Written out because PyTorch's fused operator is the slower one on CPUs.
    """

    bias: Tensor | None = None

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)
        return (wide * self.weight).to(x.dtype)


class LayerNorm(nn.LayerNorm):
    """Layer norm with bias, in float32; x is (…, D)."""

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.weight.float(), self.bias.float()
        wide: Tensor = functional.layer_norm(
            x.float(), self.normalized_shape, weight, bias, self.eps
        )
        return wide.to(x.dtype)


def add_and_norm(
    norm: RMSNorm | LayerNorm, stream: Tensor, delta: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return stream + delta and the norm of that, both (…, D); no delta adds nothing."""
    dtype = native.product_dtype(stream) if delta is None else delta.dtype
    if native.serves(stream, dtype):
        return native.add_norm(stream, delta, norm.weight, norm.bias, norm.eps)
    stream = stream if delta is None else stream + delta
    return stream, norm(stream)


def activate(x: Tensor, activation: Activation) -> Tensor:
    """Bend every number of x."""
    if activation == "silu":
        return functional.silu(x)
    return functional.gelu(x, approximate="tanh" if activation == "gelu_tanh" else "none")


class SwiGLU(nn.Module):
    """Gated feed-forward of llama (arXiv:2002.05202); x is (B, T, D)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.activation = config.activation
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_proj(x), self.up_proj(x)  # (B, T, F)
        is_native = self.activation == "silu" and native.serves(gate)
        mixed = native.swiglu(gate, up) if is_native else activate(gate, self.activation) * up
        out: Tensor = self.down_proj(mixed)
        return out


class GeluMLP(nn.Module):
    """Feed-forward of gpt-neo, usually with GELU's tanh form; x is (B, T, D)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.activation = config.activation
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        is_plain = self.activation == "gelu_tanh" and isinstance(self.up_proj, nn.Linear)
        if is_plain and native.serves(x, native.product_dtype(x)):
            wide = functional.linear(x, self.up_proj.weight)  # (B, T, F)
            mixed = native.gelu(wide, self.up_proj.bias)
        else:
            mixed = activate(self.up_proj(x), self.activation)
        out: Tensor = self.down_proj(mixed)
        return out
