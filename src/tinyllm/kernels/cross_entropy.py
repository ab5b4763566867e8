"""Cross-entropy of a linear layer that never holds (tokens, vocabulary) logits.

    hidden (N, D), weight (V, D), targets (N,)  ->  sum over rows of -log softmax(hidden weightᵀ)

Rows go in chunks: the logits of one chunk stay in the processor's cache, where one native pass
turns them into the loss and its gradient, and two products bring that back to hidden states and
weight. So the gradients are ready when the loss is, and the backward pass only scales them.
Products run in the dtype of `hidden`; the softmax, the loss and the weight's gradient are summed
in float32. Without native code, the pass is plain PyTorch; the chunks stay.
"""

import ctypes
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from tinyllm.kernels.build import load_library
from tinyllm.kernels.chunks import rows_at_once

_SHAPES = 8
"""As many numbers of rows a chunk may have, where some rows are left out."""
_NAMES = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float64: "float64"}


def linear_cross_entropy(
    hidden: Tensor, weight: Tensor, targets: Tensor, ignore_index: int, rows: int | None = None
) -> Tensor:
    """Return the summed cross-entropy in nats, () float32 (float64 for float64).

    hidden is (N, D), weight (V, D), targets (N,) int64 from 0 to V - 1; rows whose target is
    `ignore_index` count nothing and cost nothing. `rows` is the chunk's size. Raises ValueError
    for shapes that do not fit and IndexError for targets that are no class.
    """
    n, width = hidden.shape
    if weight.ndim != 2 or weight.shape[1] != width or targets.shape != (n,):
        raise ValueError(
            f"hidden (N, D), weight (V, D) and targets (N,) do not fit: found "
            f"{tuple(hidden.shape)}, {tuple(weight.shape)} and {tuple(targets.shape)}"
        )
    if rows is None:
        rows = rows_at_once(len(weight), on_accelerator=hidden.device.type != "cpu")
    if hidden.dtype == torch.float16:
        hidden = hidden.float()  # its gradients would vanish before the loss scaler reaches them
    learns = torch.is_grad_enabled()
    loss, _, _ = torch.ops.tinyllm.linear_cross_entropy(
        hidden,
        weight,
        targets,
        ignore_index,
        rows,
        learns and hidden.requires_grad,
        learns and weight.requires_grad,
    )
    out: Tensor = loss
    return out


def _linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    ignore_index: int,
    rows: int,
    by_hidden: bool,
    by_weight: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the loss, and its gradients by hidden and by weight; empty ones where not wanted."""
    wide = _working(hidden.dtype)
    kept = targets != ignore_index
    is_whole = bool(kept.all())
    x, y = (hidden, targets) if is_whole else (hidden[kept], targets[kept])
    matrix = weight.to(hidden.dtype).contiguous()
    _require_classes(y, len(matrix))
    x = x.contiguous() if is_whole else _filled_up(x, rows)
    d_x = torch.empty_like(x) if by_hidden else x.new_empty(0)
    d_weight = torch.zeros_like(matrix, dtype=wide) if by_weight else matrix.new_empty(0)
    loss = torch.zeros((), dtype=_exact(x), device=x.device)
    for part, logits in _logits_by_chunk(x, matrix, rows):
        wanted = y[part]
        loss += _loss_in_place(logits[: len(wanted)], wanted, by_hidden or by_weight)
        logits[len(wanted) :].zero_()
        if by_hidden:
            torch.mm(logits, matrix, out=d_x[part])
        if by_weight:
            _add_product(d_weight, logits, x[part])
    if by_hidden and not is_whole:
        d_x = torch.zeros_like(hidden).index_put_((kept,), d_x[: len(y)])
    return loss.to(wide), d_x, d_weight.to(weight.dtype)


def _filled_up(x: Tensor, rows: int) -> Tensor:
    """Return x (N, D) with rows of zeros behind it, so that few shapes of chunks ever meet oneDNN.

    It keeps what it prepared for each: gigabytes, where every step has another number of rows.
    """
    unit = max(1, rows // _SHAPES) if x.device.type == "cpu" else 1
    return functional.pad(x, (0, 0, 0, -len(x) % unit))


def _logits_by_chunk(x: Tensor, matrix: Tensor, rows: int) -> Iterator[tuple[slice, Tensor]]:
    """Yield slices of at most so many rows with their logits, which may be written over."""
    space = x.new_empty(min(rows, len(x)), len(matrix))
    for start in range(0, len(x), rows):
        part = slice(start, min(start + rows, len(x)))
        logits = space[: part.stop - start]
        yield part, torch.mm(x[part], matrix.t(), out=logits)


def _add_product(total: Tensor, d_logits: Tensor, x: Tensor) -> None:
    """Add d_logitsᵀ x (V, D) to the sum, in whose dtype the chunks meet."""
    if total.dtype == x.dtype:
        total.addmm_(d_logits.t(), x)
    else:
        total += d_logits.t() @ x


def _loss_in_place(logits: Tensor, targets: Tensor, learns: bool) -> Tensor:
    """Return the summed loss () of logits (R, V), and make them its gradient."""
    if serves(logits):
        return _native_loss_in_place(logits, targets, learns)
    rows = torch.arange(len(logits), device=logits.device)
    log_shares = logits.to(_working(logits.dtype)).log_softmax(-1)
    loss = -log_shares[rows, targets].sum(dtype=_exact(logits))
    if learns:
        shares = log_shares.exp_()
        shares[rows, targets] -= 1.0
        logits.copy_(shares)
    return loss


def _native_loss_in_place(logits: Tensor, targets: Tensor, learns: bool) -> Tensor:
    library = _library()
    assert library is not None
    n_threads = torch.get_num_threads()
    losses = torch.empty(len(logits), dtype=torch.float64)
    scratch = torch.empty(n_threads, logits.shape[1], dtype=_working(logits.dtype))
    tensors = (logits, targets.contiguous(), losses, scratch)
    failed = library[f"tinyllm_cross_entropy_{_NAMES[logits.dtype]}"](
        *(ctypes.c_void_p(t.data_ptr()) for t in tensors),
        *(ctypes.c_int64(n) for n in (*logits.shape, learns, n_threads)),
    )
    assert not failed, "targets were checked before"
    return losses.sum()


def _exact(x: Tensor) -> torch.dtype:
    """Return the dtype that losses are summed in: float64, which Apple's GPUs do not have."""
    return torch.float32 if x.device.type == "mps" else torch.float64


