"""LoRA: small trained matrices beside frozen ones (Hu et al. 2021, arXiv:2106.09685).

    y = W x + (alpha / rank) B A dropout(x)      A (rank, in) random, B (out, rank) zero

B begins at zero, so a network with adapters first says what it said without. `merged_weights` adds
B A to W again: what is written is a whole network of the same shape, which needs no adapter. The
adapter alone travels in peft's form.

    folder/adapter_model.safetensors    base_model.model.<Hugging Face's name>.lora_A.weight, lora_B
    folder/adapter_config.json          peft's LoraConfig
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tinyllm.config.lora import LoraConfig
from tinyllm.config.model import ModelConfig
from tinyllm.errors import CheckpointError, ConfigError
from tinyllm.files import atomic_write, read_json, require_file, write_json
from tinyllm.model.hf_config import LAYOUTS, Layout, model_type
from tinyllm.model.hf_weights import place_of
from tinyllm.model.quantized import (
    can_quantize,
    dequantize,
    is_quantized,
    n_weights,
    quantize_linear,
)
from tinyllm.model.transformer import Transformer

_WEIGHTS, _CONFIG = "adapter_model.safetensors", "adapter_config.json"
_PREFIX = "base_model.model."
_UNKNOWN = ("use_dora", "modules_to_save", "rank_pattern", "alpha_pattern", "fan_in_fan_out")
"""What peft may ask for, and `merge_adapter` does not do."""
_BASE, _A, _B = ".base_layer.", ".lora_A.weight", ".lora_B.weight"


class LoraLinear(nn.Module):
    """A frozen linear layer and what is learnt beside it; x is (…, in)."""

    def __init__(self, base_layer: nn.Linear, config: LoraConfig, device: torch.device) -> None:
        super().__init__()
        packs = config.quantization == "nf4" and can_quantize(base_layer)
        self.base_layer = quantize_linear(base_layer, device) if packs else base_layer
        self.scale = config.scale
        self.dropout = nn.Dropout(config.dropout)
        with torch.device("meta"):  # values are drawn by seed, not from the global generator
            self.lora_A = nn.Linear(base_layer.in_features, config.rank, bias=False)
            self.lora_B = nn.Linear(config.rank, base_layer.out_features, bias=False)
        self.lora_A.to_empty(device=device)
        self.lora_B.to_empty(device=device)

    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = self.lora_B(self.lora_A(self.dropout(x)))
        out: Tensor = self.base_layer(x) + self.scale * added
        return out


def add_lora(
    model: Transformer,
    config: LoraConfig,
    generator: torch.Generator,
    device: torch.device | None = None,
    weights: Mapping[str, NDArray[np.float32]] | None = None,
) -> None:
    """Freeze a network and put adapters beside its target layers, in place.

    Weights that are packed go to `device`, where they will be used: how, depends on it. Without
    one, everything stays where it is. Where the network was made without numbers, on "meta",
    `weights` gives them: layer by layer, so that no more than one is whole before it is packed.
    Raises ConfigError for a target that the network lacks.
    """
    require_linears(model.config, config)
    model.requires_grad_(False)
    place = device or next(model.parameters()).device
    names = {id(module): name for name, module in model.named_modules()}
    left = _linears(model)[::-1]
    while left:  # what has been packed is held by nobody
        parent, name, child = left.pop()
        if name in config.targets and isinstance(child, nn.Linear):
            if weights is not None:
                _give_numbers(child, weights, f"{names[id(child)]}.")
            setattr(parent, name, _drawn(LoraLinear(child, config, place), generator))
    if weights is not None:
        _give_numbers(model, weights, "")


def _give_numbers(
    module: nn.Module, weights: Mapping[str, NDArray[np.float32]], prefix: str
) -> None:
    """Give the parameters of a module that have no numbers theirs."""
    found = {
        name: torch.from_numpy(weights[prefix + name])
        for name, parameter in module.named_parameters()
        if parameter.is_meta
    }
    module.load_state_dict(found, strict=False, assign=True)


def require_linears(shape: ModelConfig, config: LoraConfig) -> None:
    """Raise ConfigError where targets were chosen that a network of this shape lacks."""
    names = linear_names(shape)
    missing = sorted(set(config.targets) - set(names))
    if missing and config.is_explicit:
        raise ConfigError(
            f"`lora.targets` names {', '.join(missing)}, which this {shape.family} network lacks",
            f"It has {', '.join(names)}.",
        )


def linear_names(shape: ModelConfig) -> list[str]:
    """Name the linear layers that a layer of such a network has."""
    with torch.device("meta"):
        model = Transformer(shape)
    return list(dict.fromkeys(name for _, name, _ in _linears(model)))


def _linears(model: Transformer) -> list[tuple[nn.Module, str, nn.Module]]:
    """Return (parent, name, layer) of each linear layer inside the network's layers."""
    return [
        (parent, name, child)
        for parent in model.model.layers.modules()
        if not isinstance(parent, LoraLinear)
        for name, child in parent.named_children()
        if isinstance(child, nn.Linear | LoraLinear)
    ]


