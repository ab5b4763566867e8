"""Some sources and how they are read: what a tokenizer is trained on and shards are built from."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tinyllm.chat_template import DEFAULT_TEMPLATE, ChatTemplate, conversation_texts
from tinyllm.data.fingerprint import digest, hash_sources
from tinyllm.data.hub import is_hub_source
from tinyllm.data.rows import stem_of
from tinyllm.data.source_files import expand_source
from tinyllm.data.sources import read_conversations, read_documents, sniff_format
from tinyllm.errors import DataError
from tinyllm.records import Conversation, Document
from tinyllm.reporting import Reporter

Format = Literal["text", "conversations"]

_COMPRESSED = {".gz": 3, ".bz2": 4, ".xz": 4, ".parquet": 2}
"""How much larger text is than its compressed file, roughly."""


@dataclass(frozen=True)
class Corpus:
    """Sources read one after another, all in one format.

    `template` matters to conversations only; `text_field` names the column of a table.
    """

    sources: Sequence[str]
    format: Format
    template: ChatTemplate = DEFAULT_TEMPLATE
    text_field: str | None = None

    @property
    def label(self) -> str:
        """A short name for people and folders."""
        return name_of(self.sources[0])

    @property
    def n_bytes(self) -> int:
        """About how much text the files hold; 0 for the Hub."""
        paths = [p for s in self.sources if not is_hub_source(s) for p in expand_source(s)]
        return sum(path.stat().st_size * _COMPRESSED.get(path.suffix, 1) for path in paths)

    def documents(self, reporter: Reporter) -> Iterator[Document]:
        """Read the documents of all sources."""
        for source in self.sources:
            yield from read_documents(source, text_field=self.text_field, reporter=reporter)

    def conversations(self, reporter: Reporter) -> Iterator[Conversation]:
        """Read the conversations of all sources."""
        for source in self.sources:
            yield from read_conversations(source, reporter)

    def texts(self, reporter: Reporter) -> Iterator[Sequence[str]]:
        """Yield the texts of each document; a conversation's as training will encode them."""
        if self.format == "text":
            yield from ((document.text,) for document in self.documents(reporter))
        else:
            for conversation in self.conversations(reporter):
                yield tuple(conversation_texts(conversation, self.template))

    def hashes(self, cache: Path) -> list[tuple[str, str]]:
        """Return (absolute path, SHA-256) of every file, in the order they are read."""
        return hash_sources(self.sources, cache)

    def fingerprint(self, cache: Path) -> str:
        """Return a digest of all that decides what is read: bytes, file kinds, format, template."""
        # the suffix decides how a file is read
        files = [(Path(name).suffixes, sha256) for name, sha256 in self.hashes(cache)]
        template = self.template.to_json() if self.format == "conversations" else None
        return digest([self.format, self.text_field, template, files])


def name_of(source: str) -> str:
    """Return a source's short name: its file's, without the suffixes of data files."""
    return stem_of(Path(source.removeprefix("hf:").rstrip("/")).name).strip(".") or "data"


def resolve_format(
    sources: Sequence[str], wanted: Literal["auto", "text", "conversations"]
) -> Format:
    """Return the format all sources are read in. Raises DataError when they differ."""
    if wanted != "auto":
        return wanted
    formats = {source: sniff_format(source) for source in sources}
    if len(set(formats.values())) > 1:
        found = ", ".join(f"{source} holds {kind}" for source, kind in formats.items())
        raise DataError(f"the sources differ: {found}", "Set `format`, or use them one by one.")
    return formats[sources[0]]
