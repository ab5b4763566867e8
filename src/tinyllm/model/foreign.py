"""Causal models of the transformers package with peft's adapters, as the training loop calls them.

    ids -> decoder (frozen, adapters inside) -> hidden states -> head -> summed loss

Our own network serves a few families; this wrapper gives all others its one call, `model(ids,
document_ids=…, targets=…, by_row=…)`, so that there is one loop, one resume and one report. What
a family does is measured when it is opened rather than listed by name, since the list would never
be whole: whether logits are the head's plain product (then the loss never holds them all; Gemma's
soft cap and Cohere's scale say no, and logits are made whole), and whether restarting positions
keep documents of a row apart (OPT, Falcon, Bloom, Mamba say no, and each document gets a row of
its own, padded on the right, where a causal model does not look).

The only file that knows peft; transformers is known to providers, export and checkpoint too.
"""

import contextlib
import logging
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from tinyllm.config.generation import Sampling
from tinyllm.config.lora import LoraConfig
from tinyllm.errors import CheckpointError, ConfigError
from tinyllm.kernels.cross_entropy import linear_cross_entropy
from tinyllm.kernels.elementwise import product_dtype
from tinyllm.model.places import document_starts
from tinyllm.model.quantized import BLOCK, stay_differentiable
from tinyllm.model.transformer import IGNORE_TARGET

