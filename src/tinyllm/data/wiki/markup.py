"""Wikitext to plain text: the words that a reader of the page would read in sentences.

Kept: paragraphs, headings with something beneath them, lists, the words of links, quotations.
Left out: tables, references, files, categories, formulas, and templates other than those that
stand for words (`templates.py`). Wikitext is parsed by mwparserfromhell.
"""

import functools
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tinyllm.data.wiki.templates import is_disambiguation, text_of_template

if TYPE_CHECKING:
    from mwparserfromhell.nodes import Node, Tag, Template, Wikilink
    from mwparserfromhell.wikicode import Wikicode

_HEADING = "\x02"
"""Begins a line that is a heading; its depth, as a character, follows."""
_ITEM = "\x03"
"""Begins a line that is an item of a list."""

_REFERENCE, _FORMULA = ("ref", "references"), ("math", "chem", "ce", "score", "timeline", "hiero")
_PICTURES = ("gallery", "imagemap", "graph", "mapframe", "maplink")
_CODE = ("syntaxhighlight", "source", "templatestyles", "templatedata", "inputbox")
_DROPPED = {
    name: what
    for what, names in {
        "references": _REFERENCE,
        "formulas": _FORMULA,
        "galleries": _PICTURES,
        "code": _CODE,
    }.items()
    for name in names
}
_FIRST = re.compile(
    r"<!--.*?(?:-->|\Z)"
    r"|<nowiki\s*/>"
    r"|<nowiki>(?P<literal>.*?)</nowiki>"
    rf"|<(?P<tag>{'|'.join(_DROPPED)})\b(?:[^<>\"]|\"[^\"]*\")*?(?:/>|>.*?</(?P=tag)\s*>)",
    re.DOTALL | re.IGNORECASE,
)
"""What MediaWiki takes out of a page before it looks at anything else."""
_LITERAL = str.maketrans({char: f"&#{ord(char)};" for char in "[]{}|=<>*#:;'&_~\n"})
_STYLE = re.compile(r"''+")
_MAGIC_WORD = re.compile(r"__[A-Z]{3,}__")
_LANGUAGE = re.compile(r"[a-z]{2,3}(?:-[a-z]+)*|simple")
_MANUAL_LIST = ("li", "dt", "dd")
_BLOCKS = frozenset({"div", "p", "blockquote", "center", "ul", "ol", "dl", "poem"})
_ENDS_A_LINE = frozenset({"br", "hr"})

_SPACES = re.compile(r"[ \t\xa0\u2000-\u200a\u202f\u3000]+")
_EMPTY_BRACKETS = re.compile(r" ?\([\s,;:–—-]*\)|\[\s*\]")
_BRACKET_START = re.compile(r"\(\s*(?:[,;:]\s*)+")
_BRACKET_END = re.compile(r"\s*(?:[,;:]\s*)+\)")
_LOOSE = re.compile(r" +([,.;:!?)\]])(?=[\s)\]\"'”’]|$)")
_DOUBLE_COMMA = re.compile(r",(?:\s*,)+")
_NO_WORDS = re.compile(r"[\W_]*")
_LEFT_OVER = ("{|", "|}", "|-", "||", "!!", "|")

_DEEPEST = 40
"""Nested markup below this is left out: no page needs it, and it would exhaust the stack."""


@dataclass
class PlainText:
    """A page in plain text, and what was left out of it, by kind."""

    text: str = ""
    is_disambiguation: bool = False
    left_out: Counter[str] = field(default_factory=Counter)


def plain_text(
    wikitext: str,
    unseen: frozenset[str],
    dropped_sections: frozenset[str] = frozenset(),
    *,
    lists: bool = True,
) -> PlainText:
    """Make plain text of a page.

    `unseen` names the namespaces, lower-case, whose links show nothing. Sections are dropped by
    their lower-case heading, with all beneath them. One paragraph, item or heading a line; blank
    lines stand around headings only.
    """
    result = PlainText()
    wikitext = _FIRST.sub(functools.partial(_take_out, left_out=result.left_out), wikitext)
    raw = _Walk(unseen, result).text(_parse(wikitext), 0)
    lines = (_clean(line) for line in _STYLE.sub(_quotes, raw).split("\n"))
    kept = _sections((line for line in lines if line is not None), dropped_sections, result)
    result.text = "\n".join(_laid_out(kept, lists=lists)).strip("\n")
    return result


def _take_out(found: re.Match[str], left_out: Counter[str]) -> str:
    if (literal := found["literal"]) is not None:
        return literal.translate(_LITERAL)
    if (tag := found["tag"]) is not None:
        left_out[_DROPPED[tag.lower()]] += 1
    return ""


def _parse(wikitext: str) -> "Wikicode":
    import mwparserfromhell

    return mwparserfromhell.parse(wikitext, skip_style_tags=True)


