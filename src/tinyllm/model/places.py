"""Where tokens are and what they may see: positions, rotations and masks of one call.

All layers of the network share them, so they are worked out once per call. Dimensions are named
as in `transformer.py`.
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional

from tinyllm.config.model import ModelConfig


@dataclass(frozen=True)
class Places:
    """Positions, rotations and masks of one call.

    positions is (B or 1, T) int64. rotation is cos and sin, (B or 1, T, 1, E/2) float32 (llama).
    A mask is (B or 1, 1, T, S) bool, True where a query may look; None stands for "the token
    itself and all before it", which attention computes faster without a mask.
    """

    positions: Tensor
    rotation: tuple[Tensor, Tensor] | None
    global_mask: Tensor | None
    local_mask: Tensor | None

    @classmethod
    def of(
        cls,
        config: ModelConfig,
        input_ids: Tensor,
        document_ids: Tensor | None = None,
        past: Tensor | None = None,
        longest_past: int = 0,
    ) -> Self:
        """Place ids (B, T), each row behind past (B,) tokens, the longest of longest_past."""
        steps = torch.arange(input_ids.shape[1], device=input_ids.device)  # (T,)
        keys = torch.arange(longest_past + len(steps), device=input_ids.device)  # (S,)
        where = (steps if past is None else past.unsqueeze(1) + steps).view(-1, len(steps), 1)
        is_past = where >= keys  # (B or 1, T, S)
        positions, visible = where.squeeze(2), is_past if longest_past else None
        if document_ids is not None:
            positions = _positions_in_documents(document_ids)
            visible = is_past & (document_ids.unsqueeze(2) == document_ids.unsqueeze(1))
        near = visible
        if config.family == "gpt-neo" and len(keys) > config.attention_window:
            is_near = where - keys < config.attention_window
            near = is_near & (is_past if visible is None else visible)
        rotation = _rotation(positions, config) if config.family == "llama" else None
        masks = (None if mask is None else mask.unsqueeze(1) for mask in (visible, near))
        return cls(positions, rotation, *masks)


def apply_rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate query or key heads by position (RoPE, arXiv:2104.09864).

    x is (B, T, H, E) with E even; cos and sin are (B or 1, T, 1, E/2) float32. Returns x's shape
    and dtype. We pair dimension i with i + E/2, as Hugging Face Llama does; the paper pairs 2i
    with 2i + 1.
    """
    left, right = x.chunk(2, dim=-1)  # (B, T, H, E/2)
    rotated = torch.cat((left * cos - right * sin, right * cos + left * sin), dim=-1)
    return rotated.to(x.dtype)


def _rotation(positions: Tensor, config: ModelConfig) -> tuple[Tensor, Tensor]:
    """Return cos and sin (B or 1, T, 1, E/2) float32 for positions (B or 1, T)."""
    even = torch.arange(0, config.head_dim, 2, device=positions.device)
    frequencies = config.rope_theta ** (-even.float() / config.head_dim)  # (E/2,)
    angles = positions.float()[..., None, None] * frequencies
    return angles.cos(), angles.sin()


def _positions_in_documents(document_ids: Tensor) -> Tensor:
    """Count positions from 0 in each run of equal ids; (B, T) int64."""
    steps = torch.arange(document_ids.shape[1], device=document_ids.device)
    is_start = functional.pad(document_ids[:, 1:] != document_ids[:, :-1], (1, 0), value=True)
    return steps - (steps * is_start).cummax(dim=1).values
