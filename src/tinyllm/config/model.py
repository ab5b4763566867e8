"""The shape of a network: what a config file says of it, and the whole that it resolves to.

`ModelSpec` is what people write: a preset's name, sizes, or a preset with some sizes changed.
`ModelConfig` is complete, travels inside every checkpoint, and is all that `model/` needs. Presets
are data (`model_presets.json`); `model/presets.py` turns the one into the other.
"""

import difflib
import importlib.resources
import json
import math
from functools import cache
from typing import Any, ClassVar, Literal, Self

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from tinyllm.config.base import Strict
from tinyllm.config.generation import CheckpointName

Family = Literal["gpt-neo", "llama"]
Activation = Literal["silu", "gelu", "gelu_tanh"]

AUTO = "auto"
"""In place of a preset: the training decides."""
_LARGEST = 1 << 24
"""An upper bound on any size, far above use, that keeps arithmetic with absurd values cheap."""
_DEFAULT_CONTEXT = 512
_ROPE_THETA = 10_000.0
_WINDOW = 256
_LLAMA_ONLY = ("rope_theta", "qk_norm")
_GPT_NEO_ONLY = ("attention_window",)


def default_intermediate_size(family: Family, hidden_size: int) -> int:
    """Return the usual width of the feed-forward layer.

    gpt-neo: 4 D. llama: 8/3 D rounded up to a multiple of 32, so that its three matrices hold as
    many parameters as two of 4 D would.
    """
    return 4 * hidden_size if family == "gpt-neo" else -(-8 * hidden_size // 96) * 32


def _head_dim(said: dict[str, Any]) -> int:
    return max(1, int(said["hidden_size"]) // int(said["n_heads"]))


class RopeScaling(Strict):
    """How rotary positions are slowed, so that a model reads longer rows than it first learnt."""

    kind: Literal["linear", "llama3"]
    """`linear` slows every frequency alike (arXiv:2306.15595), `llama3` the low ones only."""

    factor: float = Field(ge=1.0, allow_inf_nan=False)
    """How much slower."""

    low_freq_factor: float = Field(default=1.0, gt=0.0, allow_inf_nan=False)
    """Waves longer than original_context_length / this are slowed in full (llama3)."""

    high_freq_factor: float = Field(default=4.0, gt=0.0, allow_inf_nan=False)
    """Waves shorter than original_context_length / this are left alone (llama3)."""

    original_context_length: int = Field(default=8192, ge=1, le=_LARGEST)
    """The context that was first learnt (llama3)."""

    @model_validator(mode="after")
    def _bounds_differ(self) -> Self:
        if self.kind == "llama3" and self.high_freq_factor <= self.low_freq_factor:
            raise ValueError("high_freq_factor must be larger than low_freq_factor")
        return self


class ModelConfig(Strict):
    """A network's complete shape.

    Fields that only models from elsewhere need are not written where they hold what follows from
    the others: what is written of our own shapes stays as it was.
    """

    family: Family = "llama"
    """`llama` (RoPE, RMSNorm, SwiGLU, grouped heads) or `gpt-neo` (learned positions, LayerNorm,
    GELU, global and local attention in turn)."""

    vocab_size: int = Field(ge=1, le=_LARGEST)
    """Number of tokens the model knows."""

    hidden_size: int = Field(ge=1, le=_LARGEST)
    """Width of the vector that stands for a token."""

    n_layers: int = Field(ge=1, le=10_000)
    """Number of layers, each attention and feed-forward."""

    n_heads: int = Field(ge=1, le=_LARGEST)
    """Number of query heads; each is hidden_size / n_heads wide."""

    n_kv_heads: int = Field(default_factory=lambda data: data["n_heads"], ge=1, le=_LARGEST)
    """Number of key and value heads, shared by groups of query heads (llama); n_heads when left
    out."""

    head_dim: int = Field(default_factory=lambda data: _head_dim(data), ge=1, le=_LARGEST)
    """Width of one head; hidden_size / n_heads when left out."""

    context_length: int = Field(default=_DEFAULT_CONTEXT, ge=1, le=_LARGEST)
    """Longest row of tokens the model can read."""

    intermediate_size: int = Field(
        default_factory=lambda data: default_intermediate_size(data["family"], data["hidden_size"]),
        ge=1,
        le=_LARGEST,
    )
    """Width inside the feed-forward layer; 4 x hidden_size (gpt-neo) or 8/3 x (llama) when left
    out."""

    tie_embeddings: bool = True
    """Use the token embedding as the output head too."""

    norm_eps: float = Field(default=1e-5, gt=0.0, lt=1.0)
    """Added to the variance in norms."""

    rope_theta: float = Field(default=_ROPE_THETA, gt=1.0, allow_inf_nan=False)
    """Base of the rotary frequencies (llama)."""

    rope_scaling: RopeScaling | None = None
    """How rotary positions are slowed for a longer context (llama); null leaves them."""

    qk_norm: bool = False
    """Normalise queries and keys head by head before they meet (llama)."""

    qkv_bias: bool = False
    """Add a bias to queries, keys and values (Qwen2 and GPT-2)."""

    scale_attention: bool = Field(default_factory=lambda data: data["family"] == "llama")
    """Divide query-key products by the root of head_dim; GPT-Neo does not."""

    activation: Activation = Field(
        default_factory=lambda data: "silu" if data["family"] == "llama" else "gelu_tanh"
    )
    """What bends the feed-forward layer: silu (llama), GELU's tanh form (gpt-neo) or GELU."""

    attention_window: int = Field(default=_WINDOW, ge=1, le=_LARGEST)
    """How far back the local layers see, counting the token itself (gpt-neo)."""

    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of activations that are dropped while training."""

    @model_serializer(mode="wrap")
    def _without_what_follows(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = write(self)
        usual = {
            "head_dim": self.hidden_size // self.n_heads,
            "rope_scaling": None,
            "qkv_bias": False,
            "scale_attention": self.family == "llama",
            "activation": "silu" if self.family == "llama" else "gelu_tanh",
        }
        return {k: v for k, v in values.items() if k not in usual or v != usual[k]}

    @model_validator(mode="after")
    def _shape_fits(self) -> Self:
        is_usual = self.head_dim == self.hidden_size // self.n_heads
        width = self.hidden_size if is_usual else self.n_heads * self.head_dim
        _require_fitting_shape(self.family, width, self.n_heads, self.n_kv_heads)
        if self.family == "gpt-neo" and (self.qk_norm or self.rope_scaling):
            name = "qk_norm" if self.qk_norm else "rope_scaling"
            raise ValueError(f"`{name}` needs family llama, and `family` is gpt-neo")
        return self

    @property
    def has_local_layers(self) -> bool:
        """Whether some layers see less than the whole context."""
        return (
            self.family == "gpt-neo"
            and self.n_layers > 1
            and self.attention_window < self.context_length
        )

    def frequency_divisors(self) -> list[float] | None:
        """By how much rope_scaling slows each rotary frequency, (E/2,); None for not at all.

        Llama 3's: waves that fit high_freq_factor times into the first context stay, those that
        fit low_freq_factor times at most are slowed by factor, between them the share changes
        linearly with the number of waves.
        """
        scaling = self.rope_scaling
        if scaling is None:
            return None
        if scaling.kind == "linear":
            return [scaling.factor] * (self.head_dim // 2)
        low, high = scaling.low_freq_factor, scaling.high_freq_factor
        divisors = []
        for even in range(0, self.head_dim, 2):
            frequency = self.rope_theta ** (-even / self.head_dim)
            n_waves = scaling.original_context_length * frequency / (2 * math.pi)
            kept = min(1.0, max(0.0, (n_waves - low) / (high - low)))
            divisors.append(1 / (kept + (1 - kept) / scaling.factor))
        return divisors


class ModelSpec(Strict):
    """A network's shape as it is asked for: a preset, sizes, or a preset with sizes changed.

    Or a whole model from elsewhere, which brings its shape.
    """

    keeps_default: ClassVar[bool] = False
    """Sizes stand for themselves: a default's preset does not lie beneath them."""

    hf: CheckpointName | None = None
    """A causal model of any family that transformers opens: a folder, or owner/name on the Hub. It
    stays frozen, and `lora` is trained beside it. Needs `pip install tinyllm[hf]`."""

    preset: str | None = None
    """Name of a ready shape, for example `tinystories-8m` or `llama-1m`; `auto` lets a training
    choose shape, batch, learning rate and length by its text, machine and budget."""

    family: Family | None = None
    """`llama` (RoPE, RMSNorm, SwiGLU, grouped heads) or `gpt-neo` (learned positions, LayerNorm,
    GELU, global and local attention in turn); llama when left out."""

    hidden_size: int | None = Field(default=None, ge=1, le=_LARGEST)
    """Width of the vector that stands for a token."""

    n_layers: int | None = Field(default=None, ge=1, le=10_000)
    """Number of layers, each attention and feed-forward."""

    n_heads: int | None = Field(default=None, ge=1, le=_LARGEST)
    """Number of query heads; each is hidden_size / n_heads wide."""

    n_kv_heads: int | None = Field(default=None, ge=1, le=_LARGEST)
    """Number of key and value heads, shared by groups of query heads (llama); n_heads when left
    out."""

    context_length: int | None = Field(default=None, ge=1, le=_LARGEST)
    """Longest row of tokens the model can read; 512 when left out."""

    intermediate_size: int | None = Field(default=None, ge=1, le=_LARGEST)
    """Width inside the feed-forward layer; 4 x hidden_size (gpt-neo) or 8/3 x (llama) when left
    out."""

    tie_embeddings: bool | None = None
    """Use the token embedding as the output head too; true when left out."""

    norm_eps: float | None = Field(default=None, gt=0.0, lt=1.0)
    """Added to the variance in norms; 1e-5 when left out."""

    rope_theta: float | None = Field(default=None, gt=1.0, allow_inf_nan=False)
    """Base of the rotary frequencies (llama); 10000 when left out."""

    qk_norm: bool | None = None
    """Normalise queries and keys head by head before they meet (llama); false when left out."""

    attention_window: int | None = Field(default=None, ge=1, le=_LARGEST)
    """How far back the local layers see, counting the token itself (gpt-neo); 256 when left
    out."""

    dropout: float | None = Field(default=None, ge=0.0, lt=1.0)
    """Share of activations that are dropped while training; 0 when left out."""

    def merged(self) -> dict[str, Any]:
        """Return the fields that are said: those of the preset under those of the spec."""
        said = self.model_dump(exclude_none=True, exclude={"preset", "hf"})
        preset = {} if self.preset in (None, AUTO) else model_presets()[self.preset]
        if "hidden_size" in said and "intermediate_size" not in said:
            preset = {k: v for k, v in preset.items() if k != "intermediate_size"}
        if "n_heads" in said and "n_kv_heads" not in said:
            preset = {k: v for k, v in preset.items() if k != "n_kv_heads"}
        return {**preset, **said}

    @model_validator(mode="after")
    def _fields_fit_together(self) -> Self:
        if self.hf is not None:
            others = self.model_dump(exclude_none=True, exclude={"hf"})
            if others:
                raise ValueError(f"`{next(iter(others))}` comes from `hf`; remove one of the two")
            return self
        if self.preset not in (None, AUTO) and self.preset not in model_presets():
            close = difflib.get_close_matches(self.preset, model_presets(), n=1)
            meant = f"did you mean {close[0]}? The " if close else "the "
            raise ValueError(
                f"there is no preset {self.preset!r}; {meant}presets are "
                f"{', '.join(model_presets())}, and {AUTO}"
            )
        said = self.merged()
        family: Family = said.get("family", "llama")
        foreign = _LLAMA_ONLY if family == "gpt-neo" else _GPT_NEO_ONLY
        other = "llama" if family == "gpt-neo" else "gpt-neo"
        for name in foreign:
            if name in said:
                raise ValueError(f"`{name}` needs family {other}, and `family` is {family}")
        if "hidden_size" in said and "n_heads" in said:
            n_kv_heads = said.get("n_kv_heads", said["n_heads"])
            _require_fitting_shape(family, said["hidden_size"], said["n_heads"], n_kv_heads)
        return self


@cache
def model_presets() -> dict[str, dict[str, Any]]:
    """Return every ready shape by name."""
    text = importlib.resources.files(__package__).joinpath("model_presets.json").read_text("utf-8")
    presets: dict[str, dict[str, Any]] = json.loads(text)
    return presets


def _require_fitting_shape(family: Family, hidden_size: int, n_heads: int, n_kv_heads: int) -> None:
    unit = 2 if family == "llama" else 1  # rotary positions turn pairs of dimensions
    width = max(1, round(hidden_size / (n_heads * unit))) * n_heads * unit
    if hidden_size % n_heads:
        fitting = _nearest_divisor(max(1, hidden_size // unit), n_heads)
        raise ValueError(
            f"hidden_size {hidden_size} is not divisible by n_heads {n_heads}; "
            f"use n_heads {fitting}, or hidden_size {width}"
        )
    if family == "gpt-neo" and n_kv_heads != n_heads:
        raise ValueError(
            f"gpt-neo has no grouped heads: n_kv_heads {n_kv_heads} must equal n_heads {n_heads}; "
            "leave n_kv_heads out"
        )
    if n_heads % n_kv_heads:
        raise ValueError(
            f"n_heads {n_heads} is not divisible by n_kv_heads {n_kv_heads}; "
            f"use n_kv_heads {_nearest_divisor(n_heads, n_kv_heads)}"
        )
    if (hidden_size // n_heads) % unit:
        raise ValueError(
            f"hidden_size {hidden_size} with n_heads {n_heads} makes heads "
            f"{hidden_size // n_heads} wide, and rotary positions need an even width; "
            f"use hidden_size {width}"
        )


def _nearest_divisor(number: int, wanted: int) -> int:
    """Return the divisor of `number` nearest to `wanted`, the smaller of two equally near."""
    small = [d for d in range(1, int(number**0.5) + 1) if number % d == 0]
    return min(small + [number // d for d in small], key=lambda d: (abs(d - wanted), d))
