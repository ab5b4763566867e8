"""Tensors of which every process holds a part (FSDP), made whole and parted again.

Files hold whole tensors under the network's own names, so that a run saved on N processes goes on
on M. A tensor that is not parted passes through unchanged: one process and DDP need no copy.
Making whole is work of all processes together: each must call, in the same order.
"""

from collections.abc import Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn

from tinyllm.model.lora import has_lora, merged_weights, plain_state, scales_of
from tinyllm.model.transformer import Transformer


def whole(tensor: Tensor) -> Tensor:
    """Return the whole tensor of which this process holds a part."""
    if not _is_parted(tensor):
        return tensor
    return cast(Tensor, cast(Any, tensor).full_tensor())


def part_like(tensor: Tensor, model_tensor: Tensor) -> Tensor:
    """Return of a whole tensor what this process holds of `model_tensor`, on its device.

    The result is a new tensor. What has another shape, as an optimizer's step counter, is never
    parted.
    """
    here = tensor.to(model_tensor.device, copy=True)
    if not _is_parted(model_tensor) or tensor.shape != model_tensor.shape:
        return here
    from torch.distributed.tensor import distribute_tensor

    parted = cast(Any, model_tensor)
    return distribute_tensor(here, parted.device_mesh, parted.placements, src_data_rank=None)


def collect(tensors: Iterable[tuple[str, Tensor]], keep: bool) -> dict[str, Tensor]:
    """Make tensors whole, one after another; a process that does not keep gets an empty dict.

    Parted tensors are kept in main memory, so that no device has to hold the whole network.
    """
    kept: dict[str, Tensor] = {}
    for name, tensor in tensors:
        complete = whole(tensor.detach())
        if keep:
            kept[name] = complete.cpu() if _is_parted(tensor) else complete
    return kept


def whole_network(model: Transformer, keep: bool) -> Transformer | None:
    """Return the network with whole weights, in main memory if they were parted; None unless kept.

    Adapters are merged. An unparted network without any is returned as it is, to every process.
    """
    if not any(_is_parted(p) for p in model.parameters()) and not has_lora(model):
        return model
    weights = collect(plain_state(model).items(), keep)
    if not keep:
        return None
    weights = merged_weights(weights, scales_of(model))
    with torch.device("meta"):
        network = Transformer(model.config)
    network.load_state_dict(weights, assign=True)
    return network.eval()


def _is_parted(tensor: Tensor | nn.Parameter) -> bool:
    return hasattr(tensor, "full_tensor")