class _Walk:
    """One pass over a parsed page."""

    def __init__(self, unseen: frozenset[str], result: PlainText) -> None:
        self._unseen = unseen
        self._result = result

    def text(self, code: "Wikicode | None", depth: int) -> str:
        """Return the words of some markup."""
        if code is None or depth > _DEEPEST:
            return ""
        return "".join(self._node(node, depth + 1) for node in code.nodes)

    def _node(self, node: "Node", depth: int) -> str:
        """Return the words of one node; comments, and whatever else there is, have none."""
        kind = type(node).__name__
        any_node: Any = node
        if kind == "Text":
            return str(any_node.value)
        if kind == "Wikilink":
            return self._link(any_node, depth)
        if kind == "Template":
            return self._template(any_node, depth)
        if kind == "Tag":
            return self._tag(any_node, depth)
        if kind == "HTMLEntity":
            return _character(any_node)
        if kind == "ExternalLink":
            return self.text(any_node.title, depth) if any_node.brackets else str(any_node.url)
        if kind == "Heading":
            title = self.text(any_node.title, depth).strip()
            return f"\n{_HEADING}{any_node.level}{title}\n"
        if kind == "Argument":
            return self.text(any_node.default, depth)
        return ""

    def _link(self, link: "Wikilink", depth: int) -> str:
        title = str(link.title).strip()
        prefix, colon, _ = title.partition(":")
        if colon and prefix.strip().lower() in self._unseen:
            self._result.left_out["files_and_categories"] += 1
            return ""
        if link.text is not None:
            return self.text(link.text, depth)
        if colon and _LANGUAGE.fullmatch(prefix):
            return ""
        return title.lstrip(":").partition("#")[0].replace("_", " ") or title.lstrip(":#")

    def _template(self, template: "Template", depth: int) -> str:
        name = str(template.name)
        if is_disambiguation(name):
            self._result.is_disambiguation = True
            return ""
        arguments = [
            self.text(parameter.value, depth).strip()
            for parameter in template.params
            if not parameter.showkey or str(parameter.name).strip().isdigit()
        ]
        text = text_of_template(name, arguments)
        if text is None:
            self._result.left_out["templates"] += 1
            return ""
        return text

    def _tag(self, tag: "Tag", depth: int) -> str:
        name = str(tag.tag).strip().lower()
        if name == "table":
            self._result.left_out["tables"] += 1
            return "\n"
        if name in _DROPPED:
            self._result.left_out[_DROPPED[name]] += 1
            return ""
        if name in _ENDS_A_LINE:
            return "\n"
        if name in _MANUAL_LIST:
            item = _ITEM if tag.wiki_markup in ("*", "#") or name == "li" else ""
            return f"{item}{self.text(tag.contents, depth)}"
        words = self.text(tag.contents, depth) if tag.contents is not None else ""
        return f"\n{words}\n" if name in _BLOCKS else words


def _character(entity: Any) -> str:
    try:
        return str(entity.normalize())
    except (ValueError, OverflowError):  # a number that is no character
        return ""


def _quotes(found: re.Match[str]) -> str:
    """Drop the marks of italic and bold; four are bold and an apostrophe, six and more likewise."""
    n = len(found.group())
    return "'" * max(0, {2: 0, 3: 0, 4: 1, 5: 0}.get(n, n - 5))


def _clean(line: str) -> str | None:
    """Tidy one line after what was left out of it; None for a line without words."""
    line = _SPACES.sub(" ", _MAGIC_WORD.sub("", line)).strip()
    if line.startswith(_HEADING):
        return line
    mark = ""
    if line.startswith(_ITEM):
        mark, line = _ITEM, line.lstrip(f"{_ITEM} ")
    if line.startswith(_LEFT_OVER):
        return None
    line = line.replace(_ITEM, "")
    line = _EMPTY_BRACKETS.sub("", line)
    line = _BRACKET_START.sub("(", line)
    line = _BRACKET_END.sub(")", line)
    line = _DOUBLE_COMMA.sub(",", line)
    line = _LOOSE.sub(r"\1", _SPACES.sub(" ", line)).strip()
    return None if _NO_WORDS.fullmatch(line) else mark + line


def _sections(lines: Iterable[str], dropped: frozenset[str], result: PlainText) -> Iterator[str]:
    """Leave out dropped sections, and headings with nothing beneath them."""
    waiting: list[str] = []
    dropped_at: int | None = None
    for line in lines:
        if line.startswith(_HEADING):
            level, title = int(line[1]), line[2:]
            if dropped_at is not None and level > dropped_at:
                continue
            dropped_at = None
            waiting = [held for held in waiting if int(held[1]) < level]
            if title.lower() in dropped:
                dropped_at = level
                result.left_out["sections"] += 1
            elif title:
                waiting.append(line)
        elif dropped_at is None:
            yield from waiting
            waiting = []
            yield line


def _laid_out(lines: Iterable[str], *, lists: bool) -> Iterator[str]:
    """Write headings between blank lines and items behind a dash."""
    after_heading = False
    for line in lines:
        if line.startswith(_HEADING):
            yield from ((line[2:], "") if after_heading else ("", line[2:], ""))
            after_heading = True
            continue
        if line.startswith(_ITEM):
            if lists:
                yield f"- {line[1:]}"
        else:
            yield line
        after_heading = False
