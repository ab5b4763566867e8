"""Finding a checkpoint and making it ready, for the commands that use one."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tinyllm.checkpoint import LoadedModel
    from tinyllm.reporting import Reporter


def load_model(checkpoint: str | None, device: str, reporter: "Reporter") -> "LoadedModel":
    """Load a checkpoint; without a name the newest one. Say which it is where it was sought."""
    from tinyllm.checkpoint import find_checkpoint, load_checkpoint
    from tinyllm.device import choose_device, prepare_arithmetic

    found = find_checkpoint(checkpoint)
    if found.was_sought:
        reporter.note(f"checkpoint: {found.path} ({found.reason})")
    chosen = choose_device(device)
    prepare_arithmetic(chosen)
    return load_checkpoint(found.path, device=str(chosen))
