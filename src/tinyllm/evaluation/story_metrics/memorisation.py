"""How much of a model's stories stands in the text that it learned from.

The training text goes by once, in blocks; memory holds one block and what was found. Exact but for
two things: a run across the pieces of a document of more than 65,000 characters is seen up to some
400 words, and the nearest story of such a document is its nearest piece.

    unseen runs     share of a text's runs of 4, 6, 8 and 13 words that the training text lacks
    longest span    the longest run of words of a text that stands in the training text
    nearest story   the document with the highest Rouge-2 (F1), by number from 0
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tinyllm.data.word_hashes import blocks_of, hash_documents
from tinyllm.errors import DataError
from tinyllm.evaluation.statistics import mean
from tinyllm.evaluation.story_metrics.nearest import Nearest, NearestStories
from tinyllm.evaluation.story_metrics.sample import StorySample
from tinyllm.evaluation.story_metrics.spans import Spans

RUN_LENGTHS = (4, 6, 8, 13)


@dataclass(frozen=True, slots=True)
class Remembered:
    """What of one text stands in the training text."""

    prompt_id: str
    sample: int
    n_words: int
    longest_span: int
    """In words."""
    span: str
    """Its normalised words."""
    nearest_rouge_2: float
    nearest_document: int | None
    unseen: Mapping[int, float]
    """By length of the run; a text that is shorter has none."""


@dataclass(frozen=True)
class Memorisation:
    """What of a model's texts stands in what it learned from."""

    n_documents: int
    n_bytes: int
    samples: tuple[Remembered, ...]

    def mean_of(self, name: str) -> float:
        """Return the mean of `longest_span` or `nearest_rouge_2` over all texts."""
        return mean([float(getattr(sample, name)) for sample in self.samples])

    def unseen(self, length: int) -> float | None:
        """Return the mean share of unseen runs of so many words; None where no text has one."""
        shares = [sample.unseen[length] for sample in self.samples if length in sample.unseen]
        return mean(shares) if shares else None

    def per_prompt(self, name: str) -> dict[str, float]:
        """Return the means of `longest_span` or `nearest_rouge_2` by prompt."""
        values: dict[str, list[float]] = {}
        for sample in self.samples:
            values.setdefault(sample.prompt_id, []).append(float(getattr(sample, name)))
        return {prompt_id: mean(of_prompt) for prompt_id, of_prompt in values.items()}

    @property
    def longest(self) -> Remembered:
        """The text with the longest verbatim span."""
        return max(self.samples, key=lambda sample: sample.longest_span)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        names = ("longest_span", "nearest_rouge_2")
        return {
            "training_text": {"documents": self.n_documents, "bytes": self.n_bytes},
            "unseen_runs": {str(length): self.unseen(length) for length in RUN_LENGTHS},
            **{
                name: {"mean": self.mean_of(name), "per_prompt": self.per_prompt(name)}
                for name in names
            },
            "longest": asdict(self.longest),
            "samples": [asdict(sample) for sample in self.samples],
        }


def memorisation(samples: Sequence[StorySample], training_text: Iterable[str]) -> Memorisation:
    """Compare texts with the documents of a training text, which is read once.

    Raises DataError for no samples or no documents.
    """
    if not samples:
        raise DataError("there are no texts to look for")
    ordered = sorted(samples, key=lambda s: (s.prompt_id, s.sample))
    texts = [sample.text for sample in ordered]
    spans, nearest = Spans(texts), NearestStories(texts)
    n_documents = n_bytes = 0
    for pieces in blocks_of(training_text):
        block = hash_documents([piece.text for piece in pieces])
        spans.read(block)
        nearest.read(block, [piece.document for piece in pieces])
        n_documents = pieces[-1].document + 1
        n_bytes += sum(len(piece.text.encode("utf-8", "replace")) for piece in pieces)
    if not n_documents:
        raise DataError("the training text holds no document")
    found = [
        _remembered(sample, i, spans, best)
        for i, (sample, best) in enumerate(zip(ordered, nearest.best(), strict=True))
    ]
    return Memorisation(n_documents, n_bytes, tuple(found))


def _remembered(sample: StorySample, number: int, spans: Spans, best: Nearest) -> Remembered:
    words = spans.longest(number)
    unseen = {length: spans.unseen(number, length) for length in RUN_LENGTHS}
    return Remembered(
        prompt_id=sample.prompt_id,
        sample=sample.sample,
        n_words=spans.n_words(number),
        longest_span=len(words),
        span=" ".join(words),
        nearest_rouge_2=best.f,
        nearest_document=best.document,
        unseen={length: share for length, share in unseen.items() if share is not None},
    )