def serves(logits: Tensor) -> bool:
    """Tell whether the native pass takes these logits."""
    return logits.device.type == "cpu" and logits.dtype in _NAMES and _library() is not None


def _library() -> ctypes.CDLL | None:
    return load_library("cross_entropy")


def _require_classes(targets: Tensor, n_classes: int) -> None:
    """Raise IndexError for a target that is no class; on an accelerator, its own kernels do."""
    if targets.device.type != "cpu" or not len(targets):
        return
    least, most = (int(end) for end in targets.aminmax())
    if least < 0 or most >= n_classes:
        wrong = least if least < 0 else most
        raise IndexError(f"target {wrong} is none of the {n_classes} classes")


def _working(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


# ---- how autograd and the compiler see it ----

_operators = torch.library.Library("tinyllm", "FRAGMENT")  # type: ignore[no-untyped-call]
_operators.define(  # type: ignore[no-untyped-call]
    "linear_cross_entropy(Tensor hidden, Tensor weight, Tensor targets, int ignore_index, "
    "int rows, bool by_hidden, bool by_weight) -> (Tensor, Tensor, Tensor)"
)
_operators.impl(  # type: ignore[no-untyped-call]
    "linear_cross_entropy", _linear_cross_entropy, "CompositeExplicitAutograd"
)


@torch.library.register_fake(  # type: ignore[untyped-decorator]
    "tinyllm::linear_cross_entropy", lib=_operators
)
def _(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    ignore_index: int,
    rows: int,
    by_hidden: bool,
    by_weight: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    loss = hidden.new_empty((), dtype=_working(hidden.dtype))
    d_hidden = torch.empty_like(hidden) if by_hidden else hidden.new_empty(0)
    return loss, d_hidden, torch.empty_like(weight) if by_weight else weight.new_empty(0)


def _keep_gradients(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.mark_non_differentiable(output[1], output[2])
    ctx.save_for_backward(output[1], output[2])


def _scale_gradients(ctx: Any, d_loss: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    d_hidden, d_weight = ctx.saved_tensors
    by_hidden, by_weight, *_ = ctx.needs_input_grad
    scaled = (d_hidden.to(_working(d_hidden.dtype)) * d_loss).to(d_hidden.dtype)
    none = (None,) * 5
    return scaled if by_hidden else None, d_weight * d_loss if by_weight else None, *none


torch.library.register_autograd(
    "tinyllm::linear_cross_entropy", _scale_gradients, setup_context=_keep_gradients, lib=_operators
)
