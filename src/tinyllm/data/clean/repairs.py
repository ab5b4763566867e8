"""What is mended in a text, in this order. Each repair has a name under which it is counted.

encoding          UTF-8 that was read as Windows-1252
line_ends         CR LF, CR, the separators U+2028 and U+2029
invisible         control characters, byte order marks, zero-width spaces, soft hyphens
tokenised         FAIR's spaced form: `would n't`, ` ,`, `` `` '' ``, <newline>
prompt_tag        [WP], [ EU ], … before a prompt
markdown          emphasis, headings, quotations, rules and links of Reddit's markup
links             addresses of the web
remarks           lines about the text: "Edit: …", "Part 2 in the comments", r/subreddit plugs
personal_data     addresses of mail, numbers of telephones
spaces            runs of spaces, blank lines, spaces at the ends of lines
"""

import re
import unicodedata
from collections.abc import Callable

from tinyllm.data.normalise import repair_encoding

_LINE_ENDS = re.compile(r"\r\n?|\u2028|\u0085|\x0b|\x0c")
_KEPT_FORMATS = "\u200c\u200d\ufe0f"
"""Joiners and variation selectors, which emoji and some scripts are made of."""

_CONTRACTION = re.compile(r"(?<=\w) (n't|'(?:s|m|d|re|ve|ll))\b", re.IGNORECASE)
_TORN_WORDS = re.compile(r"\b(gon|wan|got) (na|ta)\b", re.IGNORECASE)
_OPENING_QUOTE, _CLOSING_QUOTE = re.compile(r"``\s?"), re.compile(r"(?<!\n)\s?''")
_BEFORE_MARK = re.compile(r"(?<=\S) +(\.\.\.|[,.;:!?%)\]])(?=[\s\"')\].,;:!?]|$)")
_AFTER_BRACKET = re.compile(r"([(\[]) +(?=\S)")
_SIGNS_OF_TOKENISING = re.compile(
    r"``|''|<newline>| n't\b|\w '(?:s|m|d|re|ve|ll)\b|\w ,\s|\w \.\s", re.IGNORECASE
)

_TAG = re.compile(r"^\s*(?:[\[({]\s*[A-Za-z]{2,4}(?:\s*/\s*[A-Za-z]{2,4})?\s*[\])}]\s*[:-]?\s*)+")

_MD_LINK = re.compile(
    r"!?\[([^\[\]\n]*)\] ?\(\s?(?:https?: ?//|www\.|/?[ru]/)(?:[^()\n]|\([^()\n]*\))*\)"
)
_MD_EMPHASIS = re.compile(r"(?<![\w*_~])(\*{1,3}|_{1,3}|~~)(?=\S)([^*_~\n]*?\S)\1(?![\w*_~])")
_MD_LINE = re.compile(r"^[ \t]*(?:#{1,6}[ \t]+|(?:>[ \t]?)+)", re.MULTILINE)
_MD_RULE = re.compile(
    r"^[ \t]*(?:(?:\*[ \t]*){3,}|(?:-[ \t]*){3,}|(?:_[ \t]*){3,}|&nbsp;)[ \t]*$", re.M
)
_MD_ESCAPE = re.compile(r"\\([*_#>~`\[\]()\\-])")
_ENTITY = re.compile(r"& ?(amp|lt|gt|quot|nbsp|#39|#x200b);", re.IGNORECASE)
_ENTITIES = {
    "amp": "&",
    "lt": "<",
    "gt": ">",
    "quot": '"',
    "nbsp": " ",
    "#39": "'",
    "#x200b": "",
}

_LINK = re.compile(
    r"(?:\(\s?)?(?:https?: ?//|www\.)[^\s)?]+(?:\?\s?[^\s)]*=[^\s)]*)?(?:\s?\))?", re.IGNORECASE
)
_REMARK = re.compile(
    r"^[\W_]*(?:"
    r"(?:edit|update|note|disclaimer|tl;?dr|author'?s note|a/n|critique|feedback)\s*\d*\s*[:\-–—].*"
    r"|\(?(?:part|chapter) (?:\d+|two|three|ii+) (?:is |are )?(?:in|below|here|can|now|coming).*"
    r"|(?:continued|cont\.?|more) (?:in|below)\b.*"
    r"|.*\b/?r/[A-Za-z0-9_]{3,21}\b.*"
    r"|(?:thanks|thank you) (?:for|so much for) (?:reading|the gold|the silver)\b.*"
    r"|if you (?:liked|enjoyed) (?:this|my)\b.*\b(?:subreddit|sub|profile|stories|patreon)\b.*"
    r"|(?:this is |sorry,? )?(?:my first|first) (?:time|attempt|try|submission|post|prompt)\b.*"
    r"|(?:sorry|apologies) (?:for|about) (?:any |the )?"
    r"(?:formatting|typos?|mistakes|grammar|mobile).*"
    r")$",
    re.IGNORECASE,
)
_NEAR_AN_END, _LONGEST_REMARK = 3, 200
"""Remarks stand in so many first or last lines, and have so many characters at most."""

