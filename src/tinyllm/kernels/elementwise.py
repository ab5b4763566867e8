"""What stands between the matrix products of a layer, each in one pass over memory.

    add_norm   the residual sum and the norm behind it    LayerNorm with a bias, RMSNorm without
    gelu       a bias and GELU in its tanh form
    swiglu     silu(gate) * up

All three are differentiable functions of CPU tensors; `serves` tells for which. No compiler ever
sees them, so they are no `torch.library` operators. Their plain twins, which serve everything else,
are one line each and stand where they are used, in `model/blocks.py`. B batch, T time, D hidden,
F feed-forward.
"""

import ctypes
from typing import Any

import torch
from torch import Tensor

from tinyllm.kernels.build import load_library
from tinyllm.kernels.function import differentiable

_NAMES = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float64: "float64"}
_PAIRS = {
    (torch.float32, torch.float32),
    (torch.float32, torch.bfloat16),
    (torch.bfloat16, torch.bfloat16),
    (torch.float64, torch.float64),
}


def serves(stream: Tensor, product_dtype: torch.dtype | None = None) -> bool:
    """Tell whether the operators take a stream like this one and products of this dtype.

    A compiler that reads along fuses the plain twin itself.
    """
    if stream.device.type != "cpu" or torch.compiler.is_compiling():
        return False
    pair = (stream.dtype, product_dtype or stream.dtype)
    return pair in _PAIRS and _library() is not None


def add_norm(
    x: Tensor, delta: Tensor | None, weight: Tensor, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor]:
    """Return the residual sum x + delta and its norm times weight plus bias.

    x is (…, D), delta (…, D) or None, which adds nothing; weight and bias are (D,). Without a
    bias the norm is by root mean square. The sum has x's dtype. The norm has delta's, or, without
    delta, that of the coming product.
    """
    dtype = product_dtype(x) if delta is None else delta.dtype
    stream, normed, _, _ = _apply_add_norm(x, delta, weight, bias, eps, dtype)
    return (x if delta is None else stream), normed


def gelu(x: Tensor, bias: Tensor) -> Tensor:
    """Return GELU (tanh form) of x (…, F) plus bias (F,), in x's dtype."""
    out: Tensor = _apply_gelu(x, bias)
    return out


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """Return silu(gate) * up, all (…, F) of one dtype."""
    out: Tensor = _apply_swiglu(gate, up)
    return out


def product_dtype(x: Tensor) -> torch.dtype:
    """Return the dtype in which a matrix product of x will run: autocast's, or its own."""
    kind = x.device.type
    if kind != "meta" and torch.is_autocast_enabled(kind) and x.dtype == torch.float32:
        return torch.get_autocast_dtype(kind)
    return x.dtype


def _library() -> ctypes.CDLL | None:
    return load_library("elementwise")


def _call(name: str, *arguments: Tensor | int | float | None) -> None:
    """Call a native function; tensors go as pointers, and have to be contiguous."""
    library = _library()
    assert library is not None
    values: list[Any] = [
        ctypes.c_void_p(a.data_ptr())
        if isinstance(a, Tensor)
        else ctypes.c_double(a)
        if isinstance(a, float)
        else ctypes.c_int64(a)
        if isinstance(a, int)
        else None
        for a in arguments
    ]
    getattr(library, f"tinyllm_{name}")(*values, ctypes.c_int64(torch.get_num_threads()))


