"""What a causal model of transformers does, measured by a forward pass over a few made-up ids.

    ids -> network, watched -> is it causal?  which linear layers does every token pass?

The layers that a config builds are not those that text reaches: a vision tower, attention to an
encoder that is not there and experts that a router passes over stay aside. Adapters beside them
would learn nothing, and several processes would wait for their gradients.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from tinyllm.errors import CheckpointError

PROBE_TOKENS, PROBE_ROWS = 12, ((5, 7), (8, 4))
"""Tokens in a row, and how they part into documents."""
_TOLD = 1e-6
"""Share of the gradient below which it is none; a causal model's is 0 exactly."""


def is_linear(module: nn.Module) -> bool:
    """Tell whether a layer is a product with a matrix; GPT-2's Conv1D is one."""
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, nn.Linear | Conv1D)


def probe_ids(vocab_size: int, device: torch.device) -> Tensor:
    """Return two rows of ids, no two of them alike where there are so many."""
    generator = torch.Generator().manual_seed(0)
    shape = (len(PROBE_ROWS), PROBE_TOKENS)
    places = torch.arange(shape[0] * shape[1]) % vocab_size
    return torch.randperm(vocab_size, generator=generator)[places].view(shape).to(device)


@contextlib.contextmanager
def at_rest(network: nn.Module) -> Iterator[None]:
    """Leave dropout out for a while."""
    was_training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(was_training)


def linears_met(causal: Any, family: str) -> list[str]:
    """Return the full names of the linear layers that every token passes, head and all.

    Raises CheckpointError for a network that is not causal: what it says at a place must not
    depend on a later one, so its gradient there is none.
    """
    vocab_size = int(causal.config.get_text_config().vocab_size)
    ids = probe_ids(vocab_size, next(causal.parameters()).device)
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
            logits = causal(input_ids=ids, use_cache=False).logits  # (2, T, V)
            earlier = logits[0, :-1].float().square().sum()
            gradients = torch.autograd.grad(earlier, embedded, allow_unused=True)
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
