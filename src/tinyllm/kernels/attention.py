"""Causal attention on the processor, forwards and backwards: the operator `tinyllm::attention`.

A compiler sees the operator; eager mode calls what is behind it. The kernel
(`attention.cpp`) reads q, k and v as one product wrote them, without transposes, normalises and
rotates queries and keys on the way, and holds no (T, T) matrix. It is built for one head dim
and one dtype at a time, when that pair is first met. The same in plain PyTorch is in
`model/attention.py`. Dimensions are named as in `model/transformer.py`.
"""

import ctypes
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tinyllm.kernels.build import load_library
from tinyllm.kernels.function import differentiable

MAX_HEAD_DIM = 256
_IO = {torch.float32: "float", torch.bfloat16: "Bf16", torch.float64: "double"}
_REAL = {"float": torch.float32, "Bf16": torch.float32, "double": torch.float64}


class _Attention(ctypes.Structure):
    """Mirrors `struct Attention`."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("batch", "time", "n_heads", "n_kv_heads")),
        *((name, ctypes.c_void_p) for name in ("starts", "cos", "sin", "q_weight", "k_weight")),
        ("starts_batch_stride", ctypes.c_int64),
        ("rotation_batch_stride", ctypes.c_int64),
        ("scale", ctypes.c_double),
        ("eps", ctypes.c_double),
        ("n_threads", ctypes.c_int64),
    )


class _Tensors(ctypes.Structure):
    """Mirrors `struct Tensors`."""

    _fields_ = tuple(
        (name, ctypes.c_void_p)
        for name in (
            *("qkv", "out", "grad_out", "log_sums"),
            *("grad_qkv", "grad_q_weight", "grad_k_weight"),
        )
    )


def can_attend(device_type: str, head_dim: int, dtype: torch.dtype) -> bool:
    """Tell whether the kernel serves such heads here; the first time, that may build it."""
    if device_type != "cpu" or head_dim > MAX_HEAD_DIM or dtype not in _IO:
        return False
    return _library(head_dim, dtype) is not None


# What torch.compiler.assume_constant_result does, without the second that importing it takes.
can_attend.__dict__["_dynamo_marked_constant"] = True


def attend(
    qkv: Tensor,
    n_heads: int,
    n_kv_heads: int,
    *,
    scale: float,
    starts: Tensor | None = None,
    rotation: tuple[Tensor, Tensor] | None = None,
    norm_weights: tuple[Tensor, Tensor] | None = None,
    eps: float = 0.0,
) -> Tensor:
    """Mix values by the softmax of scaled query-key products; needs `can_attend`.

    qkv is (B, T, (H + 2 K) E), float32, bfloat16 or float64: H heads of queries, then K of keys and
    K of values, each of the latter shared by H / K query heads. Query t sees the keys starts[t] ..
    t; starts is (B or 1, T) int32, None for all from 0 on. norm_weights, (E,) each, multiply
    queries and keys scaled by their root mean square over E; then rotation, cos and sin (B or 1, T,
    1, E/2), turns them. Returns (B, T, H, E) in qkv's dtype. Raises ValueError for shapes that do
    not fit.
    """
    _require_fitting(qkv, n_heads, n_kv_heads, starts, rotation, norm_weights)
    real = _REAL[_IO[qkv.dtype]]
    cos, sin = (None, None) if rotation is None else (x.squeeze(2).to(real) for x in rotation)
    q_weight, k_weight = (
        (None, None) if norm_weights is None else (x.to(real) for x in norm_weights)
    )
    operands = (qkv, n_heads, n_kv_heads, starts, cos, sin, q_weight, k_weight)
    apply = attention if torch.compiler.is_compiling() else _apply
    out: Tensor = apply(*operands, scale, eps)[0]
    return out


def _attention(
    qkv: Tensor,
    n_heads: int,
    n_kv_heads: int,
    starts: Tensor | None,
    cos: Tensor | None,
    sin: Tensor | None,
    q_weight: Tensor | None,
    k_weight: Tensor | None,
    scale: float,
    eps: float,
) -> tuple[Tensor, Tensor]:
    """Return out (B, T, H, E) and the logarithms (base 2) of the softmax's sums (B, H, T)."""
    qkv = qkv.contiguous()
    held = [_contiguous(x) for x in (starts, cos, sin, q_weight, k_weight)]
    out, log_sums = _new_results(qkv, n_heads, n_kv_heads)
    if out.numel():
        call = _describe(qkv, n_heads, n_kv_heads, held, scale, eps)
        pointers = (ctypes.c_void_p(x.data_ptr()) for x in (qkv, out, log_sums))
        _run("forward", out, ctypes.byref(call), *pointers)
    return out, log_sums