_ADAPTER = "default"
_PROBE_TOKENS, _PROBE_ROWS = 12, ((5, 7), (8, 4))
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
    names = [name for name, module in causal.named_modules() if _is_linear(module, head)]
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
    """Return the layers that adapters stand beside. Raises ConfigError for one that is not there.

    Where the targets are left open, that is every linear layer but the head.
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
) -> "ForeignNetwork":
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
    described = peft.LoraConfig(
        r=lora.rank,
        lora_alpha=cast(int, lora.alpha),
        lora_dropout=lora.dropout,
        target_modules=list(require_targets(shape, lora)),
        exclude_modules=[shape.head_name],
        task_type="CAUSAL_LM",
    )
    with quietly():
        adapted = peft.get_peft_model(causal, described, adapter_name=_ADAPTER)
    _draw(adapted, generator)
    return ForeignNetwork(adapted, shape)


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
        if _is_linear(module, None) and _n_inputs(module) % BLOCK
    ]


def _n_inputs(module: nn.Module) -> int:
    if isinstance(module, nn.Linear):
        return module.in_features
    return int(cast(Tensor, module.weight).shape[0])  # GPT-2's Conv1D is (in, out)


def _is_linear(module: nn.Module, head: nn.Module | None) -> bool:
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, nn.Linear | Conv1D) and module is not head


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


class ForeignNetwork(nn.Module):
    """A frozen causal model with adapters, behind the call that our own network has."""

    def __init__(self, adapted: Any, shape: ForeignShape) -> None:
        super().__init__()
        self.adapted = adapted
        self.config = shape
        self.has_plain_head = self._has_plain_head()
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
        n_rows = len(input_ids)
        rows = torch.arange(n_rows, device=input_ids.device)  # (B,)
        if document_ids is not None and not self.knows_documents:
            input_ids, targets, rows = one_document_a_row(input_ids, targets, document_ids)
            document_ids = None
        losses = self._losses(input_ids, document_ids, targets, by_row)  # () or (N,)
        if not by_row:
            return losses
        return losses.new_zeros(n_rows).index_add(0, rows, losses)

    def _losses(
        self, input_ids: Tensor, document_ids: Tensor | None, targets: Tensor, by_row: bool
    ) -> Tensor:
        if not self.has_plain_head:
            logits = self._logits(input_ids, document_ids)  # (B, T, V)
            losses = functional.cross_entropy(
                logits.flatten(0, 1),
                targets.flatten(),
                ignore_index=IGNORE_TARGET,
                reduction="none",
            ).view(targets.shape)
            return losses.sum(1) if by_row else losses.sum()
        hidden = self.hidden_states(input_ids, document_ids=document_ids)  # (B, T, D)
        hidden = hidden.to(product_dtype(hidden))
        weight = self.causal.get_output_embeddings().weight
        if by_row:
            pairs = zip(hidden, targets, strict=True)
            return torch.stack(
                [linear_cross_entropy(x, weight, y, IGNORE_TARGET) for x, y in pairs]
            )
        return linear_cross_entropy(hidden.flatten(0, 1), weight, targets.flatten(), IGNORE_TARGET)

    def hidden_states(self, input_ids: Tensor, *, document_ids: Tensor | None = None) -> Tensor:
        """Return what the head reads, (B, T, D)."""
        called = self.causal.base_model(
            input_ids=input_ids, use_cache=False, **_positions(document_ids)
        )
        return cast(Tensor, called.last_hidden_state)

    @torch.no_grad()
    def continue_ids(self, ids: list[int], sampling: Sampling, ends: list[int]) -> list[int]:
        """Return a drawn continuation of ids, without the token that ends it."""
        from transformers import GenerationConfig

        own = getattr(self.causal.generation_config, "eos_token_id", None)
        others = own if isinstance(own, list) else [own]
        stops = list(dict.fromkeys([*ends, *(i for i in others if isinstance(i, int))]))
        draws = sampling.temperature > 0
        room = self.config.context_length - len(ids)
        wanted = GenerationConfig(
            do_sample=draws,
            temperature=sampling.temperature if draws else None,
            top_k=0,
            max_new_tokens=max(1, min(sampling.max_new_tokens or room, room)),
            eos_token_id=stops,
            pad_token_id=stops[0],
        )
        with self._at_rest(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(sampling.seed or 0)
            given = torch.tensor([ids], device=self.device)
            drawn = self.causal.generate(
                given, attention_mask=torch.ones_like(given), generation_config=wanted
            )
        made = cast(list[int], drawn[0, len(ids) :].tolist())
        return next((made[:i] for i, token in enumerate(made) if token in stops), made)

    def _logits(self, input_ids: Tensor, document_ids: Tensor | None) -> Tensor:
        called = self.causal(input_ids=input_ids, use_cache=False, **_positions(document_ids))
        return cast(Tensor, called.logits).float()

    @torch.no_grad()
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
            with self._at_rest():
                logits = self._logits(ids, None)
                hidden = self.hidden_states(ids)
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


def one_document_a_row(
    input_ids: Tensor, targets: Tensor, document_ids: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Give each document of packed rows (B, T) a row of its own, (N, L), padded on the right.

    Returns ids, targets and the row (N,) that each came from. Padding (document -1) is left out.
    """
    parts: list[tuple[int, int, int]] = []
    for row, owners in enumerate(document_ids.tolist()):
        starts = [i for i, x in enumerate(owners) if i == 0 or x != owners[i - 1]]
        ends = [*starts[1:], len(owners)]
        parts += [(row, a, b) for a, b in zip(starts, ends, strict=True) if owners[a] >= 0]
    longest = max((b - a for _, a, b in parts), default=1)
    ids = input_ids.new_zeros(max(1, len(parts)), longest)
    wanted = torch.full_like(ids, IGNORE_TARGET)
    for place, (row, a, b) in enumerate(parts):
        ids[place, : b - a] = input_ids[row, a:b]
        wanted[place, : b - a] = targets[row, a:b]
    rows = [row for row, _, _ in parts] or [0]
    return ids, wanted, torch.tensor(rows, device=ids.device)


def _positions(document_ids: Tensor | None) -> dict[str, Tensor]:
    """Return positions (B, T) that begin anew with each document, for transformers."""
    if document_ids is None:
        return {}
    steps = torch.arange(document_ids.shape[1], device=document_ids.device)
    return {"position_ids": steps - document_starts(document_ids)}


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
