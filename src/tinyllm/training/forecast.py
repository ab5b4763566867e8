"""What `tinyllm train --dry-run` tells of a training, for people and as JSON."""

from dataclasses import asdict, dataclass
from typing import Any

from tinyllm.reporting import format_bytes, format_count, format_duration


@dataclass(frozen=True)
class Forecast:
    """What a training will take, from some of its steps."""

    parameters: dict[str, int]
    """By part; they add up to all."""
    n_steps: int
    """Optimizer steps until the data, the configured steps or the time end the training."""
    rows_per_step: int
    micro_batch_size: int
    """Rows in one forward pass that were measured; the most that fit, where the wanted do not."""
    fits: bool
    """Whether the training fits into memory as it is configured."""
    available_bytes: int
    peak_memory_bytes: int
    tokens_per_second: float
    data_wait_share: float
    eta_seconds: float
    trained_tokens: int
    """Tokens that the planned training learns from, repetitions counted."""
    tokens_per_parameter: float
    checkpoint_bytes: int
    state_bytes: int
    disk_bytes: int
    """What the run folder will hold at most: checkpoint, best, and all kept states."""
    verdict: str
    warnings: list[str]

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)

    def lines(self) -> list[str]:
        """Return the forecast for people, a line for each figure."""
        total = sum(self.parameters.values())
        parts = ", ".join(f"{format_count(n)} {part}" for part, n in self.parameters.items())
        size = (
            f"training: {self.n_steps:,} steps of {self.rows_per_step} rows, "
            f"{self.micro_batch_size} at once; "
            f"{format_count(self.trained_tokens)} tokens, "
            f"{self.tokens_per_parameter:.1f} per parameter"
        )
        speed = (
            f"speed: {format_count(self.tokens_per_second)} tokens/s, "
            f"{self.data_wait_share:.1%} of it waiting for data; "
            f"{format_duration(self.eta_seconds)} in all"
        )
        room = (
            f"memory: {format_bytes(self.peak_memory_bytes)} at the peak, "
            f"{format_bytes(self.available_bytes)} were free at the start"
        )
        disk = (
            f"disk: {format_bytes(self.checkpoint_bytes)} a checkpoint, "
            f"{format_bytes(self.state_bytes)} a state, {format_bytes(self.disk_bytes)} in all"
        )
        parameters = f"parameters: {format_count(total)} ({parts})"
        return [parameters, size, speed, room, disk, self.verdict]
