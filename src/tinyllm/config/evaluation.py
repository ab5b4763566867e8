"""The configs of the evaluation commands."""

from typing import Literal

from pydantic import Field

from tinyllm.config.base import ConfigPath, DataSource, Strict
from tinyllm.config.generation import CheckpointName, Device


class EvalLossConfig(Strict):
    """What `tinyllm eval-loss` does."""

    checkpoint: CheckpointName | None = Field(
        default=None, description="The checkpoint to measure; null takes the newest one found."
    )
    data: DataSource = Field(description="The text or conversations to measure it on.")
    format: Literal["auto", "text", "conversations"] = Field(
        default="auto",
        description="Running text, or conversations of which only the replies are scored.",
    )
    overlap: float = Field(
        default=0.5,
        ge=0,
        lt=1,
        description="Share of a window that is context only, for texts longer than the context.",
    )
    max_documents: int | None = Field(
        default=None, ge=1, description="Stop after this many documents; null takes all."
    )
    batch_size: int = Field(
        default=32,
        ge=1,
        le=4096,
        description="Windows per forward pass; does not change the result.",
    )
    output: ConfigPath | None = Field(
        default=None, description="A folder for results.json and results.md; null writes none."
    )
    device: Device = Field(default="auto", description="Where to compute.")
