"""Progress for machines: one JSON object a line on standard error, a few a minute.

{"stage": "write 1,000 stories to stories"}
{"step": 512, "of": 1000, "requests_per_second": 61.2, …}
{"note": "…"}   {"warning": "…"}
"""

import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from tinyllm.reporting import CountedProgress, Progress

_BETWEEN_SECONDS = 30.0


class JsonReporter:
    """Write figures every half minute, and the last ones when counted work ends."""

    def __init__(self) -> None:
        self._written_at = float("-inf")
        self._latest: dict[str, object] = {}

    @contextmanager
    def stage(self, title: str) -> Iterator[None]:
        """Write the title."""
        _write({"stage": title})
        yield

    @contextmanager
    def progress(
        self, label: str, total: int | None, unit: str, n_done: int = 0
    ) -> Iterator[Progress]:
        """Count, and write the last figures when the block ends."""
        counter = CountedProgress(total, n_done)
        try:
            yield counter
        finally:
            done = {"label": label, "done": counter.done, "total": counter.total, "unit": unit}
            _write({**self._latest, **done})
            self._latest = {}

    def metrics(self, step: int, values: Mapping[str, float | str]) -> None:
        """Write figures, at most every half minute."""
        self._latest = {"step": step, **values}
        now = time.monotonic()
        if now - self._written_at >= _BETWEEN_SECONDS:
            self._written_at = now
            _write(self._latest)

    def note(self, text: str) -> None:
        """Write the text."""
        _write({"note": text})

    def warn(self, text: str) -> None:
        """Write the text as a warning."""
        _write({"warning": text})


def _write(value: Mapping[str, object]) -> None:
    sys.stderr.write(json.dumps(value, ensure_ascii=False) + "\n")
    sys.stderr.flush()
