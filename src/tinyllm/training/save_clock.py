"""When a training saves by the clock, whatever the step: a kill should cost minutes at most."""

from dataclasses import dataclass

FIRST_SECONDS = 20.0
"""When the first save of a run is due, if not before: until then there is nothing to go on from."""
_SAVING_SHARE = 0.05
"""Largest share of the time that goes into saves by the clock."""


@dataclass
class SaveClock:
    """Tells when the next save is due; `minutes` is the longest wait, None without any."""

    minutes: float | None
    saved_at: float
    """When the latest save ended, or the sitting began (seconds)."""
    is_saved: bool
    """Whether the run has a state already."""
    took_seconds: float = 0.0

    def is_due(self, now: float) -> bool:
        """Tell whether the wait is over; after a save that took long it is longer."""
        if self.minutes is None:
            return False
        wait = 60 * self.minutes if self.is_saved else min(60 * self.minutes, FIRST_SECONDS)
        return now - self.saved_at >= max(wait, self.took_seconds / _SAVING_SHARE)

    def saved(self, began: float, ended: float) -> None:
        """Note a save, for whatever reason it was made."""
        self.saved_at, self.took_seconds, self.is_saved = ended, ended - began, True
