"""What the curves of a finished run say, in plain sentences with advice."""

from collections.abc import Sequence
from dataclasses import dataclass

_ENOUGH_POINTS = 3
_GAIN = 0.01
"""Relative change of the loss that is worth a sentence."""


@dataclass(frozen=True)
class Curves:
    """(step, loss in nats) of training steps and of validation measurements, in order."""

    training: Sequence[tuple[int, float]]
    validation: Sequence[tuple[int, float]]
    skipped_steps: int = 0
    rollbacks: int = 0


def diagnose(curves: Curves) -> list[str]:
    """Return findings, the most important first; at least one."""
    findings = [
        finding
        for finding in (
            _overfitting(curves),
            _skipped(curves),
            _rolled_back(curves),
            _still_falling(curves),
            _gap(curves),
        )
        if finding is not None
    ]
    if findings:
        return findings
    if len(curves.validation) < _ENOUGH_POINTS:
        return ["Too few measurements of the validation loss to judge its curve."]
    return ["Nothing stands out: the loss fell and levelled off."]


def _overfitting(curves: Curves) -> str | None:
    if len(curves.validation) < 2:
        return None
    best_step, best = min(curves.validation, key=lambda point: point[1])
    last_step, last = curves.validation[-1]
    if last <= best * (1 + _GAIN):
        return None
    return (
        f"Validation rises since step {best_step} ({best:.3f} -> {last:.3f} nats at step "
        f"{last_step}): overfitting. best.safetensors keeps step {best_step}. Try fewer epochs, "
        "more data, a smaller model, or more dropout and weight decay."
    )


def _still_falling(curves: Curves) -> str | None:
    if len(curves.validation) < _ENOUGH_POINTS:
        return None
    (_, before), (_, last) = curves.validation[-2:]
    if last >= before * (1 - _GAIN):
        return None
    return (
        f"The validation loss was still falling at the end ({before:.3f} -> {last:.3f} nats): "
        "a longer training would help."
    )


def _gap(curves: Curves) -> str | None:
    if not curves.training or not curves.validation or _overfitting(curves):
        return None
    recent = [loss for _, loss in curves.training[-20:]]
    training, validation = sum(recent) / len(recent), curves.validation[-1][1]
    if validation <= training * 1.25:
        return None
    return (
        f"The validation loss ({validation:.3f}) lies well above the training loss "
        f"({training:.3f}): the model begins to learn its data by heart. More data helps most."
    )


def _skipped(curves: Curves) -> str | None:
    if not curves.skipped_steps:
        return None
    steps = "1 step" if curves.skipped_steps == 1 else f"{curves.skipped_steps} steps"
    were = "was" if curves.skipped_steps == 1 else "were"
    return (
        f"{steps} had no finite gradient and {were} skipped: "
        "lower optimizer.learning_rate or use precision float32."
    )


def _rolled_back(curves: Curves) -> str | None:
    if not curves.rollbacks:
        return None
    times = "once" if curves.rollbacks == 1 else f"{curves.rollbacks} times"
    return (
        f"The training went back to an earlier state {times}, with half the learning rate each "
        "time: begin with a lower optimizer.learning_rate next time."
    )
