import pytest
import torch

from tests.tiny import tiny_model, tiny_tokenizer
from tinyllm.model.transformer import Transformer

IDS = torch.randint(0, 300, (3, 40), generator=torch.Generator().manual_seed(1))


def gradients(model: Transformer) -> tuple[dict[str, torch.Tensor], int]:
    """Return the gradients of a batch, and the bytes that the forward pass kept for them."""
    kept = 0

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal kept
        kept += tensor.numel() * tensor.element_size()
        return tensor

    model.zero_grad()
    torch.manual_seed(5)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = model(IDS[:, :-1], targets=IDS[:, 1:])
    loss.backward()
    return {
        name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None
    }, kept


@pytest.mark.parametrize("family", ["llama", "gpt-neo"])
def test_computing_layers_again_keeps_less_and_changes_no_bit(family: str) -> None:
    model = tiny_model(tiny_tokenizer(), family=family).train()
    for layer in model.model.layers:
        layer.dropout.p = 0.2
    plain, n_plain = gradients(model)
    model.model.recomputes = True
    again, n_again = gradients(model)
    assert plain.keys() == again.keys()
    assert all(torch.equal(plain[name], again[name]) for name in plain)
    assert n_again < 0.5 * n_plain
