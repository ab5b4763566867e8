"""Causal attention on the processor, forwards and backwards: the operator `tinyllm::attention`.

A compiler sees the operator; eager mode calls what is behind it. The kernel
(`attention.cpp`) reads q, k and v as the linear layers wrote them, without transposes, normalises
and rotates queries and keys on the way, and holds no (T, T) matrix. It is built for one head dim
and one dtype at a time, when that pair is first met. The same in plain PyTorch is in
`model/attention.py`. Dimensions are named as in `model/transformer.py`.
"""

import ctypes

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
        *((name, ctypes.c_int64) for name in ("q_stride", "k_stride", "v_stride")),
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
            *("q", "k", "v", "out", "grad_out", "log_sums"),
            *("grad_q", "grad_k", "grad_v", "grad_q_weight", "grad_k_weight"),
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
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    scale: float,
    starts: Tensor | None = None,
    rotation: tuple[Tensor, Tensor] | None = None,
    norm_weights: tuple[Tensor, Tensor] | None = None,
    eps: float = 0.0,
) -> Tensor:
    """Mix values by the softmax of scaled query-key products; needs `can_attend`.

    q is (B, T, H, E); k and v are (B, T, K, E), each head of them shared by H / K query heads; all
    float32, bfloat16 or float64. Query t sees the keys starts[t] .. t; starts is (B or 1, T) int32,
    None for all from 0 on. norm_weights, (E,) each, multiply queries and keys scaled by their root
    mean square over E; then rotation, cos and sin (B or 1, T, 1, E/2), turns them. Returns
    (B, T, H, E) in q's dtype. Raises ValueError for shapes that do not fit.
    """
    _require_fitting(q, k, v, starts, rotation, norm_weights)
    real = _REAL[_IO[q.dtype]]
    cos, sin = (None, None) if rotation is None else (x.squeeze(2).to(real) for x in rotation)
    q_weight, k_weight = (
        (None, None) if norm_weights is None else (x.to(real) for x in norm_weights)
    )
    operands = (q, k.to(q.dtype), v.to(q.dtype), starts, cos, sin, q_weight, k_weight)
    apply = attention if torch.compiler.is_compiling() else _apply
    out: Tensor = apply(*operands, scale, eps)[0]
    return out


def _attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    starts: Tensor | None,
    cos: Tensor | None,
    sin: Tensor | None,
    q_weight: Tensor | None,
    k_weight: Tensor | None,
    scale: float,
    eps: float,
) -> tuple[Tensor, Tensor]:
    """Return out (B, T, H, E) and the logarithms (base 2) of the softmax's sums (B, H, T)."""
    q, k, v = (_with_even_rows(x) for x in (q, k, v))
    held = [_contiguous(x) for x in (starts, cos, sin, q_weight, k_weight)]
    out = q.new_empty(q.shape)
    log_sums = _new_log_sums(q)
    if out.numel():
        call = _describe(q, k, v, held, scale, eps)
        pointers = (ctypes.c_void_p(x.data_ptr()) for x in (q, k, v, out, log_sums))
        _run("forward", q, ctypes.byref(call), *pointers)
    return out, log_sums


