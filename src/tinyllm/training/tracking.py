"""A run's figures for TensorBoard and Weights & Biases, beside `metrics.jsonl`, which is always.

run folder/
    tensorboard/    event files, where `tracking.tensorboard` is on
    wandb/          an offline run, for `wandb sync`, or the online one's cache

The trackers themselves are accelerate's, opened in `distributed.py`.
"""

import importlib.util
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tinyllm.config.train import TrainConfig
from tinyllm.errors import MissingPartError
from tinyllm.training.distributed import open_tensorboard, open_wandb
from tinyllm.training.run_folder import RunFolder


class Trackers:
    """The trackers of one sitting; none at all is the usual case."""

    def __init__(self, trackers: list[Any]) -> None:
        self._trackers = trackers

    def figures(self, values: Mapping[str, float | str]) -> None:
        """Hand on the figures of a step; `values` holds the step too."""
        finite = {
            key: value
            for key, value in values.items()
            if key != "step" and (isinstance(value, str) or math.isfinite(value))
        }
        for tracker in self._trackers:
            tracker.log(finite, step=int(values["step"]))

    def sample(self, step: int, prompt: str, text: str) -> None:
        """Hand on a written text."""
        for tracker in self._trackers:
            tracker.log({"sample": prompt + text}, step=step)


def require_trackers(config: TrainConfig) -> None:
    """Raise MissingPartError when a tracker that the config names is not installed."""
    wanted = {"tensorboard": config.tracking.tensorboard, "wandb": config.tracking.wandb != "off"}
    missing = [n for n, on in wanted.items() if on and importlib.util.find_spec(n) is None]
    if missing:
        raise MissingPartError(
            f"tracking.{missing[0]} needs the package {missing[0]}, which is not installed",
            'Install it: pip install "tinyllm[trackers]"',
        )


@contextmanager
def open_trackers(
    config: TrainConfig, folder: RunFolder, name: str, *, step: int, writes: bool
) -> Iterator[Trackers]:
    """Open what the config names, from `step` on, and close it however the block ends.

    Only the process that `writes` opens anything.
    """
    trackers: list[Any] = []
    tracking = config.tracking
    values = config.model_dump(mode="json")
    if writes and tracking.tensorboard:
        trackers.append(open_tensorboard(folder.path, values, step))
    if writes and tracking.wandb != "off":
        trackers.append(
            open_wandb(folder.path, values, name, project=tracking.project, mode=tracking.wandb)
        )
    try:
        yield Trackers(trackers)
    finally:
        for tracker in trackers:
            tracker.finish()
