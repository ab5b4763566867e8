"""The config of `tinyllm export`."""

from typing import Literal, Self

from pydantic import Field, model_validator

from tinyllm.config.base import ConfigPath, Strict
from tinyllm.config.generation import CheckpointName

ExportFormat = Literal["hf", "gguf", "tinyllm"]
ExportDtype = Literal["float32", "bfloat16", "float16", "q8_0"]


class ExportConfig(Strict):
    """What `tinyllm export` does."""

    checkpoint: CheckpointName | None = Field(
        default=None, description="The checkpoint to export; null takes the newest one found."
    )
    output: ConfigPath = Field(
        description="The folder to make (hf), the file FILE.gguf or a folder for it (gguf), or "
        "the file (tinyllm)."
    )
    format: ExportFormat = Field(
        default="hf",
        description="hf: a folder for transformers and the Hub; gguf: a file for llama.cpp and "
        "Ollama; tinyllm: one checkpoint file, also of a model from elsewhere.",
    )
    dtype: ExportDtype = Field(
        default="float32", description="The precision of the matrices; q8_0 is of gguf alone."
    )
    name: str | None = Field(
        default=None, min_length=1, description="The model's name; null takes the checkpoint's."
    )
    licence: str | None = Field(
        default=None, description="The licence of the weights, for the model card."
    )
    check: bool = Field(
        default=True, description="Read what was written and compare it with the checkpoint."
    )
    push: str | None = Field(
        default=None,
        pattern=r"^[\w.-]+/[\w.-]+$",
        description="Upload the folder to this repository, owner/name, of the Hub (HF_TOKEN).",
    )
    public: bool = Field(
        default=False, description="Let everybody see a repository that --push makes."
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.output.suffix == ".gguf" and self.format != "gguf":
            raise ValueError(f"the output {self.output} ends in .gguf: that needs --format gguf")
        if self.dtype == "q8_0" and self.format != "gguf":
            raise ValueError("`dtype` q8_0 needs `format` gguf")
        if self.push is not None and self.format == "tinyllm":
            raise ValueError("`push` needs `format` hf or gguf")
        return self
