"""Going back when step after step has no finite loss or gradient.

The training returns to the newest state from before the bad steps, at half the learning rate, and
takes them again. When that state leads into the same trouble, the one before it is next. What was
done after the chosen state is forgotten at once, and the lower rate is written into that state, so
that a run killed at any moment of this goes on to the same bits.
"""

import dataclasses
from pathlib import Path

import torch

from tinyllm.training.distributed import Processes
from tinyllm.training.state import Progress, SavedState, list_states, read_state, remove_state

MAX_ROLLBACKS = 3
LEARNING_RATE_CUT = 0.5
_KEPT = frozenset(
    {"elapsed_seconds", "skipped_steps", "best_loss_nats", "best_step", "micro_batch_size"}
)
"""What stays as it is: time, bad steps, the best checkpoint, which is on disk, and what fits."""


def state_before_trouble(states: Path, progress: Progress) -> SavedState | None:
    """Return the state to go back to, or None when there is none or it was tried often enough."""
    if progress.rollbacks >= MAX_ROLLBACKS:
        return None
    last_good_step = progress.step - progress.skipped_in_a_row
    good = [
        state
        for state in map(read_state, list_states(states))
        if state.progress.step <= last_good_step and state.progress.skipped_in_a_row == 0
    ]
    if len(good) > 1 and good[-1].progress.step == progress.rolled_back_to:
        good.pop()
    return good[-1] if good else None


def return_to(progress: Progress, good: Progress) -> None:
    """Set the counters back to those of a good state, with a lower learning rate."""
    rollbacks = progress.rollbacks + 1
    scale = progress.learning_rate_scale * LEARNING_RATE_CUT
    for field in dataclasses.fields(Progress):
        if field.name not in _KEPT:
            setattr(progress, field.name, getattr(good, field.name))
    progress.rollbacks, progress.learning_rate_scale = rollbacks, scale
    progress.rolled_back_to = good.step


def forget_states_after(states: Path, step: int) -> None:
    """Remove the states of steps that will be taken again, broken ones too."""
    for path in list_states(states):
        if path.name > f"step-{step:08d}":
            remove_state(path)


def weights_are_finite(processes: Processes) -> bool:
    """Tell whether no weight of any process is infinite or NaN."""
    broken = any(not bool(torch.isfinite(p).all()) for p in processes.model.parameters())
    return not processes.agree(broken)
