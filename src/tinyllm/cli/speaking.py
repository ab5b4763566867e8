"""Finding a checkpoint and making it ready, for the commands that use one."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tinyllm.checkpoint import LoadedModel
    from tinyllm.config.generation import ChatConfig, InferConfig
    from tinyllm.generation.engine import Engine
    from tinyllm.reporting import Reporter


def open_engine(config: "InferConfig | ChatConfig", reporter: "Reporter") -> "Engine":
    """Make a checkpoint ready to speak; without a name the newest one. Notes settings in doubt."""
    from tinyllm.config.generation import InferConfig
    from tinyllm.generation import opening
    from tinyllm.generation.prompting import doubts, settings

    path = _find(config.checkpoint, reporter)
    most = config.batch_size if isinstance(config, InferConfig) else 1
    engine = opening.open_engine(
        path, reporter, device=config.device, dtype=config.dtype, max_batch_size=most
    )
    for doubt in doubts(engine.tokenizer, settings(engine.loaded, config.sampling)):
        reporter.note(doubt)
    return engine


def load_model(checkpoint: str | None, device: str, reporter: "Reporter") -> "LoadedModel":
    """Load a checkpoint's network; without a name the newest one's."""
    from tinyllm.checkpoint import load_checkpoint
    from tinyllm.device import choose_device, prepare_arithmetic

    path = _find(checkpoint, reporter)
    chosen = choose_device(device)
    prepare_arithmetic(chosen)
    return load_checkpoint(path, device=str(chosen))


def _find(checkpoint: str | None, reporter: "Reporter") -> Path:
    """Find a checkpoint, and say which it is where it was sought."""
    from tinyllm.checkpoint import find_checkpoint

    found = find_checkpoint(checkpoint)
    if found.was_sought:
        reporter.note(f"checkpoint: {found.path} ({found.reason})")
    return found.path