@torch.no_grad()
def _drawn(layer: LoraLinear, generator: torch.Generator) -> LoraLinear:
    """Give A Kaiming's uniform values, as peft does, and B zeros."""
    bound = 1 / math.sqrt(layer.base_layer.in_features)
    values = torch.empty(layer.lora_A.weight.shape).uniform_(-bound, bound, generator=generator)
    layer.lora_A.weight.copy_(values)
    layer.lora_B.weight.zero_()
    return layer


def adapters(model: nn.Module) -> Iterator[tuple[str, LoraLinear]]:
    """Yield the adapted layers with the names that they had in the plain network."""
    for name, module in model.named_modules():
        if isinstance(module, LoraLinear):
            yield name, module


def has_lora(model: nn.Module) -> bool:
    """Tell whether a network carries adapters."""
    return next(adapters(model), None) is not None


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """Return (parameters that train, all parameters); two in a byte count as two."""
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    packed = [module for module in model.modules() if is_quantized(module)]
    n_packed = sum(cast(Tensor, module.weight).numel() for module in packed)
    n_unpacked = sum(n_weights(module) for module in packed)
    return trained, sum(p.numel() for p in model.parameters()) - n_packed + n_unpacked


def merged_weights(weights: Mapping[str, Tensor], scales: Mapping[str, float]) -> dict[str, Tensor]:
    """Return the weights of a plain network from those of one with adapters.

    `scales` holds alpha / rank by the name of each adapted layer.
    """
    merged: dict[str, Tensor] = {}
    for name, weight in weights.items():
        if name.endswith((_A, _B)):
            continue
        plain = name.replace(_BASE, ".")
        layer = plain.rpartition(".")[0]
        if layer in scales and plain.endswith(".weight"):
            a, b = weights[layer + _A], weights[layer + _B]
            weight = weight + scales[layer] * (b.float() @ a.float()).to(weight.dtype)
        merged[plain] = weight
    return merged


def plain_state(model: nn.Module) -> dict[str, Tensor]:
    """Return all weights by name, those in 4 bits unpacked."""
    packed = {
        f"{name}.base_layer.weight": layer.base_layer
        for name, layer in adapters(model)
        if is_quantized(layer.base_layer)
    }
    weights = {
        name: weight
        for name, weight in model.state_dict().items()
        if not any(name.startswith(prefix) for prefix in packed)
    }
    return weights | {name: dequantize(layer) for name, layer in packed.items()}


def scales_of(model: nn.Module) -> dict[str, float]:
    """Return alpha / rank by the name of each adapted layer."""
    return {name: layer.scale for name, layer in adapters(model)}


