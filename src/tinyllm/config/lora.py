"""The knobs of LoRA."""

from typing import Annotated, Literal

from pydantic import Field

from tinyllm.config.base import ConfigPath, Strict

_ALL_LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class LoraConfig(Strict):
    """Train small matrices beside the frozen network, and add them to it at the end."""

    rank: int = Field(default=16, ge=1, le=4096)
    """Inner size of the two matrices."""

    alpha: float = Field(default=32.0, gt=0.0, allow_inf_nan=False)
    """What they add is scaled by alpha / rank."""

    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of what they read that is dropped while training."""

    quantization: Literal["none", "nf4"] = "none"
    """Hold the frozen weights beside the matrices in 4 bits (NF4, with bitsandbytes) where a row is
    a multiple of 64; the checkpoint holds them unpacked, as they were trained beside."""

    targets: Annotated[tuple[str, ...], Field(strict=False, min_length=1)] = _ALL_LINEAR
    """Linear layers to put them beside: every one inside the layers, where it is left out."""

    merge_first: ConfigPath | None = None
    """An adapter folder to add to the base before training, in peft's form: adapters stack."""

    @property
    def scale(self) -> float:
        """What the matrices' product is multiplied by."""
        return self.alpha / self.rank

    @property
    def is_explicit(self) -> bool:
        """Whether the targets were chosen, and every one has to be there."""
        return self.targets != _ALL_LINEAR
