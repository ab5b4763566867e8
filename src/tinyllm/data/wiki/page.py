"""One page of a dump: read from XML, and what the dump says of its wiki.

What is parsed begins with an element, so it can declare no entities: no bombs, no foreign files.
"""

import re
from dataclasses import dataclass
from xml.etree.ElementTree import Element, ParseError, fromstring

_REDIRECT = re.compile(r"\s*#\s*redirect\b", re.IGNORECASE)
_UNREAL = ("Media", "File", "Image", "Category")


@dataclass(frozen=True, slots=True)
class Page:
    """One page. `namespace` 0 holds the articles."""

    id: str
    title: str
    namespace: int
    is_redirect: bool
    text: str


@dataclass(frozen=True, slots=True)
class Wiki:
    """What a dump's head says: names of namespaces, lower-case, by number."""

    namespaces: dict[str, int]

    @property
    def unseen(self) -> frozenset[str]:
        """Names of namespaces whose links show no words: files and categories."""
        found = {name for name, number in self.namespaces.items() if number in (-2, 6, 14)}
        return frozenset(found | {name.lower() for name in _UNREAL})


def read_wiki(head: bytes) -> Wiki:
    """Read the head of a dump; one that cannot be read leaves MediaWiki's own names."""
    begin, end = head.find(b"<siteinfo>"), head.find(b"</siteinfo>")
    namespaces: dict[str, int] = {}
    if 0 <= begin < end:
        try:
            for element in fromstring(head[begin : end + len(b"</siteinfo>")]).iter("namespace"):
                namespaces[(element.text or "").lower()] = int(element.get("key", "0"))
        except (ParseError, ValueError):
            namespaces = {}
    return Wiki(namespaces)


def read_page(raw: bytes, wiki: Wiki) -> Page | None:
    """Read `<page>…</page>`; the newest revision of several. None for broken XML."""
    try:
        element: Element = fromstring(raw)
    except (ParseError, ValueError):
        return None
    title = element.findtext("title") or ""
    texts = element.findall("revision/text")
    text = (texts[-1].text if texts else None) or ""
    return Page(
        id=element.findtext("id") or "",
        title=title,
        namespace=_namespace(element, title, wiki),
        is_redirect=element.find("redirect") is not None or bool(_REDIRECT.match(text)),
        text=text,
    )


def _namespace(element: Element, title: str, wiki: Wiki) -> int:
    """Return what the page says, or, in old dumps that say nothing, what its title tells."""
    said = element.findtext("ns")
    if said is not None and re.fullmatch(r"-?\d{1,9}", said):
        return int(said)
    return wiki.namespaces.get(title.partition(":")[0].lower(), 0) if ":" in title else 0
