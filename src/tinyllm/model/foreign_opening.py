"""Opening causal models of the transformers package, and adding adapters to them.

    config.json -> shape (no weights)
    folder -> frozen weights, as wide as asked or in 4 bits -> peft's adapters -> ForeignNetwork

The only file that knows peft; transformers is known to providers, export and checkpoint too.
"""

import contextlib
import logging
import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from tinyllm.config.lora import LoraConfig
from tinyllm.errors import CheckpointError, ConfigError
from tinyllm.model.foreign import ForeignNetwork, ForeignShape
from tinyllm.model.foreign_probes import is_linear, linears_met
from tinyllm.model.quantized import BLOCK, stay_differentiable

_ADAPTER = "default"


def shape_of(config: Any, context_length: int) -> ForeignShape:
    """Build a network of a transformers config without any memory, and look at it.

    Raises CheckpointError for a network without a head, ValueError as transformers does.
    """
    import transformers

    with torch.device("meta"), quietly():
        causal = transformers.AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    head = causal.get_output_embeddings()
    if head is None:
        raise CheckpointError(f"a {config.model_type} model has no head that tells the next token")
    names = [
        name for name, module in causal.named_modules() if is_linear(module) and module is not head
    ]
    text = config.get_text_config()
    return ForeignShape(
        family=str(config.model_type),
        vocab_size=int(text.vocab_size),
        hidden_size=int(text.hidden_size),
        context_length=context_length,
        n_parameters=sum(p.numel() for p in causal.parameters()),
        linear_names=tuple(dict.fromkeys(name.rpartition(".")[2] for name in names)),
        head_name=next(name for name, module in causal.named_modules() if module is head),
    )


def require_targets(shape: ForeignShape, config: LoraConfig) -> tuple[str, ...]:
    """Return the names of layers that adapters may stand beside, those of all where they are left
    open. Raises ConfigError for one that is not there.
    """
    if not config.is_explicit:
        return shape.linear_names
    missing = sorted(set(config.targets) - set(shape.linear_names))
    if missing:
        raise ConfigError(
            f"`lora.targets` names {', '.join(missing)}, which this {shape.family} network lacks",
            f"It has {', '.join(shape.linear_names)}.",
        )
    return config.targets


def open_network(
    folder: Path,
    shape: ForeignShape,
    lora: LoraConfig,
    generator: torch.Generator,
    *,
    device: torch.device,
    dtype: torch.dtype,
    packs: bool,
    recomputes: bool = False,
) -> ForeignNetwork:
    """Read a model's folder onto the device, frozen in `dtype` or in 4 bits, and add adapters.

    Weights come file by file, straight into what they will be held in. The matrices A are drawn
    as our own adapters' are, from the generator. `recomputes` keeps less for the backward pass.
    Raises CheckpointError for files that do not fit.
    """
    with quietly():
        import peft

    causal = read_causal(folder, shape, device, dtype, packs=packs)
    stay_differentiable(causal)
    causal.config.use_cache = False
    if recomputes:
        with quietly():  # its name changes with transformers 6
            causal.gradient_checkpointing_enable({"use_reentrant": False})
    layers = _layers_to_adapt(causal, shape, lora)
    described = peft.LoraConfig(
        r=lora.rank,
        lora_alpha=cast(int, lora.alpha),
        lora_dropout=lora.dropout,
        target_modules=layers,
        exclude_modules=[shape.head_name],
        task_type="CAUSAL_LM",
    )
    try:
        with quietly():
            adapted = peft.get_peft_model(causal, described, adapter_name=_ADAPTER)
    except (TypeError, ValueError, RuntimeError, AttributeError) as error:
        reason = next((x for x in str(error).splitlines() if x.strip()), type(error).__name__)
        raise ConfigError(
            f"peft adds no adapters to this {shape.family} network: {reason}",
            f"lora.targets may name fewer of these: {', '.join(_last_names(layers))}.",
        ) from error
    _draw(adapted, generator)
    return ForeignNetwork(adapted, shape)


