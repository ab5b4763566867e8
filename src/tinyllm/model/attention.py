"""How queries, keys and values mix: one function, two ways to the same result.

Dimensions are named as in `transformer.py`.
"""

import torch
from torch import Tensor
from torch.nn import functional

_WRITTEN_OUT = range(2, 193)
"""Numbers of queries for which three plain operations beat the fused one on a CPU: 4 to 6 times
faster at 64, half as fast at 512 (measured forwards and backwards, heads 4 to 64 wide). A lone
query over the keys of a cache, 64 rows at once: a tenth as fast."""


def attend(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, *, scale: float, dropout: float = 0.0
) -> Tensor:
    """Mix values by the softmax of scaled query-key products.

    q is (B, H, T, E); k and v are (B, K, S, E), each head of them shared by H / K query heads.
    mask is (B or 1, 1, T, S) bool, True where a query may look; None, with S = T, lets it look at
    itself and all before, and a lone query, T = 1, at all. Returns (B, H, T, E) in q's dtype.
    """
    is_short = q.device.type == "cpu" and q.dtype == torch.float32 and q.shape[2] in _WRITTEN_OUT
    if is_short and not torch.compiler.is_compiling():
        return _written_out(q, k, v, mask, scale, dropout)
    return functional.scaled_dot_product_attention(
        q,
        k,
        v,
        attn_mask=mask,
        is_causal=mask is None and q.shape[2] > 1,
        dropout_p=dropout,
        scale=scale,
        enable_gqa=q.shape[1] != k.shape[1],
    )


def _written_out(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float, dropout: float
) -> Tensor:
    n_shared = q.shape[1] // k.shape[1]
    if n_shared > 1:
        k, v = (x.repeat_interleave(n_shared, dim=1) for x in (k, v))  # (B, H, S, E)
    if mask is None:
        mask = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).tril()
    scores = (q * scale) @ k.transpose(-2, -1)  # (B, H, T, S)
    shares = scores.masked_fill(~mask, float("-inf")).softmax(-1)
    return functional.dropout(shares, dropout) @ v