def _working(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def _as_working(vector: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    return None if vector is None else vector.to(_working(dtype)).contiguous()


def _partial_sums(n: int, dtype: torch.dtype) -> Tensor:
    return torch.zeros(torch.get_num_threads(), n, dtype=_working(dtype))


def _summed(partial: Tensor, like: Tensor) -> Tensor:
    return partial.sum(0).to(like.dtype)


def _n_rows(x: Tensor) -> int:
    return x.numel() // x.shape[-1] if x.numel() else 0


def _add_norm(
    x: Tensor,
    delta: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    eps: float,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    x = x.contiguous()
    delta = None if delta is None else delta.expand_as(x).contiguous()
    stream = x.new_empty(0) if delta is None else torch.empty_like(x)
    normed = torch.empty_like(x, dtype=dtype)
    means, scales = (x.new_empty(_n_rows(x), dtype=_working(x.dtype)) for _ in range(2))
    _call(
        f"add_norm_{_NAMES[x.dtype]}_{_NAMES[dtype]}",
        x,
        delta,
        _as_working(weight, x.dtype),
        _as_working(bias, x.dtype),
        None if delta is None else stream,
        normed,
        means,
        scales,
        _n_rows(x),
        x.shape[-1],
        eps,
    )
    return stream, normed, means, scales


def _add_norm_backward(
    d_normed: Tensor,
    d_stream: Tensor | None,
    stream: Tensor,
    weight: Tensor,
    means: Tensor,
    scales: Tensor,
    with_bias: bool,
    with_delta: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of x, delta, weight and bias; empty where there is none."""
    width, stream = stream.shape[-1], stream.contiguous()
    d_x = torch.empty_like(stream)
    apart = with_delta and d_normed.dtype != stream.dtype
    d_delta = torch.empty_like(stream, dtype=d_normed.dtype) if apart else stream.new_empty(0)
    d_weight = _partial_sums(width, stream.dtype)
    d_bias = _partial_sums(width, stream.dtype) if with_bias else None
    _call(
        f"add_norm_backward_{_NAMES[stream.dtype]}_{_NAMES[d_normed.dtype]}",
        d_normed.contiguous(),
        None if d_stream is None else d_stream.contiguous(),
        stream,
        _as_working(weight, stream.dtype),
        means,
        scales,
        d_x,
        d_delta if apart else None,
        d_weight,
        d_bias,
        _n_rows(stream),
        width,
    )
    summed_bias = weight.new_empty(0) if d_bias is None else _summed(d_bias, weight)
    return d_x, d_delta, _summed(d_weight, weight), summed_bias


def _gelu(x: Tensor, bias: Tensor) -> Tensor:
    x = x.contiguous()
    y = torch.empty_like(x)
    vector = _as_working(bias, x.dtype)
    _call(f"gelu_{_NAMES[x.dtype]}", x, vector, y, _n_rows(x), x.shape[-1])
    return y


def _gelu_backward(d_y: Tensor, x: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    x = x.contiguous()
    d_x, d_bias = torch.empty_like(x), _partial_sums(x.shape[-1], x.dtype)
    vector = _as_working(bias, x.dtype)
    _call(
        f"gelu_backward_{_NAMES[x.dtype]}",
        d_y.contiguous(),
        x,
        vector,
        d_x,
        d_bias,
        _n_rows(x),
        x.shape[-1],
    )
    return d_x, _summed(d_bias, bias)


def _swiglu(gate: Tensor, up: Tensor) -> Tensor:
    gate, up = gate.contiguous(), up.contiguous()
    y = torch.empty_like(gate)
    _call(f"swiglu_{_NAMES[gate.dtype]}", gate, up, y, gate.numel())
    return y


def _swiglu_backward(d_y: Tensor, gate: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
    gate, up = gate.contiguous(), up.contiguous()
    d_gate, d_up = torch.empty_like(gate), torch.empty_like(up)
    name = f"swiglu_backward_{_NAMES[gate.dtype]}"
    _call(name, d_y.contiguous(), gate, up, d_gate, d_up, gate.numel())
    return d_gate, d_up


# ---- how autograd sees them ----


def _keep_for_add_norm(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, delta, weight, bias, _, _ = inputs
    stream, _, means, scales = output
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(means, scales)
    ctx.has_delta, ctx.has_bias = delta is not None, bias is not None
    ctx.delta_shape = None if delta is None else delta.shape
    ctx.save_for_backward(stream if ctx.has_delta else x, weight, means, scales)


def _differentiate_add_norm(
    ctx: Any, d_stream: Tensor | None, d_normed: Tensor | None, *_: Tensor | None
) -> tuple[Tensor | None, ...]:
    stream, weight, means, scales = ctx.saved_tensors
    d_sum = d_stream if ctx.has_delta else None
    if d_normed is None:
        return d_sum, d_sum, None, None, None, None
    d_x, d_delta, d_weight, d_bias = _add_norm_backward(
        d_normed, d_sum, stream, weight, means, scales, ctx.has_bias, ctx.has_delta
    )
    if ctx.has_delta:
        d_delta = (d_delta if d_delta.numel() else d_x).sum_to_size(ctx.delta_shape)
    return d_x, d_delta if ctx.has_delta else None, d_weight, _or_none(d_bias), None, None


def _or_none(tensor: Tensor) -> Tensor | None:
    return tensor if tensor.numel() else None


def _keep_inputs(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _differentiate_gelu(ctx: Any, d_y: Tensor) -> tuple[Tensor, Tensor]:
    d_x, d_bias = _gelu_backward(d_y, *ctx.saved_tensors)
    return d_x, d_bias


def _differentiate_swiglu(ctx: Any, d_y: Tensor) -> tuple[Tensor, Tensor]:
    d_gate, d_up = _swiglu_backward(d_y, *ctx.saved_tensors)
    return d_gate, d_up


_apply_add_norm = differentiable(_add_norm, _keep_for_add_norm, _differentiate_add_norm)
_apply_gelu = differentiable(_gelu, _keep_inputs, _differentiate_gelu)
_apply_swiglu = differentiable(_swiglu, _keep_inputs, _differentiate_swiglu)
