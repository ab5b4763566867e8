"""Where tokens are and what they may see: positions, rotations and masks of one call.

All layers of the network share them, so they are worked out once per call. Dimensions are named
as in `transformer.py`.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional

from tinyllm.config.model import ModelConfig


@dataclass(frozen=True)
class Places:
    """Positions, rotations and sight of one call.

    positions is (B or 1, T) int64. rotation is cos and sin, (B or 1, T, 1, E/2) float32 (llama).
    A token sees the keys from its start to itself: `indices` (B or 1, T) int64 are the tokens'
    own places among the n_keys keys, starts (B or 1, T) int32 the first that each sees, in global
    and in local layers; None stands for the first of all.
    """

    positions: Tensor
    rotation: tuple[Tensor, Tensor] | None
    indices: Tensor
    n_keys: int
    global_starts: Tensor | None
    local_starts: Tensor | None

    @classmethod
    def of(
        cls,
        config: ModelConfig,
        input_ids: Tensor,
        document_ids: Tensor | None = None,
        past: Tensor | None = None,
        longest_past: int = 0,
    ) -> Self:
        """Place ids (B, T), each row behind past (B,) tokens, the longest of longest_past.

        Without `past`, every row follows as many as the longest does.
        """
        steps = torch.arange(input_ids.shape[1], device=input_ids.device)  # (T,)
        before = longest_past if past is None else past.unsqueeze(1)
        indices = (before + steps).view(-1, len(steps))  # (B or 1, T)
        n_keys = longest_past + len(steps)
        starts = None if document_ids is None else document_starts(document_ids)
        positions = indices if starts is None else steps - starts
        near = starts
        if config.family == "gpt-neo" and n_keys > config.attention_window:
            near = (indices - config.attention_window + 1).clamp_min(0)
            near = near if starts is None else torch.maximum(near, starts)
        rotation = _rotation(positions, config) if config.family == "llama" else None
        sights = (None if sight is None else sight.int() for sight in (starts, near))
        return cls(positions, rotation, indices, n_keys, *sights)

    @cached_property
    def wide_rotation(self) -> tuple[Tensor, Tensor] | None:
        """The rotation as `apply_rope` takes it, (B or 1, T, 1, E) each."""
        return None if self.rotation is None else widen(*self.rotation)

    @cached_property
    def global_mask(self) -> Tensor | None:
        """What a query of a global layer sees, (B or 1, 1, T, S) bool; None: all up to itself.

        Attention computes the latter faster without a mask. A lone query is the last token, so
        that all keys come before it.
        """
        return self._mask(self.global_starts)

    @cached_property
    def local_mask(self) -> Tensor | None:
        """The same for a local layer."""
        return self._mask(self.local_starts)

    def _mask(self, starts: Tensor | None) -> Tensor | None:
        n_rows, n_queries = self.indices.shape
        if starts is None and (n_queries == self.n_keys or n_rows == n_queries == 1):
            return None
        keys = torch.arange(self.n_keys, device=self.indices.device)  # (S,)
        visible = keys <= self.indices.unsqueeze(2)  # (B or 1, T, S)
        if starts is not None:
            visible = visible & (keys >= starts.unsqueeze(2))
        return visible.unsqueeze(1)


def apply_rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate query or key heads by position (RoPE, arXiv:2104.09864).

    x is (B, T, H, E) with E even; cos and sin are (B or 1, T, 1, E) float32 as `widen` gives
    them. Returns x's shape and dtype. We pair dimension i with i + E/2, as Hugging Face Llama does;
    the paper pairs 2i with 2i + 1.
    """
    partners = x.roll(x.shape[-1] // 2, dims=-1)
    return torch.addcmul(x * cos, partners, sin).to(x.dtype)


def widen(cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """Return cos and sin (…, E) float32 for both halves of a head from those (…, E/2) of its pairs.

    The left of a pair becomes left cos - right sin, so sin bears its sign there.
    """
    return torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1)


def _rotation(positions: Tensor, config: ModelConfig) -> tuple[Tensor, Tensor]:
    """Return cos and sin (B or 1, T, 1, E/2) float32 for positions (B or 1, T)."""
    even = torch.arange(0, config.head_dim, 2, device=positions.device)
    frequencies = config.rope_theta ** (-even.float() / config.head_dim)  # (E/2,)
    divisors = config.frequency_divisors()
    if divisors is not None:
        frequencies = frequencies / torch.tensor(divisors, device=positions.device)
    angles = positions.float()[..., None, None] * frequencies
    return angles.cos(), angles.sin()


def document_starts(document_ids: Tensor) -> Tensor:
    """Return where each token's document, a run of equal ids, begins in its row; (B, T) int64."""
    steps = torch.arange(document_ids.shape[1], device=document_ids.device)
    is_start = functional.pad(document_ids[:, 1:] != document_ids[:, :-1], (1, 0), value=True)
    return (steps * is_start).cummax(dim=1).values