def adapter_layout(config: ModelConfig) -> Layout | None:
    """Return how peft names the layers of such a network, None where q, k and v are one there."""
    layout = LAYOUTS[model_type(config)]
    return None if layout == "gpt-2" else layout


def save_adapter(
    folder: Path,
    weights: Mapping[str, Tensor],
    config: LoraConfig,
    layout: Layout,
    base: str,
    base_sha256: str,
) -> None:
    """Write the adapters among `weights` in peft's form. Raises DataError for a full disk."""
    from safetensors.torch import save

    tensors = {
        _PREFIX + place_of(name, layout).name: weight.contiguous().cpu()
        for name, weight in weights.items()
        if name.endswith((_A, _B))
    }
    description = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": config.rank,
        "lora_alpha": config.alpha,
        "lora_dropout": config.dropout,
        "target_modules": sorted(
            {name.removesuffix(_A).split(".")[-1] for name in tensors if name.endswith(_A)}
        ),
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "use_rslora": False,
    }
    with atomic_write(folder / _WEIGHTS) as file:
        file.write(save(tensors, {"format": "pt", "base_sha256": base_sha256}))
    write_json(folder / _CONFIG, description)


@dataclass(frozen=True)
class Adapter:
    """An adapter in peft's form: matrices by peft's names, alpha / rank, and the base's SHA-256.

    Others than ours tell no SHA-256: it is empty then.
    """

    folder: Path
    matrices: dict[str, Tensor]
    scale: float
    base_sha256: str


def read_adapter(folder: Path) -> Adapter:
    """Read an adapter. Raises CheckpointError for what is no LoRA of linear layers alone."""
    from safetensors import SafetensorError, safe_open

    path = require_file(folder / _WEIGHTS, "adapter")
    config: Any = read_json(folder / _CONFIG)
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise CheckpointError(f"{folder / _CONFIG} does not describe a LoRA adapter")
    if any(config.get(name) for name in _UNKNOWN):
        raise CheckpointError(f"{folder} holds more than LoRA of one rank: DoRA or whole modules")
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if not (isinstance(rank, int) and rank > 0 and isinstance(alpha, int | float)):
        raise CheckpointError(f"{folder / _CONFIG} gives no rank `r` and `lora_alpha`")
    try:
        with safe_open(path, "pt") as file:
            found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            base_sha256 = (file.metadata() or {}).get("base_sha256", "")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    scale = alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank
    return Adapter(folder, found, scale, base_sha256)


@torch.no_grad()
def merge_adapter(model: Transformer, folder: Path) -> None:
    """Add an adapter to a plain network, in place: adapters stack by being merged one by one.

    Raises CheckpointError when it does not fit.
    """
    adapter, layout = read_adapter(folder), adapter_layout(model.config)
    left = dict(adapter.matrices)
    for name, layer in model.named_modules():
        if layout is None or not isinstance(layer, nn.Linear):
            continue
        a = left.pop(_PREFIX + place_of(name + _A, layout).name, None)
        b = left.pop(_PREFIX + place_of(name + _B, layout).name, None)
        if a is None and b is None:
            continue
        if a is None or b is None or not _fits(a, b, layer):
            raise _does_not_fit(folder, name)
        layer.weight.add_(b.float() @ a.float(), alpha=adapter.scale)
    if left:
        raise _does_not_fit(folder, next(iter(left)))


def _fits(a: Tensor, b: Tensor, layer: nn.Linear) -> bool:
    """Tell whether B A (out, in) has the shape of a layer's weight."""
    return (
        a.ndim == b.ndim == 2
        and b.shape[1] == a.shape[0]
        and (b.shape[0], a.shape[1]) == tuple(layer.weight.shape)
    )


def _does_not_fit(folder: Path, name: str) -> CheckpointError:
    return CheckpointError(
        f"the adapter {folder} does not fit this network at {name}",
        "It was made for another one: adapter_config.json names its base.",
    )
