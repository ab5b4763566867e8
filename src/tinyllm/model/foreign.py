"""Causal models of the transformers package with peft's adapters, as the training loop calls them.

    ids -> decoder (frozen, adapters inside) -> hidden states -> head -> summed loss

Our own network serves a few families; this wrapper gives all others its one call, `model(ids,
document_ids=…, targets=…, by_row=…)`, so that there is one loop, one resume and one report. What
a family does is measured when it is opened rather than listed by name, since the list would never
be whole: whether logits are the head's plain product, for which there is a kernel, or more is done
with them (Gemma's soft cap, Cohere's scale), which the model then does for a chunk of tokens at a
time, so that they are never held whole; and whether restarting positions keep documents of a row
apart (OPT, Falcon, Bloom and Mamba say no, and each document gets a row of its own, padded on the
right, where a causal model does not look).

`foreign_opening.py` reads networks and adds adapters, `foreign_probes.py` measures what they do.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint as recomputed

from tinyllm.config.generation import Sampling
from tinyllm.errors import CheckpointError
from tinyllm.kernels.cross_entropy import linear_cross_entropy
from tinyllm.kernels.elementwise import product_dtype
from tinyllm.model.foreign_calls import at_rest, hidden_states_of, logits_from, logits_of
from tinyllm.model.foreign_probes import form_of_head, knows_documents
from tinyllm.model.transformer import IGNORE_TARGET

_CHUNK = 512
"""Tokens whose logits are held at a time where the head does more than a product."""


@dataclass(frozen=True)
class ForeignShape:
    """What training has to know of a network that is not ours."""

    family: str
    """transformers' `model_type`."""
    vocab_size: int
    hidden_size: int
    context_length: int
    n_parameters: int
    linear_names: tuple[str, ...]
    """Names of the linear layers, the head left out."""
    head_name: str


