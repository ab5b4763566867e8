"""How long a training is, and the learning rate over that length."""

from tinyllm.config.train import TrainConfig
from tinyllm.errors import ConfigError
from tinyllm.reporting import counted, format_duration
from tinyllm.training.loop import Limits, RowStream
from tinyllm.training.schedule import LearningRateShape
from tinyllm.training.state import Progress

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


def length_in_words(limits: Limits) -> tuple[str, str]:
    """Say how many steps there will be, and until when, as far as each is known."""
    steps, seconds = limits.total_steps, limits.max_seconds
    if seconds is None:
        return counted(steps or 0, "step"), ""
    how_many = "steps" if steps is None else f"at most {counted(steps, 'step')}"
    minutes, rest = divmod(seconds, 60)
    span = format_duration(seconds) if rest else counted(int(minutes), "minute")
    return how_many, f", until {span} {'is' if span == '1 minute' else 'are'} up"


def expected_steps(limits: Limits, progress: Progress, reserve_seconds: float = 0.0) -> int | None:
    """Return the steps that the training will have, by the limit that is nearer to its end.

    By the clock that is a projection of the time that was used; `reserve_seconds` of it are not
    for steps. None when nothing limits the training, or before its first step.
    """
    total = limits.total_steps
    if limits.max_seconds is None or progress.step == 0:
        return total
    used = progress.elapsed_seconds / max(1e-9, limits.max_seconds - reserve_seconds)
    by_clock = max(progress.step, round(progress.step / max(1e-9, used)))
    return by_clock if total is None else min(by_clock, total)


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
