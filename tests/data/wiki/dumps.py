"""Dumps made by the tests, in MediaWiki's export format."""

import bz2
from collections.abc import Iterable, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

HEAD = """<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" version="0.11" xml:lang="en">
  <siteinfo>
    <sitename>Test</sitename>
    <namespaces>
      <namespace key="-2" case="first-letter">Medium</namespace>
      <namespace key="0" case="first-letter" />
      <namespace key="6" case="first-letter">Datei</namespace>
      <namespace key="10" case="first-letter">Vorlage</namespace>
      <namespace key="14" case="first-letter">Kategorie</namespace>
    </namespaces>
  </siteinfo>
"""
TAIL = "</mediawiki>\n"


def page(title: str, text: str, *, number: int = 1, namespace: int = 0) -> str:
    return (
        f"  <page>\n    <title>{escape(title)}</title>\n    <ns>{namespace}</ns>\n"
        f"    <id>{number}</id>\n    <revision>\n      <id>7</id>\n"
        f'      <text xml:space="preserve">{escape(text)}</text>\n    </revision>\n  </page>\n'
    )


def pages(n: int) -> list[str]:
    """Return pages of different lengths whose text tells which one it is."""
    return [
        page(f"Title {i}", f"'''Page {i}''' is about [[number]] {i}. " * (1 + i % 7), number=i)
        for i in range(n)
    ]


def write_dump(path: Path, parts: Sequence[str]) -> Path:
    """Write a dump, compressed as one stream where its name ends in .bz2."""
    data = (HEAD + "".join(parts) + TAIL).encode()
    path.write_bytes(bz2.compress(data) if path.suffix == ".bz2" else data)
    return path


def write_multistream(path: Path, parts: Sequence[str], in_a_stream: int) -> Path:
    """Write a dump as Wikipedia's multistream dumps are: head, blocks of pages, tail."""
    blocks: Iterable[str] = (
        HEAD,
        *("".join(parts[i : i + in_a_stream]) for i in range(0, len(parts), in_a_stream)),
        TAIL,
    )
    path.write_bytes(b"".join(bz2.compress(block.encode()) for block in blocks))
    return path
