"""WikiText back to articles: one document per article, the tokeniser's marks undone.

The corpus splits words from punctuation by spaces, and marks what was joined: `role @-@ playing`,
`1 @,@ 000`, `0 @.@ 7`. An article starts at a line ` = Title = ` between blank lines, a section at
` = = Section = = `; both become plain lines. Word-level files hold `<unk>` for rare words.
"""

import re
from collections.abc import Iterable, Iterator

from tinyllm.data.tally import Tally
from tinyllm.records import Document

UNKNOWN = "<unk>"
_HEADING = re.compile(r"^\s*(?P<marks>=(?: =)*) (?P<title>\S.*?) (?P=marks)\s*$")

_RULES: tuple[tuple[str, re.Pattern[str], str], ...] = tuple(
    (needle, re.compile(pattern), replacement)
    for needle, pattern, replacement in (
        ("@", r" ?@([-,.])@ ?", r"\1"),  # what WikiText itself split
        (" '", r" ('(?:s|t|m|d|re|ve|ll|S|T|M|D|RE|VE|LL))(?![\w'])", r"\1"),  # don 't, Smith 's
        (" – ", r"(?<=\d) – (?=\d)", "–"),  # 1914 – 1918
        (" : ", r"(?<=\d) : (?=\d)", ":"),  # 7 : 30
        (" / ", r"(?<=\w) / (?=\w)", "/"),  # km / h
        (" ⁄ ", r"(?<=\w) ⁄ (?=\w)", "⁄"),
        (" — ", r"(?<=\S) — (?=\S)", "—"),
        (" ‑ ", r"(?<=\w) ‑ (?=\w)", "‑"),
        (" ", r" (\.\.\.|[,.;:!?%\)\]}”’])(?=\s|$|[,.;:!?\)\]}”’\"'])", r"\1"),
        (" ", r"(^|[\s\(\[{\"'])([\(\[{“‘$£€¥₤#]) (?=\S)", r"\1\2"),
        (" °", r"(?<=\d) °(?!\w)", "°"),
        ("° ", r"(?<=°) (?=[CFNSEW\d]\b)", ""),
        (" ′", r"(?<=\d) ′", "′"),
        (" ″", r"(?<=\d) ″", "″"),
        ("′ ", r"(?<=\d′) (?=\d)", ""),
    )
)
_NOT_PLURAL = frozenset({"is", "was", "as", "has", "this", "his", "its", "us", "thus"})
_ELISION = re.compile(r"\d\ds?\b|til\b|em\b|n\b|cause\b", re.IGNORECASE)


def read_articles(lines: Iterable[str], tally: Tally) -> Iterator[Document]:
    """Yield the articles of WikiText lines. Counts empty articles and unknown words.

    Text before the first title, as in a slice from the middle, is an article without a title.
    """
    title: str | None = None
    body: list[str] = []
    n_articles = 0
    for line, is_title in _mark_titles(lines):
        if is_title:
            yield from _article(title, body, n_articles, tally)
            n_articles += title is not None or bool(body)
            heading = _HEADING.match(line)
            title, body = undo_tokenising(heading["title"]) if heading else line.strip(), []
        elif line and not line.isspace():
            body.append(line)
    yield from _article(title, body, n_articles, tally)


def _mark_titles(lines: Iterable[str]) -> Iterator[tuple[str, bool]]:
    """Pair each line with whether it starts an article: ` = … = ` with blank lines around it."""
    previous, held = "", None
    for line in lines:
        line = line.rstrip("\n")
        if held is not None:
            blank_around = not previous.strip() and not line.strip()
            yield held, blank_around and _level(held) == 1
            previous = held
        held = line
    if held is not None:
        yield held, not previous.strip() and _level(held) == 1


def _level(line: str) -> int:
    """Return the depth of a heading: 1 for a title, 2 and more for sections, 0 for text."""
    heading = _HEADING.match(line) if line.startswith((" =", "=")) else None
    return heading["marks"].count("=") if heading else 0


def _article(title: str | None, body: list[str], index: int, tally: Tally) -> Iterator[Document]:
    if title is None and not body:
        return
    if not body:
        tally.drop("empty")
        return
    parts = [f"{title}\n"] if title is not None else []
    for line in body:
        heading = _HEADING.match(line)
        if heading and _level(line) > 1:
            parts.append(f"\n{undo_tokenising(heading['title'])}\n")
        else:
            parts.append(undo_tokenising(line))
    text = "\n".join(parts).strip("\n")
    n_unknown = text.count(UNKNOWN)
    if n_unknown:
        tally.change("unknown_words", n_unknown)
    yield Document(str(index), text, meta={"title": title} if title is not None else {})


def undo_tokenising(line: str) -> str:
    """Return a line as it was written, as far as the spaces tell.

    Quotation marks alternate between opening and closing; an apostrophe after a plural, which
    looks like a closing mark, closes a quotation only where one is open.
    """
    text = _join_quotes(" ".join(line.split()))
    for needle, pattern, replacement in _RULES:
        if needle in text:
            text = pattern.sub(replacement, text)
    return text


def _join_quotes(text: str) -> str:
    """Move each free-standing quotation mark to the word it belongs to."""
    if '"' not in text and "'" not in text:
        return text
    words = text.split(" ")
    n_left = {mark: words.count(mark) for mark in ('"', "'")}
    is_open = {'"': False, "'": False}
    out: list[str] = []
    glue = False
    for word, following in zip(words, [*words[1:], ""], strict=True):
        side = "none"
        if word in n_left:
            n_left[word] -= 1
            side = _side(word, out[-1] if out else "", following, is_open[word], n_left[word])
            is_open[word] = side == "opening" or (is_open[word] and side == "elision")
        if out and (glue or side == "closing"):
            out[-1] += word
        else:
            out.append(word)
        glue = side in ("opening", "elision")
    return " ".join(out)


def _side(mark: str, before: str, after: str, is_open: bool, n_left: int) -> str:
    """Judge a mark: `opening`, `closing`, `elision` (the '70s) or `none` when nothing closes it."""
    if mark == "'":
        if not is_open and before.endswith("s") and before.lower() not in _NOT_PLURAL:
            return "closing"  # the dogs ' owners
        if _ELISION.match(after):
            return "elision"
    if is_open:
        return "closing"
    return "opening" if n_left else "none"
