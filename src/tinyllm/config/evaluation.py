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


class EvalOpenbookqaConfig(Strict):
    """What `tinyllm eval-openbookqa` does."""

    checkpoint: CheckpointName | None = Field(
        default=None, description="The checkpoint to measure; null takes the newest one found."
    )
    data: DataSource | None = Field(
        default=None,
        description="A file of questions; null takes datasets/260207-openbook-qa/<split>.jsonl.",
    )
    split: Literal["train", "validation", "dev", "test"] | None = Field(
        default=None,
        description="The split of the default data; null takes test, else validation.",
    )
    chat_template: bool = Field(
        default=False,
        description="Ask a chat-tuned model through its template too; the plain form is primary.",
    )
    limit: int | None = Field(
        default=None, ge=1, description="Ask only the first so many questions; null asks all."
    )
    batch_size: int = Field(
        default=32, ge=1, le=4096, description="Rows per forward pass; does not change the result."
    )
    output: ConfigPath | None = Field(
        default=None,
        description="The folder for the report; null takes one beside the checkpoint.",
    )
    device: Device = Field(default="auto", description="Where to compute.")