def _attention_backward(
    qkv: Tensor,
    n_heads: int,
    n_kv_heads: int,
    out: Tensor,
    log_sums: Tensor,
    grad_out: Tensor,
    starts: Tensor | None,
    cos: Tensor | None,
    sin: Tensor | None,
    q_weight: Tensor | None,
    k_weight: Tensor | None,
    scale: float,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of qkv and of both weights, the latter (B, H or K, E) to be summed.

    Without weights these two are empty.
    """
    qkv, grad_out = qkv.contiguous(), grad_out.contiguous()
    held = [_contiguous(x) for x in (starts, cos, sin, q_weight, k_weight)]
    gradients = _new_gradients(qkv, n_heads, n_kv_heads, log_sums, q_weight)
    if out.numel():
        call = _describe(qkv, n_heads, n_kv_heads, held, scale, eps)
        tensors = (qkv, out, grad_out, log_sums, *gradients)
        _run("backward", out, ctypes.byref(call), ctypes.byref(_Tensors(*map(_pointer, tensors))))
    return gradients


attention = torch.library.custom_op("tinyllm::attention", _attention, mutates_args=())
attention_backward = torch.library.custom_op(
    "tinyllm::attention_backward", _attention_backward, mutates_args=()
)


@attention.register_fake
def _(qkv, n_heads, n_kv_heads, *rest):  # type: ignore[no-untyped-def]
    return _new_results(qkv, n_heads, n_kv_heads)


@attention_backward.register_fake
def _(qkv, n_heads, n_kv_heads, out, log_sums, grad_out, starts, cos, sin, q_weight, *rest):  # type: ignore[no-untyped-def]
    return _new_gradients(qkv, n_heads, n_kv_heads, log_sums, q_weight)


def _save(ctx, inputs, output):  # type: ignore[no-untyped-def]
    qkv, ctx.n_heads, ctx.n_kv_heads, *places, ctx.scale, ctx.eps = inputs
    ctx.save_for_backward(qkv, *places, *output)
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)


def _derivative(backward: Callable[..., tuple[Tensor, Tensor, Tensor]]) -> Callable[..., Any]:
    def differentiate(ctx, grad_out, _grad_log_sums):  # type: ignore[no-untyped-def]
        qkv, *places, out, log_sums = ctx.saved_tensors
        if grad_out is None:
            return (None,) * 10
        shape = (ctx.n_heads, ctx.n_kv_heads)
        operands = (qkv, *shape, out, log_sums, grad_out, *places)
        grad_qkv, *weights = backward(*operands, ctx.scale, ctx.eps)
        has_norm = places[-1] is not None
        grad_weights = (x.sum((0, 1)) if has_norm else None for x in weights)
        return grad_qkv, None, None, None, None, None, *grad_weights, None, None

    return differentiate


attention.register_autograd(_derivative(attention_backward), setup_context=_save)
_apply = differentiable(_attention, _save, _derivative(_attention_backward))


def _require_fitting(
    qkv: Tensor,
    n_heads: int,
    n_kv_heads: int,
    starts: Tensor | None,
    rotation: tuple[Tensor, Tensor] | None,
    norm_weights: tuple[Tensor, Tensor] | None,
) -> None:
    batch, time, size = qkv.shape
    width = size // (n_heads + 2 * n_kv_heads)
    if width * (n_heads + 2 * n_kv_heads) != size or n_heads % n_kv_heads:
        heads = f"{n_heads} query and {n_kv_heads} key heads"
        raise ValueError(f"qkv must be (B, T, (H + 2 K) E), found {tuple(qkv.shape)} for {heads}")
    rows = {(1, time), (batch, time)}
    if starts is not None and (tuple(starts.shape) not in rows or starts.dtype != torch.int32):
        found = f"{tuple(starts.shape)} {starts.dtype}"
        raise ValueError(f"starts must be (B or 1, {time}) int32, found {found}")
    for x in rotation or ():
        if x.shape[:2] not in rows or x.shape[2:] != (1, width // 2) or width % 2:
            raise ValueError(
                f"rotation must be (B or 1, {time}, 1, {width}/2), found {tuple(x.shape)}"
            )
    for x in norm_weights or ():
        if x.shape != (width,):
            raise ValueError(f"norm_weights must be ({width},), found {tuple(x.shape)}")


def _library(head_dim: int, dtype: torch.dtype) -> ctypes.CDLL | None:
    io = _IO[dtype]
    real = "double" if io == "double" else "float"
    return load_library("attention", {"HEAD_DIM": head_dim, "IO": io, "REAL": real})


def _run(direction: str, out: Tensor, *arguments: object) -> None:
    library = _library(out.shape[3], out.dtype)
    if library is None:
        raise RuntimeError("the attention kernel is not available: ask can_attend first")
    if getattr(library, f"tinyllm_attention_{direction}")(*arguments):
        raise MemoryError("no memory for the workspace of attention")


def _describe(
    qkv: Tensor,
    n_heads: int,
    n_kv_heads: int,
    held: list[Tensor | None],
    scale: float,
    eps: float,
) -> _Attention:
    starts, cos = held[0], held[1]
    return _Attention(
        *qkv.shape[:2],
        n_heads,
        n_kv_heads,
        *map(_pointer, held),
        _batch_stride(starts),
        _batch_stride(cos),
        scale,
        eps,
        torch.get_num_threads(),
    )


def _new_results(qkv: Tensor, n_heads: int, n_kv_heads: int) -> tuple[Tensor, Tensor]:
    batch, time, size = qkv.shape
    out = qkv.new_empty((batch, time, n_heads, size // (n_heads + 2 * n_kv_heads)))
    return out, qkv.new_empty((batch, n_heads, time), dtype=_REAL[_IO[qkv.dtype]])


def _new_gradients(
    qkv: Tensor, n_heads: int, n_kv_heads: int, log_sums: Tensor, q_weight: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    q_sum, k_sum = (
        log_sums.new_empty((0,) if q_weight is None else (len(qkv), n, len(q_weight)))
        for n in (n_heads, n_kv_heads)
    )
    return torch.empty_like(qkv, memory_format=torch.contiguous_format), q_sum, k_sum


def _pointer(x: Tensor | None) -> int | None:
    return x.data_ptr() if x is not None and x.numel() else None


def _contiguous(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.contiguous()


def _batch_stride(x: Tensor | None) -> int:
    """Return the elements from one row of the batch to the next; 0 where one serves all."""
    return 0 if x is None or x.shape[0] == 1 else x.stride(0)
