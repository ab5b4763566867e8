"""Whether the tensors of a file are those of the model that it describes."""

from collections.abc import Mapping
from pathlib import Path

from tinyllm.checkpoint.weights import STORED_DTYPES, StoredWeights
from tinyllm.config.model import ModelConfig
from tinyllm.errors import CheckpointError

USE_ANOTHER = "Use another checkpoint, or make this one again."


def require_layers(path: Path, config: ModelConfig, n_tensors: int) -> None:
    """Raise CheckpointError for a claim of more layers than there are tensors.

    Before anything is listed or made layer by layer.
    """
    if config.n_layers > n_tensors:
        raise CheckpointError(
            f"{path} claims {config.n_layers} layers, and holds {n_tensors} tensors", USE_ANOTHER
        )


def require_tensors(
    path: Path, weights: StoredWeights, wanted: Mapping[str, tuple[int, ...]]
) -> None:
    """Raise CheckpointError unless the tensors are exactly the wanted ones, by name and shape."""
    found = weights.shapes
    faults = []
    if missing := [name for name in wanted if name not in found]:
        faults.append(f"{listed(missing)} missing")
    if extra := [name for name in found if name not in wanted]:
        faults.append(f"{listed(extra)} not expected")
    for name in wanted:
        if name not in found:
            continue
        if wanted[name] != found[name]:
            faults.append(f"{name} has shape {found[name]}, wanted {wanted[name]}")
        elif weights.dtypes[name] not in STORED_DTYPES:
            faults.append(f"{name} holds {weights.dtypes[name]}")
    if faults:
        more = f" (and {len(faults) - 3} more)" if len(faults) > 3 else ""
        raise CheckpointError(
            f"{path}: its weights do not fit the model it describes: {'; '.join(faults[:3])}{more}",
            USE_ANOTHER,
        )


def require_finite(path: Path, weights: StoredWeights) -> None:
    """Raise CheckpointError where weights hold NaN or infinity."""
    broken = [name for name in weights if not weights.is_finite(name)]
    if broken:
        raise CheckpointError(
            f"{path}: {listed(broken)} hold numbers that are not finite (NaN or infinity)",
            "Its training has probably diverged; use an earlier checkpoint.",
        )


def listed(names: list[str]) -> str:
    """Name the first three, and say how many more there are."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
