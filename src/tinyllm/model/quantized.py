"""Frozen linear layers in 4 bits (NF4, Dettmers et al. 2023, arXiv:2305.14314).

The only file that knows bitsandbytes. Weights are held in 4 bits with a scale a block of 64, the
scales themselves quantized, and unpacked for each product; gradients pass through to the input.
"""

import logging
import math
from typing import Any, cast

import torch
from torch import Tensor, nn

from tinyllm.errors import MissingPartError

_HINT = 'Install it with `pip install "tinyllm[hf]"`, or set lora.quantization to "none".'


BLOCK = 64
"""Weights that share a scale; rows that are no multiple of it are not served on CPUs."""


def can_quantize(layer: nn.Linear) -> bool:
    """Tell whether a layer's rows part into blocks; others stay as they are."""
    return layer.in_features % BLOCK == 0


def why_not_nf4(device: torch.device) -> str | None:
    """Say why weights cannot be held in 4 bits on a device, by trying it; None where they can.

    Raises MissingPartError where bitsandbytes is missing.
    """
    try:
        with torch.device("meta"):
            layer = nn.Linear(BLOCK, BLOCK, bias=False)
        quantize_linear(layer.to_empty(device="cpu").requires_grad_(False).apply(_fill), device)
    except NotServedError as error:
        return error.message
    return None


def _fill(layer: nn.Module) -> None:
    cast(Tensor, layer.weight).fill_(1.0)


class NotServedError(MissingPartError):
    """bitsandbytes is here, and does not serve this device."""


def quantize_linear(layer: nn.Linear, device: torch.device) -> nn.Linear:
    """Return a frozen copy of a linear layer on a device, with its weight (out, in) in 4 bits.

    Raises MissingPartError where bitsandbytes is missing, NotServedError (one of them) where it
    does not serve the device.
    """
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    try:
        import bitsandbytes
    except ImportError as error:
        raise MissingPartError("4-bit weights need the package bitsandbytes", _HINT) from error
    try:
        quantized = bitsandbytes.nn.Linear4bit(
            layer.in_features,
            layer.out_features,
            bias=layer.bias is not None,
            compute_dtype=torch.bfloat16 if device.type == "cuda" else torch.float32,
            compress_statistics=True,
            quant_type="nf4",
        )
        quantized.load_state_dict(layer.state_dict())
        quantized = quantized.to(device).requires_grad_(False)
        stay_differentiable(quantized)
        dequantize(quantized)
    except (RuntimeError, NotImplementedError, AttributeError) as error:
        reason = str(error).strip().split("\n")[0]
        raise NotServedError(
            f"bitsandbytes cannot hold weights in 4 bits on {device.type}: {reason}", _HINT
        ) from error
    return cast(nn.Linear, quantized)


def stay_differentiable(model: nn.Module) -> None:
    """Keep bitsandbytes' layers, in place, from laying their weights out for inference alone.

    On processors with AVX-512 bfloat16 they do so at the first call in evaluation mode, for good;
    from then on no gradient passes through them, and training goes on without a word.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            cast(Any, module).support_avx512bf16_for_cpu = False


def is_quantized(layer: nn.Module) -> bool:
    """Tell whether a layer's weight is in 4 bits."""
    own = layer._parameters.get("weight")  # an adapter shows the weight of what it stands beside
    return getattr(own, "quant_state", None) is not None


def n_weights(layer: nn.Module) -> int:
    """Return how many weights a quantized layer holds, which lie packed in fewer bytes."""
    return int(math.prod(cast(Any, layer.weight).quant_state.shape))


def dequantize(layer: nn.Module) -> Tensor:
    """Return a quantized layer's weight (out, in) in float32, as its products see it."""
    from bitsandbytes import functional

    weight = cast(Any, layer.weight)
    unpacked: Tensor = functional.dequantize_4bit(weight.data, weight.quant_state)
    return unpacked.float()