def _attention_backward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
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
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of q, k, v and of both weights, the latter (B, H or K, E) to be summed.

    Without weights these two are empty.
    """
    q, k, v = (_with_even_rows(x) for x in (q, k, v))
    grad_out = grad_out.contiguous()
    held = [_contiguous(x) for x in (starts, cos, sin, q_weight, k_weight)]
    gradients = _new_gradients(q, k, v, log_sums, q_weight)
    if out.numel():
        call = _describe(q, k, v, held, scale, eps)
        tensors = (q, k, v, out, grad_out, log_sums, *gradients)
        _run("backward", q, ctypes.byref(call), ctypes.byref(_Tensors(*map(_pointer, tensors))))
    return gradients


attention = torch.library.custom_op("tinyllm::attention", _attention, mutates_args=())
attention_backward = torch.library.custom_op(
    "tinyllm::attention_backward", _attention_backward, mutates_args=()
)


@attention.register_fake
def _(q, k, v, starts, cos, sin, q_weight, k_weight, scale, eps):  # type: ignore[no-untyped-def]
    return q.new_empty(q.shape), _new_log_sums(q)


@attention_backward.register_fake
def _(q, k, v, out, log_sums, grad_out, starts, cos, sin, q_weight, *rest):  # type: ignore[no-untyped-def]
    return _new_gradients(q, k, v, log_sums, q_weight)


def _save(ctx, inputs, output):  # type: ignore[no-untyped-def]
    *tensors, ctx.scale, ctx.eps = inputs
    ctx.save_for_backward(*tensors, *output)
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)


def _derivative(backward):  # type: ignore[no-untyped-def]
    def differentiate(ctx, grad_out, _grad_log_sums):  # type: ignore[no-untyped-def]
        q, k, v, *rest, out, log_sums = ctx.saved_tensors
        if grad_out is None:
            return (None,) * 10
        operands = (q, k, v, out, log_sums, grad_out, *rest)
        grad_q, grad_k, grad_v, *weights = backward(*operands, ctx.scale, ctx.eps)
        has_norm = rest[-1] is not None
        grad_weights = (x.sum((0, 1)) if has_norm else None for x in weights)
        return grad_q, grad_k, grad_v, None, None, None, *grad_weights, None, None

    return differentiate


attention.register_autograd(_derivative(attention_backward), setup_context=_save)
_apply = differentiable(_attention, _save, _derivative(_attention_backward))


def _require_fitting(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    starts: Tensor | None,
    rotation: tuple[Tensor, Tensor] | None,
    norm_weights: tuple[Tensor, Tensor] | None,
) -> None:
    (batch, time, n_heads, width), n_kv_heads = q.shape, k.shape[2]
    if k.shape != (batch, time, n_kv_heads, width) or v.shape != k.shape or n_heads % n_kv_heads:
        found = ", ".join(str(tuple(x.shape)) for x in (q, k, v))
        raise ValueError(f"q, k, v must be (B, T, H, E) and twice (B, T, K, E), found {found}")
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


def _run(direction: str, q: Tensor, *arguments: object) -> None:
    library = _library(q.shape[3], q.dtype)
    if library is None:
        raise RuntimeError("the attention kernel is not available: ask can_attend first")
    if getattr(library, f"tinyllm_attention_{direction}")(*arguments):
        raise MemoryError("no memory for the workspace of attention")


def _describe(
    q: Tensor, k: Tensor, v: Tensor, held: list[Tensor | None], scale: float, eps: float
) -> _Attention:
    starts, cos = held[0], held[1]
    return _Attention(
        *q.shape[:3],
        k.shape[2],
        *(_token_stride(x) for x in (q, k, v)),
        *map(_pointer, held),
        _batch_stride(starts),
        _batch_stride(cos),
        scale,
        eps,
        torch.get_num_threads(),
    )


def _new_log_sums(q: Tensor) -> Tensor:
    batch, time, n_heads, _ = q.shape
    return q.new_empty((batch, n_heads, time), dtype=_REAL[_IO[q.dtype]])


def _new_gradients(
    q: Tensor, k: Tensor, v: Tensor, log_sums: Tensor, q_weight: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    sizes = ((0,) if q_weight is None else (x.shape[0], *x.shape[2:]) for x in (q, k))
    q_sum, k_sum = (log_sums.new_empty(size) for size in sizes)
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape), q_sum, k_sum


def _pointer(x: Tensor | None) -> int | None:
    return x.data_ptr() if x is not None and x.numel() else None


def _contiguous(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.contiguous()


def _with_even_rows(x: Tensor) -> Tensor:
    """Return x (B, T, H, E) with whole heads side by side and all tokens equally far apart."""
    batch, time, _, width = x.shape
    heads_adjoin = x.stride(3) == 1 and (x.shape[2] == 1 or x.stride(2) == width)
    is_even = batch == 1 or time == 1 or x.stride(0) == time * x.stride(1)
    return x if heads_adjoin and is_even else x.contiguous()


def _token_stride(x: Tensor) -> int:
    return x.stride(1) if x.shape[1] > 1 else x.stride(0)


def _batch_stride(x: Tensor | None) -> int:
    """Return the elements from one row of the batch to the next; 0 where one serves all."""
    return 0 if x is None or x.shape[0] == 1 else x.stride(0)
