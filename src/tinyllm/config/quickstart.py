"""Every knob of `tinyllm quickstart`."""

from pathlib import Path

from pydantic import Field

from tinyllm.config.base import ConfigPath, Strict


class QuickstartConfig(Strict):
    """Build a small chat model from nothing, offline, and show what it can do."""

    output: ConfigPath = Path("demo")
    """The folder for data, checkpoints and results; an earlier demo in it is replaced."""

    minutes: float = Field(default=4.5, gt=0.0, le=600.0, allow_inf_nan=False)
    """Wall-clock time for all training together; data and evaluation come on top."""

    seed: int = Field(default=0, ge=0)
    """Decides stories, first weights and samples."""

    n_stories: int = Field(default=24_000, ge=100, le=1_000_000)
    """Stories to write for training, each from three words that no other story has."""

    n_trials: int = Field(default=100, ge=1, le=10_000)
    """Stories to ask for at the end, each from three words that training never saw together."""

    hidden_size: int = Field(default=128, ge=32, le=4096, multiple_of=32)
    """Width of the model."""

    n_layers: int = Field(default=2, ge=1, le=64)
    """Layers of the model."""
