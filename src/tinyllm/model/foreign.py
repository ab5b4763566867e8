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

`foreign_opening.py` reads networks and adds adapters.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint as recomputed

from tinyllm.config.generation import Sampling
from tinyllm.errors import CheckpointError
from tinyllm.kernels.cross_entropy import linear_cross_entropy
from tinyllm.kernels.elementwise import product_dtype
from tinyllm.model.places import document_starts
from tinyllm.model.transformer import IGNORE_TARGET

_PROBE_TOKENS, _PROBE_ROWS = 12, ((5, 7), (8, 4))
_CHUNK = 512
"""Tokens whose logits are held at a time where the head does more than a product."""
_HONOURED = 0.05
"""Packed documents that are kept apart differ from lone ones by rounding, else by their all."""


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
        self.head_form = self._form_of_head()
        self.knows_documents = self._knows_documents()

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
            return self._logits(input_ids, document_ids)
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
            logits = self._logits(input_ids, document_ids)  # (B, T, V)
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
        return self._replacing(self.causal.base_model, hidden[None])[0]

    def _replacing(self, decoder: nn.Module, hidden: Tensor) -> Tensor:
        """Return the logits (1, N, V) that the model makes of hidden states (1, N, D)."""

        def replace(_: nn.Module, __: object, said: Any) -> Any:
            said.last_hidden_state = hidden
            return said

        hook = decoder.register_forward_hook(replace)
        try:
            return self._logits(torch.zeros(1, 1, dtype=torch.int64, device=hidden.device), None)
        finally:
            hook.remove()

    def hidden_states(self, input_ids: Tensor, *, document_ids: Tensor | None = None) -> Tensor:
        """Return what the head reads, (B, T, D)."""
        called = self.causal.base_model(
            input_ids=input_ids, use_cache=False, **_positions(document_ids)
        )
        return cast(Tensor, called.last_hidden_state)

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
            with self._at_rest(), torch.random.fork_rng(devices=[]):
                torch.manual_seed(sampling.seed or 0)
                given = torch.tensor([ids], device=self.device)
                drawn = self.causal.generate(
                    given, attention_mask=torch.ones_like(given), generation_config=wanted
                )
        finally:
            self.causal.generation_config = before
        made = cast(list[int], drawn[0, len(ids) :].tolist())
        return next((made[:i] for i, token in enumerate(made) if token in stops), made)

    def _logits(self, input_ids: Tensor, document_ids: Tensor | None) -> Tensor:
        called = self.causal(input_ids=input_ids, use_cache=False, **_positions(document_ids))
        return cast(Tensor, called.logits).float()

    @torch.no_grad()
    def _form_of_head(self) -> Literal["plain", "apart", "whole"]:
        """Tell what becomes of hidden states: their plain product with the head's weight, a work
        that can be done on some of them alone, or one that can not.
        """
        with self._at_rest():
            if self._has_plain_head():
                return "plain"
            ids = self._probe_ids()
            try:
                logits, hidden = self._logits(ids, None), self.hidden_states(ids)
                alone = self._replacing(self.causal.base_model, hidden.flatten(0, 1)[None])
            except (TypeError, ValueError, RuntimeError, AttributeError):
                return "whole"
            difference = (alone.view(logits.shape) - logits).norm()
            return "apart" if difference <= _HONOURED * logits.norm() else "whole"

    def _has_plain_head(self) -> bool:
        """Tell whether logits are the head's weight times the decoder's last hidden states.

        The head is given known values in place of its own, far beyond what it says itself, and
        they have to come out as they are.
        """
        head = self.causal.get_output_embeddings()
        if not isinstance(head, nn.Linear) or head.bias is not None:
            return False
        ids = self._probe_ids()
        read: list[Tensor] = []
        said = torch.linspace(-200, 200, ids.numel() * head.out_features, device=ids.device)
        said = said.view(*ids.shape, -1).to(head.weight.dtype)

        def replace(_: nn.Module, given: tuple[Tensor, ...], __: Tensor) -> Tensor:
            read.append(given[0])
            return said

        hook = head.register_forward_hook(replace)
        try:
            logits, hidden = self._logits(ids, None), self.hidden_states(ids)
        finally:
            hook.remove()
        same = len(read) == 1 and read[0].shape == hidden.shape and torch.equal(read[0], hidden)
        return same and torch.equal(logits, said.float())

    @torch.no_grad()
    def _knows_documents(self) -> bool:
        """Tell whether restarting positions keep the documents of a row apart."""
        ids = self._probe_ids()
        owners = torch.tensor(
            [[i for i, n in enumerate(row) for _ in range(n)] for row in _PROBE_ROWS],
            device=ids.device,
        )
        with self._at_rest():
            together = self._logits(ids, None)
            try:
                packed = self._logits(ids, owners)
            except (TypeError, ValueError, RuntimeError):
                return False
            lone = torch.cat(
                [
                    torch.cat([self._logits(part[None], None) for part in row.split(lengths)], 1)
                    for row, lengths in zip(ids, _PROBE_ROWS, strict=True)
                ]
            )
        return bool((packed - lone).norm() <= _HONOURED * (together - lone).norm())

    def _probe_ids(self) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        shape = (len(_PROBE_ROWS), _PROBE_TOKENS)
        ids = torch.randint(self.config.vocab_size, shape, generator=generator)
        return ids.to(self.device)

    @contextlib.contextmanager
    def _at_rest(self) -> Iterator[None]:
        """Leave dropout out for a while."""
        was_training = self.training
        self.eval()
        try:
            yield
        finally:
            self.train(was_training)


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


def _positions(document_ids: Tensor | None) -> dict[str, Tensor]:
    """Return positions (B, T) that begin anew with each document, for transformers."""
    if document_ids is None:
        return {}
    steps = torch.arange(document_ids.shape[1], device=document_ids.device)
    return {"position_ids": steps - document_starts(document_ids)}