def _layers_to_adapt(causal: nn.Module, shape: ForeignShape, lora: LoraConfig) -> list[str]:
    """Return the full names of the layers that adapters stand beside: of those that may, the ones
    that every token passes, the head left out.

    Raises ConfigError for a name that text never reaches, CheckpointError for a network that is
    not causal.
    """
    with quietly():
        met = linears_met(causal, shape.vocab_size, shape.family)
    met = [name for name in met if name != shape.head_name]
    found = _last_names(met)
    aside = sorted(set(require_targets(shape, lora)) - set(found))
    if not found or (lora.is_explicit and aside):
        raise ConfigError(
            f"not every token of a text passes {', '.join(aside)} of this {shape.family} network, "
            "and adapters there would not learn",
            f"Those that may be named are {', '.join(found)}." if found else None,
        )
    wanted = set(require_targets(shape, lora))
    return [name for name in met if name.rpartition(".")[2] in wanted]


def _last_names(layers: list[str]) -> list[str]:
    return sorted({name.rpartition(".")[2] for name in layers})


def read_causal(
    folder: Path,
    shape: ForeignShape,
    device: torch.device,
    dtype: torch.dtype,
    *,
    packs: bool = False,
) -> Any:
    """Return transformers' own model, every weight of it from the files.

    Raises CheckpointError for files that do not fit, or hold numbers that are not finite.
    """
    import transformers

    given: dict[str, Any] = {}
    if packs:
        given["quantization_config"] = transformers.BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
            llm_int8_skip_modules=[shape.head_name, *_unpackable(folder)],
        )
    try:
        with quietly():
            causal, told = transformers.AutoModelForCausalLM.from_pretrained(
                folder,
                dtype=dtype,
                device_map={"": str(device)},
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
                output_loading_info=True,
                **given,
            )
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        reason = next((x for x in str(error).splitlines() if x.strip()), type(error).__name__)
        raise CheckpointError(f"{folder} cannot be opened by transformers: {reason}") from error
    missing = sorted(told.get("missing_keys") or ())
    if missing:
        raise CheckpointError(
            f"{folder} lacks {len(missing)} weights of its network, {missing[0]} among them",
            "Copy or download it again.",
        )
    for name, weight in causal.named_parameters():
        if weight.is_floating_point() and not bool(torch.isfinite(weight).all()):
            raise CheckpointError(f"{folder}: {name} holds numbers that are not finite")
    return causal


def open_adapter(causal: nn.Module, folder: Path) -> Any:
    """Return peft's model of an adapter's folder beside its base. Raises CheckpointError."""
    try:
        with quietly():
            import peft

            return peft.PeftModel.from_pretrained(causal, folder)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        reason = next((x for x in str(error).splitlines() if x.strip()), type(error).__name__)
        raise CheckpointError(f"{folder} is no adapter that peft opens: {reason}") from error


def _unpackable(folder: Path) -> list[str]:
    """Name the linear layers whose rows do not part into blocks: they are held as they are."""
    import transformers

    config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
    with torch.device("meta"), quietly():
        causal = transformers.AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    return [
        name
        for name, module in causal.named_modules()
        if is_linear(module) and _n_inputs(module) % BLOCK
    ]


def _n_inputs(module: nn.Module) -> int:
    if isinstance(module, nn.Linear):
        return module.in_features
    return int(cast(Tensor, module.weight).shape[0])  # GPT-2's Conv1D is (in, out)


@torch.no_grad()
def _draw(adapted: nn.Module, generator: torch.Generator) -> None:
    """Give every A Kaiming's uniform values, in the order of the layers, and B zeros."""
    for name, weight in adapted.named_parameters():
        if f".lora_A.{_ADAPTER}." in name:
            bound = 1 / math.sqrt(weight.shape[1])
            values = torch.empty(weight.shape).uniform_(-bound, bound, generator=generator)
            weight.copy_(values)
        elif f".lora_B.{_ADAPTER}." in name:
            weight.zero_()


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Keep what transformers, peft and bitsandbytes print to themselves for a while."""
    import transformers

    transformers.utils.logging.disable_progress_bar()
    loggers = [logging.getLogger(name) for name in ("transformers", "peft", "bitsandbytes")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
