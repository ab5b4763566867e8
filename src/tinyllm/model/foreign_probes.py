"""What a causal model of transformers does, measured by a forward pass over a few made-up ids.

    ids -> network, watched -> is it causal?  which linear layers does every token pass?
                               what becomes of hidden states?  are documents of a row kept apart?

The layers that a config builds are not those that text reaches: a vision tower, attention to an
encoder that is not there and experts that a router passes over stay aside. Adapters beside them
would learn nothing, and several processes would wait for their gradients.
"""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from tinyllm.errors import CheckpointError
from tinyllm.model.foreign_calls import at_rest, hidden_states_of, logits_from, logits_of

_TOKENS, _ROWS = 12, ((5, 7), (8, 4))
"""Tokens in a row, and how they part into documents."""
_HONOURED = 0.05
"""Packed documents that are kept apart differ from lone ones by rounding, else by their all."""
_TOLD = 1e-6
"""Share of the gradient below which it is none; a causal model's is 0 exactly."""

HeadForm = Literal["plain", "apart", "whole"]
"""What becomes of hidden states: their plain product with the head's weight, a work that can be
done on some of them alone, or one that can not."""


def is_linear(module: nn.Module) -> bool:
    """Tell whether a layer is a product with a matrix; GPT-2's Conv1D is one."""
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, nn.Linear | Conv1D)


def _probe_ids(vocab_size: int, device: torch.device) -> Tensor:
    """Return two rows of ids, no two of them alike where there are so many."""
    generator = torch.Generator().manual_seed(0)
    shape = (len(_ROWS), _TOKENS)
    places = torch.arange(shape[0] * shape[1]) % vocab_size
    return torch.randperm(vocab_size, generator=generator)[places].view(shape).to(device)


def linears_met(causal: Any, vocab_size: int, family: str) -> list[str]:
    """Return the full names of the linear layers that every token passes, head and all.

    Raises CheckpointError for a network that is not causal: what it says at a place must not
    depend on a later one, so its gradient there is none.
    """
    ids = _probe_ids(vocab_size, next(causal.parameters()).device)
    met: list[str] = []
    embedded: list[Tensor] = []
    last: list[Tensor] = []

    def embed(_: nn.Module, given: tuple[Tensor, ...], said: Tensor) -> Tensor:
        embedded.append(said.detach().requires_grad_())
        last.append(given[0] == ids[0, -1])  # wherever a family puts rows and places
        return embedded[-1].clone()  # some write into it

    def passes(name: str) -> Any:
        def note(_: nn.Module, given: tuple[Tensor, ...], __: object) -> None:
            if given and given[0].shape[:-1].numel() >= ids.numel():
                met.append(name)

        return note

    linears = [(name, module) for name, module in causal.named_modules() if is_linear(module)]
    hooks = [module.register_forward_hook(passes(name)) for name, module in linears]
    hooks.append(causal.get_input_embeddings().register_forward_hook(embed))
    try:
        with at_rest(causal), torch.enable_grad():
            earlier = logits_of(causal, ids)[0, :-1].square().sum()
            gradients = torch.autograd.grad(earlier, embedded, allow_unused=True)
    except torch.OutOfMemoryError:
        raise
    except (TypeError, ValueError, RuntimeError, AttributeError, IndexError, KeyError) as error:
        reason = next((x for x in str(error).splitlines() if x.strip()), type(error).__name__)
        raise CheckpointError(
            f"this {family} network does not read text alone: {reason}"
        ) from error
    finally:
        for hook in hooks:
            hook.remove()
    for gradient, is_last in zip(gradients, last, strict=True):
        if gradient is not None and gradient[is_last].norm() > _TOLD * gradient.norm():
            raise CheckpointError(
                f"this {family} network is not causal: what it says at a token depends on later "
                "ones",
                "Take a model that was made to go on with text.",
            )
    return list(dict.fromkeys(met))


@torch.no_grad()
def form_of_head(causal: Any, vocab_size: int) -> HeadForm:
    """Tell what a model does with hidden states."""
    ids = _probe_ids(vocab_size, next(causal.parameters()).device)
    with at_rest(causal):
        if _has_plain_head(causal, ids):
            return "plain"
        try:
            logits, hidden = logits_of(causal, ids), hidden_states_of(causal, ids)
            alone = logits_from(causal, hidden.flatten(0, 1)[None])
        except (TypeError, ValueError, RuntimeError, AttributeError):
            return "whole"
        difference = (alone.view(logits.shape) - logits).norm()
        return "apart" if difference <= _HONOURED * logits.norm() else "whole"


def _has_plain_head(causal: Any, ids: Tensor) -> bool:
    """Tell whether logits are the head's weight times the decoder's last hidden states.

    The head is given known values in place of its own, far beyond what it says itself, and they
    have to come out as they are.
    """
    head = causal.get_output_embeddings()
    if not isinstance(head, nn.Linear) or head.bias is not None:
        return False
    read: list[Tensor] = []
    said = torch.linspace(-200, 200, ids.numel() * head.out_features, device=ids.device)
    said = said.view(*ids.shape, -1).to(head.weight.dtype)

    def replace(_: nn.Module, given: tuple[Tensor, ...], __: Tensor) -> Tensor:
        read.append(given[0])
        return said

    hook = head.register_forward_hook(replace)
    try:
        logits, hidden = logits_of(causal, ids), hidden_states_of(causal, ids)
    finally:
        hook.remove()
    same = len(read) == 1 and read[0].shape == hidden.shape and torch.equal(read[0], hidden)
    return same and torch.equal(logits, said.float())


@torch.no_grad()
def knows_documents(causal: Any, vocab_size: int) -> bool:
    """Tell whether restarting positions keep the documents of a row apart."""
    ids = _probe_ids(vocab_size, next(causal.parameters()).device)
    owners = torch.tensor(
        [[i for i, n in enumerate(row) for _ in range(n)] for row in _ROWS], device=ids.device
    )
    with at_rest(causal):
        together = logits_of(causal, ids)
        try:
            packed = logits_of(causal, ids, owners)
        except (TypeError, ValueError, RuntimeError):
            return False
        lone = torch.cat(
            [
                torch.cat([logits_of(causal, part[None]) for part in row.split(lengths)], 1)
                for row, lengths in zip(ids, _ROWS, strict=True)
            ]
        )
    return bool((packed - lone).norm() <= _HONOURED * (together - lone).norm())
