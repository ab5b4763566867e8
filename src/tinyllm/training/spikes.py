"""How far a step's loss lies above what the steps before it let expect."""

import math
from typing import Protocol

SPIKE_SCORE = 6.0
"""A loss so many running standard deviations above the running mean is called a spike."""
_MEMORY_STEPS = 50
_LEAST_STEPS = 20
"""Steps that are seen before any is judged: the first ones fall steeply."""
_LEAST_DEVIATION = 0.01
"""Smallest standard deviation that is believed, as a share of the mean."""


class LossTrend(Protocol):
    """The running mean and variance of the loss, as they are kept in a state."""

    loss_mean: float
    loss_variance: float
    loss_count: int


def score_loss(trend: LossTrend, loss_nats: float) -> float | None:
    """Return the distance from the running mean in running standard deviations, then update both.

    None for the first steps. A spike moves the mean only as far as the threshold lies, so that
    one is no excuse for the next, and a loss that stays high becomes the new normal.
    """
    score = None
    if trend.loss_count >= _LEAST_STEPS:
        deviation = max(math.sqrt(trend.loss_variance), _LEAST_DEVIATION * trend.loss_mean, 1e-9)
        score = (loss_nats - trend.loss_mean) / deviation
        loss_nats = min(loss_nats, trend.loss_mean + SPIKE_SCORE * deviation)
    trend.loss_count += 1
    weight = max(1 / trend.loss_count, 1 / _MEMORY_STEPS)
    gap = loss_nats - trend.loss_mean
    trend.loss_mean += weight * gap
    trend.loss_variance = (1 - weight) * (trend.loss_variance + weight * gap * gap)
    return score
