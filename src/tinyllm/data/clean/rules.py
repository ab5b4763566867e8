"""Why a text is dropped. Each rule has a name, and looks at one text alone.

not_a_story       a prompt whose tag asks for no story: [OT], [MODPOST], …
deleted           [deleted] or [removed] in place of a text
moderator         what bots and moderators write
empty             nothing is left
special_token     marks of a model's own, such as <|im_start|>
personal_data     where the config says to drop what holds it
too_short too_long language no_end repeated_lines repeated_words compressed few_letters
capitals symbols banned_words evaluation_text
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from tinyllm.config.clean import CleanDataConfig
from tinyllm.data.clean.measures import WORDS, compressed_share, repeated_share, trigram_share

_NO_STORY = re.compile(
    r"^\W*(?:ot|off[ -]?topic|mod\w*|meta|announcement|contest|theme thursday|sunday free write|"
    r"smash 'em up|feedback friday|rf/?sd)\s*[\])}]",
    re.IGNORECASE,
)
_DELETED = re.compile(r"\W*(?:deleted|removed)(?: by \w+)?\W*", re.IGNORECASE)
_MODERATOR = re.compile(
    r"\bi am a bot\b|performed automatically|contact the moderators|off[- ]topic discussion[:\s]"
    r"|this (?:post|comment|submission) (?:has been|was) removed|welcome to the prompt!"
    r"|all top[- ]level comments must be",
    re.IGNORECASE,
)
_SPECIAL_TOKEN = re.compile(
    r"<\|[^|<>\n]{1,40}\|>|\[/?INST\]|</?s>|<<?/?SYS>?>|<(?:start|end)_of_turn>|<end of story>",
    re.IGNORECASE,
)
_END = re.compile(r"[.!?…][\"'”’»)\]*_]*$|[\"”»)\]]$")
_SYMBOLS = frozenset("#*|<>=_~^{}\\@")
_LEAST_LINES = 5
_LEAST_CHARS_TO_COMPRESS = 2000
_LANGUAGE_CHARS = (300, 2000)
_RUN = 13


@dataclass(frozen=True, slots=True)
class Fault:
    """The rule that a text breaks, and what was measured."""

    rule: str
    value: object = None


@dataclass(frozen=True)
class Candidate:
    """A repaired text with its prompt; `raw` fields are as they were read."""

    text: str
    prompt: str | None
    raw_text: str
    raw_prompt: str | None

    @cached_property
    def words(self) -> list[str]:
        """All words, in small letters."""
        return WORDS.findall(self.text.lower())

    @cached_property
    def lines(self) -> list[str]:
        """Lines that are not blank."""
        return [line.strip() for line in self.text.split("\n") if line.strip()]

    @cached_property
    def n_letters(self) -> int:
        """How many letters there are."""
        return sum(map(str.isalpha, self.text))


Rule = Callable[[Candidate], Fault | None]


@dataclass(frozen=True)
class Lists:
    """What a config names by file: words, and runs of words (`runs_of`) kept for evaluation."""

    banned_words: tuple[str, ...] = ()
    evaluation: Mapping[int, frozenset[str]] = field(default_factory=dict)


class Rules:
    """The rules of one config, in order."""

    def __init__(self, config: CleanDataConfig, lists: "Lists | None" = None) -> None:
        self._config = config
        self._limits = config.limits
        self._lists = lists or Lists()
        self._banned = _any_of(self._lists.banned_words)
        self._order: tuple[Rule, ...] = (
            _not_a_story,
            _deleted,
            _moderator,
            _empty,
            _special_token,
            self._personal_data,
            self._too_short,
            self._too_long,
            self._language,
            self._no_end,
            self._repeated_lines,
            self._repeated_words,
            self._compressed,
            self._few_letters,
            self._capitals,
            self._symbols,
            self._banned_words,
            self._evaluation_text,
        )

    def fault(self, candidate: Candidate) -> Fault | None:
        """Return the first rule that a text breaks."""
        return next(self._faults(candidate), None)

    def _faults(self, candidate: Candidate) -> Iterator[Fault]:
        return (fault for rule in self._order if (fault := rule(candidate)) is not None)

    def _personal_data(self, candidate: Candidate) -> Fault | None:
        masked = self._config.personal_data == "drop" and (
            "[email]" in candidate.text or "[phone]" in candidate.text
        )
        return Fault("personal_data") if masked else None

    def _too_short(self, candidate: Candidate) -> Fault | None:
        n_words = len(candidate.words)
        is_short = n_words < self._limits.min_words or len(candidate.text) < self._limits.min_chars
        return Fault("too_short", n_words) if is_short else None

    def _too_long(self, candidate: Candidate) -> Fault | None:
        most, n_words = self._limits.max_words, len(candidate.words)
        return Fault("too_long", n_words) if most is not None and n_words > most else None

    def _language(self, candidate: Candidate) -> Fault | None:
        if self._config.language is None:
            return None
        from py3langid import classify

        found = ""
        for n_chars in _LANGUAGE_CHARS:  # a longer look at what a short one doubts
            found = classify(candidate.text[:n_chars])[0]
            if found == self._config.language:
                return None
        return Fault("language", found)

    def _no_end(self, candidate: Candidate) -> Fault | None:
        if not self._limits.end_mark or _END.search(candidate.text):
            return None
        return Fault("no_end", candidate.text[-20:])

    def _repeated_lines(self, candidate: Candidate) -> Fault | None:
        if len(candidate.lines) < _LEAST_LINES:
            return None
        share = repeated_share(candidate.lines)
        too_many = share > self._limits.max_repeated_lines
        return Fault("repeated_lines", round(share, 3)) if too_many else None

    def _repeated_words(self, candidate: Candidate) -> Fault | None:
        share = trigram_share(candidate.words)
        too_many = share > self._limits.max_trigram_share
        return Fault("repeated_words", round(share, 3)) if too_many else None

    def _compressed(self, candidate: Candidate) -> Fault | None:
        if len(candidate.text) < _LEAST_CHARS_TO_COMPRESS:
            return None
        low, high = self._limits.compressed_share
        share = compressed_share(candidate.text)
        return None if low <= share <= high else Fault("compressed", round(share, 3))

    def _few_letters(self, candidate: Candidate) -> Fault | None:
        n_seen = len(candidate.text) - sum(map(str.isspace, candidate.text))
        share = candidate.n_letters / max(1, n_seen)
        too_few = share < self._limits.min_letters
        return Fault("few_letters", round(share, 3)) if too_few else None

    def _capitals(self, candidate: Candidate) -> Fault | None:
        share = sum(map(str.isupper, candidate.text)) / max(1, candidate.n_letters)
        too_many = share > self._limits.max_capitals
        return Fault("capitals", round(share, 3)) if too_many else None

    def _symbols(self, candidate: Candidate) -> Fault | None:
        share = sum(map(_SYMBOLS.__contains__, candidate.text)) / max(1, len(candidate.text))
        too_many = share > self._limits.max_symbols
        return Fault("symbols", round(share, 3)) if too_many else None

    def _banned_words(self, candidate: Candidate) -> Fault | None:
        found = self._banned.search(candidate.text) if self._banned is not None else None
        return Fault("banned_words", found.group().lower()) if found is not None else None

    def _evaluation_text(self, candidate: Candidate) -> Fault | None:
        """Look for what is kept for evaluation in prompt and text."""
        words = WORDS.findall((candidate.prompt or "").lower()) + candidate.words
        for n, wanted in self._lists.evaluation.items():
            runs = (" ".join(words[i : i + n]) for i in range(len(words) - n + 1))
            found = next((run for run in runs if run in wanted), None)
            if found is not None:
                return Fault("evaluation_text", found)
        return None


def runs_of(texts: Iterable[str]) -> dict[int, frozenset[str]]:
    """Return the runs of words by which texts are known again, by their length.

    Thirteen words a run, as the usual n-gram filters have it; a shorter text is one run whole.
    """
    found: dict[int, set[str]] = {}
    for text in texts:
        words = WORDS.findall(text.lower())
        n = min(_RUN, len(words))
        for start in range(len(words) - n + 1) if words else ():
            found.setdefault(n, set()).add(" ".join(words[start : start + n]))
    return {n: frozenset(runs) for n, runs in sorted(found.items())}


def _any_of(words: Sequence[str]) -> re.Pattern[str] | None:
    if not words:
        return None
    return re.compile(rf"\b(?:{'|'.join(map(re.escape, words))})\b", re.IGNORECASE)


def _not_a_story(candidate: Candidate) -> Fault | None:
    found = _NO_STORY.match(candidate.raw_prompt or "")
    return Fault("not_a_story", found.group()) if found is not None else None


def _deleted(candidate: Candidate) -> Fault | None:
    texts = (candidate.raw_text, candidate.raw_prompt or "x")
    return Fault("deleted") if any(_DELETED.fullmatch(text) for text in texts) else None


def _moderator(candidate: Candidate) -> Fault | None:
    found = _MODERATOR.search(candidate.raw_text)
    return Fault("moderator", found.group()) if found is not None else None


def _empty(candidate: Candidate) -> Fault | None:
    is_empty = not candidate.text or candidate.prompt == ""
    return Fault("empty") if is_empty else None


def _special_token(candidate: Candidate) -> Fault | None:
    found = _SPECIAL_TOKEN.search(candidate.text)
    return Fault("special_token", found.group()) if found is not None else None
