"""The shape of the learning rate: up in a line, then down, ending when the training ends.

A pure function of how many steps were taken and what share of the budget is used, so that a
resumed run goes on where it was and a wall-clock budget ends with the decay complete.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass


def _cosine(progress: float) -> float:
    return 0.5 * (1.0 + math.cos(math.pi * progress))


def _linear(progress: float) -> float:
    return 1.0 - progress


def _constant(progress: float) -> float:  # noqa: ARG001  (one signature for all shapes)
    return 1.0


_SHAPES: dict[str, Callable[[float], float]] = {
    "cosine": _cosine,
    "linear": _linear,
    "constant": _constant,
}


@dataclass(frozen=True)
class LearningRateShape:
    """The learning rate as a share of its peak.

    `decay` is cosine, linear, constant or wsd (stay at the peak, then fall in a line over the
    last `decay_share`). `floor` is the share of the peak that is left at the end. `total_steps`
    is None when only a clock ends the training.
    """

    decay: str
    warmup_steps: int
    floor: float
    total_steps: int | None
    decay_share: float = 1.0

    def at(self, step: int, clock_progress: float = 0.0) -> float:
        """Return the share of the peak for the optimizer step that follows `step` finished ones.

        `clock_progress` is the used share of the wall-clock budget (0 without one). Whichever of
        steps and clock is further decides.
        """
        warm = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        progress = min(1.0, max(self._step_progress(step), clock_progress))
        return warm * (self.floor + (1.0 - self.floor) * self._shape(progress))

    def _step_progress(self, step: int) -> float:
        """Return the used share of the steps after the warm-up; 1 at the last step."""
        if self.total_steps is None:
            return 0.0
        falling_steps = max(1, self.total_steps - 1 - self.warmup_steps)
        return max(0.0, (step - self.warmup_steps) / falling_steps)

    def _shape(self, progress: float) -> float:
        if self.decay == "wsd":
            return min(1.0, (1.0 - progress) / self.decay_share)
        return _SHAPES[self.decay](progress)
