"""Batches of raw pages made into documents: what other processes do."""

from collections.abc import Sequence
from dataclasses import dataclass

from tinyllm.config.wiki import ExtractWikiConfig
from tinyllm.data.wiki.dump import Place
from tinyllm.data.wiki.markup import plain_text
from tinyllm.data.wiki.page import Page, Wiki, read_page
from tinyllm.data.writers import json_bytes, text_bytes


@dataclass(frozen=True, slots=True)
class RawBatch:
    """Some pages as they are, the place behind them, and the bytes of the dump read by then."""

    pages: Sequence[bytes]
    place: Place
    n_read: int


@dataclass(frozen=True, slots=True)
class Extracted:
    """What one page came to: its document in final form, or why there is none."""

    document: bytes = b""
    dropped: str | None = None
    left_out: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Batch:
    """A raw batch, read."""

    pages: Sequence[Extracted]
    place: Place
    n_read: int


@dataclass(frozen=True)
class Reading:
    """What is needed to read a page of this dump."""

    wiki: Wiki
    config: ExtractWikiConfig

    def __call__(self, batch: RawBatch) -> Batch:
        """Read pages, one result each."""
        return Batch([self._extract(raw) for raw in batch.pages], batch.place, batch.n_read)

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