_MAIL = re.compile(r"\b[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}\b")
_TELEPHONE = re.compile(
    r"(?<![\w.,-])(?:\+\d{1,3}[ .-]?)?(?:\(\d{3}\)[ .-]?|\d{3}[ .-])\d{3}[ .-]\d{4}(?![\w-])"
    r"|(?<![\w.,-])\+\d{1,3}(?:[ .-]?\d{2,4}){3,4}(?![\w-])"
)

_SPACES = re.compile(r"[ \t\xa0\u2000-\u200a\u202f\u205f\u3000]+")
_LINE_EDGES = re.compile(r" *\n *")
_BLANK_LINES = re.compile(r"\n{3,}")


def encoding(text: str) -> str:
    """Undo UTF-8 that was read as Windows-1252."""
    return repair_encoding(text)


def line_ends(text: str) -> str:
    """Write every line end as a newline, and a paragraph separator as a blank line."""
    if text.isascii() and not any(c in text for c in "\r\x0b\x0c"):
        return text
    return _LINE_ENDS.sub("\n", text).replace("\u2029", "\n\n")


def invisible(text: str) -> str:
    """Drop characters that nobody sees; what joins letters or emoji stays."""
    if text.replace("\n", "").replace("\t", "").isprintable():
        return text
    return "".join(c for c in text if c in "\n\t" or c.isprintable() or not _is_invisible(c))


def _is_invisible(char: str) -> bool:
    return char not in _KEPT_FORMATS and unicodedata.category(char) in (
        "Cc",
        "Cf",
        "Cs",
        "Co",
        "Cn",
    )


def tokenised(text: str) -> str:
    """Undo the spaces that a tokeniser put between words and marks; other texts stay."""
    if not _SIGNS_OF_TOKENISING.search(text):
        return text
    text = re.sub(r" ?<newline> ?", "\n", text)
    text = _CLOSING_QUOTE.sub('"', _OPENING_QUOTE.sub('"', text))
    text = _TORN_WORDS.sub(r"\1\2", _CONTRACTION.sub(r"\1", text))
    return _AFTER_BRACKET.sub(r"\1", _BEFORE_MARK.sub(r"\1", text))


def prompt_tag(text: str) -> str:
    """Take the tags off a prompt, when something is left."""
    rest = _TAG.sub("", text, count=1)
    return rest if rest.strip() else text


def markdown(text: str) -> str:
    """Write Reddit's markup as plain text."""
    text = _ENTITY.sub(lambda found: _ENTITIES[found[1].lower()], text)
    text = _MD_RULE.sub("", _MD_LINE.sub("", _MD_LINK.sub(r"\1", text)))
    for _ in range(3):  # emphasis inside emphasis
        text, n = _MD_EMPHASIS.subn(r"\2", text)
        if not n:
            break
    return _MD_ESCAPE.sub(r"\1", text)


def links(text: str) -> str:
    """Drop addresses of the web."""
    return _LINK.sub("", text) if "//" in text or "www." in text else text


def remarks(text: str) -> str:
    """Drop lines about the text among its first and last ones."""
    lines = text.split("\n")
    filled = [number for number, line in enumerate(lines) if line.strip()]
    edges = {*filled[:_NEAR_AN_END], *filled[-_NEAR_AN_END:]}
    kept = [
        line
        for number, line in enumerate(lines)
        if number not in edges or not _is_remark(line.strip())
    ]
    return text if len(kept) == len(lines) else "\n".join(kept)


def _is_remark(line: str) -> bool:
    return len(line) <= _LONGEST_REMARK and _REMARK.match(line) is not None


def personal_data(text: str) -> str:
    """Put [email] and [phone] in place of addresses of mail and numbers of telephones."""
    if "@" in text:
        text = _MAIL.sub("[email]", text)
    return _TELEPHONE.sub("[phone]", text)


def spaces(text: str) -> str:
    """Leave one space, one blank line, and nothing at the ends."""
    text = _LINE_EDGES.sub("\n", _SPACES.sub(" ", text))
    return _BLANK_LINES.sub("\n\n", text).strip()


Repair = Callable[[str], str]
ORDER: tuple[Repair, ...] = (
    encoding,
    line_ends,
    invisible,
    tokenised,
    markdown,
    links,
    remarks,
    personal_data,
    spaces,
)
"""What is done to a text."""
OF_PROMPTS: tuple[Repair, ...] = (
    encoding,
    line_ends,
    invisible,
    tokenised,
    prompt_tag,
    markdown,
    links,
    personal_data,
    spaces,
)
"""What is done to a prompt."""
