"""How long a training is, and the learning rate over that length."""

from tinyllm.config.train import TrainConfig
from tinyllm.errors import ConfigError
from tinyllm.training.loop import Limits, RowStream
from tinyllm.training.schedule import LearningRateShape

WARMUP_AT_MOST = 100
_DEFAULT_FLOOR = 0.1


def epochs_of(config: TrainConfig) -> int | None:
    """Return the number of epochs; None when only steps or minutes limit the training."""
    limited = config.max_steps is not None or config.max_minutes is not None
    return config.epochs or (None if limited else 1)


def limits_for(config: TrainConfig, stream: RowStream) -> Limits:
    """Return what ends the training: the data's epochs, `max_steps`, `max_minutes`."""
    candidates = [] if config.max_steps is None else [config.max_steps]
    if stream.n_rows is not None:
        candidates.append(-(-stream.n_rows // config.batch.rows_per_step))
    seconds = None if config.max_minutes is None else config.max_minutes * 60
    return Limits(min(candidates, default=None), seconds)


def shape_for(config: TrainConfig, limits: Limits) -> LearningRateShape:
    """Return the learning rate's shape over the training.

    Raises ConfigError when the warm-up would not end before the training does.
    """
    schedule, total = config.schedule, limits.total_steps
    warmup = schedule.warmup_steps
    if warmup is None:
        warmup = WARMUP_AT_MOST if total is None else min(WARMUP_AT_MOST, total // 20)
    elif total is not None and warmup and warmup >= total:
        raise ConfigError(
            f"schedule.warmup_steps {warmup} is not shorter than the training, "
            f"which has {total} steps",
            "Lower schedule.warmup_steps, or train for more epochs or on more data.",
        )
    lowest = schedule.min_learning_rate
    return LearningRateShape(
        decay=schedule.decay,
        warmup_steps=warmup,
        floor=_DEFAULT_FLOOR if lowest is None else lowest / config.optimizer.learning_rate,
        total_steps=total,
        decay_share=schedule.decay_share,
    )
