"""A checkpoint in memory: what it says of itself, its language, its weights or its network."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tinyllm.chat_template import ChatTemplate
from tinyllm.checkpoint.weights import Weight
from tinyllm.config.model import ModelConfig
from tinyllm.tokenizer import Tokenizer

if TYPE_CHECKING:
    import torch

    from tinyllm.model.transformer import Transformer

Kind = Literal["base", "chat"]


@dataclass(frozen=True)
class CheckpointInfo:
    """What a checkpoint says of itself."""

    path: Path
    config: ModelConfig
    kind: Kind
    training: Mapping[str, Any]
    generation: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LoadedModel:
    """A network that is ready to speak; `template` is None for a base model."""

    model: "Transformer"
    tokenizer: Tokenizer
    template: ChatTemplate | None
    info: CheckpointInfo


@dataclass(frozen=True)
class StoredModel:
    """A checkpoint that has been read and checked, without a network: no PyTorch is needed."""

    weights: Mapping[str, Weight]
    tokenizer: Tokenizer
    template: ChatTemplate | None
    info: CheckpointInfo

    def to_torch(
        self, device: "torch.device | str" = "cpu", dtype: "torch.dtype | None" = None
    ) -> LoadedModel:
        """Build the network, in evaluation mode, its weights in dtype (None: float32) on device."""
        import torch

        from tinyllm.model.transformer import Transformer

        with torch.device("meta"):  # names and shapes only
            model = Transformer(self.info.config)
        weights = {
            name: torch.from_numpy(weight).to(device=device, dtype=dtype or torch.float32)
            for name, weight in self.weights.items()
        }
        model.load_state_dict(weights, assign=True)
        return LoadedModel(model.eval(), self.tokenizer, self.template, self.info)


SpeakingModel = LoadedModel | StoredModel
"""A checkpoint in memory, with its network or without."""
