"""Batches of raw pages made into documents, in this process or in others."""

import contextlib
import multiprocessing
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Protocol

from tinyllm.config.wiki import ExtractWikiConfig
from tinyllm.data.wiki.markup import plain_text
from tinyllm.data.wiki.page import Page, Wiki, read_page
from tinyllm.data.writers import json_bytes, text_bytes
from tinyllm.errors import DataError

_AHEAD = 2
"""Batches in hand for each process, so that none waits."""


@dataclass(frozen=True, slots=True)
class Extracted:
    """What one page came to: its document in final form, or why there is none."""

    document: bytes = b""
    dropped: str | None = None
    left_out: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class Reading:
    """What is needed to read a page of this dump."""

    wiki: Wiki
    config: ExtractWikiConfig

    def extract(self, pages: Sequence[bytes]) -> list[Extracted]:
        """Read pages, one result each."""
        return [self._extract(raw) for raw in pages]

    def _extract(self, raw: bytes) -> Extracted:
        page = read_page(raw, self.wiki)
        if page is None:
            return Extracted(dropped="broken_xml")
        if page.namespace not in self.config.namespaces:
            return Extracted(dropped="other_namespace")
        if page.is_redirect:
            return Extracted(dropped="redirect")
        try:
            found = plain_text(
                page.text,
                self.wiki.unseen,
                frozenset(self.config.dropped_sections),
                lists=self.config.lists,
            )
        except RecursionError:
            return Extracted(dropped="too_deep")
        if found.is_disambiguation and not self.config.disambiguation:
            return Extracted(dropped="disambiguation")
        if not found.text:
            return Extracted(dropped="empty")
        if len(found.text) < self.config.min_chars:
            return Extracted(dropped="too_short")
        return Extracted(self._document(page, found.text), None, tuple(found.left_out.items()))

    def _document(self, page: Page, text: str) -> bytes:
        whole = f"{page.title}\n\n{text}"
        if self.config.output.suffix == ".txt":
            return text_bytes(whole)
        return json_bytes({"id": page.id, "title": page.title, "text": whole})


class Extractor(Protocol):
    """Takes batches and gives their results back."""

    n_ahead: int

    def submit(self, pages: Sequence[bytes]) -> "Future[list[Extracted]]":
        """Begin a batch."""


class _Here:
    """Extracts in this process."""

    n_ahead = 0

    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    def submit(self, pages: Sequence[bytes]) -> "Future[list[Extracted]]":
        future: Future[list[Extracted]] = Future()
        future.set_result(self._reading.extract(pages))
        return future


class _Elsewhere:
    """Extracts in other processes."""

    def __init__(self, pool: ProcessPoolExecutor, n_processes: int) -> None:
        self._pool = pool
        self.n_ahead = _AHEAD * n_processes

    def submit(self, pages: Sequence[bytes]) -> "Future[list[Extracted]]":
        return self._pool.submit(_extract, pages)


def result(future: "Future[list[Extracted]]") -> list[Extracted]:
    """Return a batch. Raises DataError when its process has ended."""
    try:
        return future.result()
    except BrokenProcessPool as error:
        raise DataError(
            "a process that reads wikitext was ended",
            "The system may have run out of memory; run the same command again: it goes on.",
        ) from error


@contextlib.contextmanager
def open_extractor(reading: Reading, n_processes: int) -> Iterator[Extractor]:
    """Start processes, or none when one is enough; they end with the block."""
    if n_processes == 1:
        yield _Here(reading)
        return
    pool = ProcessPoolExecutor(
        n_processes,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_begin,
        initargs=(reading,),
    )
    try:
        yield _Elsewhere(pool, n_processes)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_reading: Reading
"""What this process was started for."""


def _begin(reading: Reading) -> None:
    """Set a new process up; Ctrl-C is for the process that asks."""
    global _reading
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _reading = reading


def _extract(pages: Sequence[bytes]) -> list[Extracted]:
    return _reading.extract(pages)
