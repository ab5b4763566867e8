"""Frozen linear layers in 4 bits (NF4, Dettmers et al. 2023, arXiv:2305.14314).

The only file that knows bitsandbytes. Weights are held in 4 bits with a scale a block of 64, the
scales themselves quantized, and unpacked for each product; gradients pass through to the input.
"""

import logging
from typing import Any, cast

import torch
from torch import Tensor, nn

from tinyllm.errors import MissingPartError

_HINT = 'Install it with `pip install "tinyllm[hf]"`, or set lora.quantization to "none".'


_BLOCK = 64
"""Weights that share a scale; rows that are no multiple of it are not served on CPUs."""


def can_quantize(layer: nn.Linear) -> bool:
    """Tell whether a layer's rows part into blocks; others stay as they are."""
    return layer.in_features % _BLOCK == 0


def quantize_linear(layer: nn.Linear) -> nn.Linear:
    """Return a frozen copy of a linear layer with its weight (out, in) in 4 bits.

    Raises MissingPartError where bitsandbytes is missing or does not serve this device.
    """
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    try:
        import bitsandbytes
    except ImportError as error:
        raise MissingPartError("4-bit weights need the package bitsandbytes", _HINT) from error
    device = layer.weight.device
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
        dequantize(quantized)
    except (RuntimeError, NotImplementedError, AttributeError) as error:
        reason = str(error).strip().split("\n")[0]
        raise MissingPartError(
            f"bitsandbytes cannot hold weights in 4 bits on {device.type}: {reason}", _HINT
        ) from error
    return cast(nn.Linear, quantized)


def is_quantized(layer: nn.Module) -> bool:
    """Tell whether a layer's weight is in 4 bits."""
    return getattr(getattr(layer, "weight", None), "quant_state", None) is not None


def dequantize(layer: nn.Module) -> Tensor:
    """Return a quantized layer's weight (out, in) in float32, as its products see it."""
    from bitsandbytes import functional

    weight = cast(Any, layer.weight)
    unpacked: Tensor = functional.dequantize_4bit(weight.data, weight.quant_state)
    return unpacked.float()
