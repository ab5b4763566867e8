"""How many rows of logits the loss makes at once; without torch, so that forecasts can ask."""

_LOGITS = 5_120_000
"""Logits of a chunk on a processor: 10 MB in bfloat16. Fewer and larger products were no faster."""
_LEAST_ROWS, _MOST_ROWS, _UNIT = 256, 8192, 64
_ROWS_ON_ACCELERATOR = 4096


def rows_at_once(n_classes: int, *, on_accelerator: bool) -> int:
    """Return how many rows of logits are made at once over so many classes."""
    if on_accelerator:
        return _ROWS_ON_ACCELERATOR
    return max(_LEAST_ROWS, min(_LOGITS // n_classes // _UNIT * _UNIT, _MOST_ROWS))
