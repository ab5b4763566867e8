"""Calls of a causal model of transformers: ids to hidden states, and both to logits."""

import contextlib
from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn

from tinyllm.model.places import document_starts


def logits_of(causal: Any, input_ids: Tensor, document_ids: Tensor | None = None) -> Tensor:
    """Return logits (B, T, V) float32 for ids (B, T)."""
    called = causal(input_ids=input_ids, use_cache=False, **_positions(document_ids))
    return cast(Tensor, called.logits).float()


def hidden_states_of(causal: Any, input_ids: Tensor, document_ids: Tensor | None = None) -> Tensor:
    """Return what the head reads, (B, T, D)."""
    called = causal.base_model(input_ids=input_ids, use_cache=False, **_positions(document_ids))
    return cast(Tensor, called.last_hidden_state)


def logits_from(causal: Any, hidden: Tensor) -> Tensor:
    """Return the logits (1, N, V) that the model makes of hidden states (1, N, D).

    Its decoder reads one token, and what it says is replaced.
    """

    def replace(_: nn.Module, __: object, said: Any) -> Any:
        said.last_hidden_state = hidden
        return said

    hook = causal.base_model.register_forward_hook(replace)
    try:
        return logits_of(causal, torch.zeros(1, 1, dtype=torch.int64, device=hidden.device))
    finally:
        hook.remove()


@contextlib.contextmanager
def at_rest(network: nn.Module) -> Iterator[None]:
    """Leave dropout out for a while."""
    was_training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(was_training)


def _positions(document_ids: Tensor | None) -> dict[str, Tensor]:
    """Return positions (B, T) that begin anew with each document, for transformers."""
    if document_ids is None:
        return {}
    steps = torch.arange(document_ids.shape[1], device=document_ids.device)
    return {"position_ids": steps - document_starts(document_ids)}