class ForeignNetwork(nn.Module):
    """A frozen causal model with adapters, behind the call that our own network has."""

    def __init__(self, adapted: Any, shape: ForeignShape) -> None:
        super().__init__()
        self.adapted = adapted
        self.config = shape
        self.head_form = form_of_head(self.causal, shape.vocab_size)
        self.knows_documents = knows_documents(self.causal, shape.vocab_size)

    @property
    def causal(self) -> Any:
        """The model of transformers, adapters inside."""
        return self.adapted.get_base_model()

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(self.parameters()).device

    def forward(
        self,
        input_ids: Tensor,
        *,
        document_ids: Tensor | None = None,
        targets: Tensor | None = None,
        by_row: bool = False,
    ) -> Tensor:
        """Return logits (B, T, V) float32 for ids (B, T) int64.

        With targets (B, T) int64, return the summed loss in nats () float32 instead; those of
        IGNORE_TARGET count nothing. `by_row` sums each row for itself, (B,). With document_ids
        (B, T) int64 and targets, no token sees another document of its row.
        """
        if targets is None:
            return logits_of(self.causal, input_ids, document_ids)
        if document_ids is None or self.knows_documents:
            return self._losses(input_ids, document_ids, targets, by_row)
        groups = list(one_document_a_row(input_ids, targets, document_ids))
        losses = [self._losses(ids, None, wanted, by_row) for ids, wanted, _ in groups]
        if not by_row:
            return torch.stack(losses).sum()
        rows = torch.cat([rows for _, _, rows in groups])  # (N,)
        return losses[0].new_zeros(len(input_ids)).index_add(0, rows, torch.cat(losses))

    def _losses(
        self, input_ids: Tensor, document_ids: Tensor | None, targets: Tensor, by_row: bool
    ) -> Tensor:
        if self.head_form == "whole":
            logits = logits_of(self.causal, input_ids, document_ids)  # (B, T, V)
            losses = _each(logits.flatten(0, 1), targets.flatten()).view(targets.shape)
            return losses.sum(1) if by_row else losses.sum()
        hidden = self.hidden_states(input_ids, document_ids=document_ids)  # (B, T, D)
        if self.head_form == "apart":
            return self._losses_by_chunk(hidden, targets, by_row)
        hidden = hidden.to(product_dtype(hidden))
        weight = self.causal.get_output_embeddings().weight
        if by_row:
            pairs = zip(hidden, targets, strict=True)
            return torch.stack(
                [linear_cross_entropy(x, weight, y, IGNORE_TARGET) for x, y in pairs]
            )
        return linear_cross_entropy(hidden.flatten(0, 1), weight, targets.flatten(), IGNORE_TARGET)

    def _losses_by_chunk(self, hidden: Tensor, targets: Tensor, by_row: bool) -> Tensor:
        """Return the losses of hidden states (B, T, D), logits made a chunk of tokens at a time.

        The backward pass makes them again.
        """
        kept = targets != IGNORE_TARGET  # (B, T)
        parts = [
            cast(Tensor, recomputed(self._chunk, x, y, use_reentrant=False))
            for x, y in zip(
                torch.split(hidden[kept], _CHUNK), torch.split(targets[kept], _CHUNK), strict=True
            )
        ]
        losses = torch.cat(parts)  # (N,)
        sums = losses.new_zeros(len(targets))
        sums = sums.index_add(0, kept.nonzero()[:, 0], losses)  # (B,)
        return sums if by_row else sums.sum()

    def _chunk(self, hidden: Tensor, targets: Tensor) -> Tensor:
        return _each(self.head(hidden), targets)

    def head(self, hidden: Tensor) -> Tensor:
        """Return logits (N, V) float32 for hidden states (N, D).

        Where more than a product is done with them, the model itself does it: its decoder reads one
        token, and what it says is replaced. Raises CheckpointError where even that is not what the
        model does.
        """
        if self.head_form == "plain":
            weight = self.causal.get_output_embeddings().weight
            return functional.linear(hidden.to(weight.dtype), weight).float()
        if self.head_form == "whole":
            raise CheckpointError(f"the head of a {self.config.family} model does not stand alone")
        return logits_from(self.causal, hidden[None])[0]

    def hidden_states(self, input_ids: Tensor, *, document_ids: Tensor | None = None) -> Tensor:
        """Return what the head reads, (B, T, D)."""
        return hidden_states_of(self.causal, input_ids, document_ids)

    @torch.no_grad()
    def continue_ids(self, ids: list[int], sampling: Sampling, ends: list[int]) -> list[int]:
        """Return a drawn continuation of ids, without the token that ends it.

        Of the model's own settings for generation only the tokens that end a text count.
        """
        from transformers import GenerationConfig

        before = self.causal.generation_config
        own = getattr(before, "eos_token_id", None)
        others = own if isinstance(own, list) else [own]
        stops = list(dict.fromkeys([*ends, *(i for i in others if isinstance(i, int))]))
        room = self.config.context_length - len(ids)
        draw = {"temperature": sampling.temperature, "top_p": sampling.top_p}
        wanted = GenerationConfig(
            do_sample=sampling.temperature > 0,
            **(draw if sampling.temperature > 0 else {}),
            top_k=sampling.top_k,
            min_p=sampling.min_p or None,
            repetition_penalty=sampling.repetition_penalty,
            no_repeat_ngram_size=sampling.no_repeat_ngram,
            max_new_tokens=max(1, min(sampling.max_new_tokens or room, room)),
            eos_token_id=stops,
            pad_token_id=stops[0],
        )
        self.causal.generation_config = wanted  # what is unset is filled from there
        try:
            with at_rest(self), torch.random.fork_rng(devices=[]):
                torch.manual_seed(sampling.seed or 0)
                given = torch.tensor([ids], device=self.device)
                drawn = self.causal.generate(
                    given, attention_mask=torch.ones_like(given), generation_config=wanted
                )
        finally:
            self.causal.generation_config = before
        made = cast(list[int], drawn[0, len(ids) :].tolist())
        return next((made[:i] for i, token in enumerate(made) if token in stops), made)


def _each(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the loss of each token (N,) by its logits (N, V); those to ignore have none."""
    return functional.cross_entropy(logits, targets, ignore_index=IGNORE_TARGET, reduction="none")


def one_document_a_row(
    input_ids: Tensor, targets: Tensor, document_ids: Tensor
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Give each document of packed rows (B, T) a row of its own, (N, L), padded on the right.

    Yields ids, targets and the row (N,) that each came from, documents of like length together:
    the longest first, and no group holds more than B x T tokens with its padding. Left out are the
    padding of packed rows (document -1) and documents without a target; where nothing is left, a
    row without a target stands for it.
    """
    teaches = (targets != IGNORE_TARGET).tolist()
    parts: list[tuple[int, int, int]] = []
    for row, owners in enumerate(document_ids.tolist()):
        starts = [i for i, x in enumerate(owners) if i == 0 or x != owners[i - 1]]
        ends = [*starts[1:], len(owners)]
        found = [(row, a, b) for a, b in zip(starts, ends, strict=True) if owners[a] >= 0]
        parts += [(row, a, b) for row, a, b in found if any(teaches[row][a:b])]
    parts = sorted(parts, key=lambda part: part[1] - part[2]) or [(0, 0, 0)]
    while parts:
        longest = max(1, parts[0][2] - parts[0][1])
        n_rows = input_ids.numel() // longest
        group, parts = parts[:n_rows], parts[n_rows:]
        ids = input_ids.new_zeros(len(group), longest)
        wanted = torch.full_like(ids, IGNORE_TARGET)
        for place, (row, a, b) in enumerate(group):
            ids[place, : b - a] = input_ids[row, a:b]
            wanted[place, : b - a] = targets[row, a:b]
        yield ids, wanted, torch.tensor([row for row, _, _ in group], device=ids.device)
