"""Does a model make its stories up? Held-out stories are cut, completed, and compared.

The protocol of TinyStories (arXiv:2305.07759, section 5): a story that was never trained on is cut
after 40 % of its words; the model writes its own ending. By Rouge-2 (F1) that ending is compared

    with the true ending       far below 1 for a model that does not know the story
    with the training text     the nearest document; the true endings show what is usual
    with its other endings     of the same story, and of other stories

A model that learned by heart is near to the training text, one that knows a single plot is near to
itself.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tinyllm.config.generation import Sampling
from tinyllm.errors import DataError
from tinyllm.evaluation.statistics import mean
from tinyllm.evaluation.story_metrics.measure import Measure, interval_of, measure_stories
from tinyllm.evaluation.story_metrics.memorisation import Memorisation, memorisation
from tinyllm.evaluation.story_metrics.overlap import rouge
from tinyllm.evaluation.story_metrics.sample import StorySample, words_of
from tinyllm.generation.engine import Engine

CUT = 0.4
"""Share of a story's words that the model is given."""
_TRUE = "the true ending"
_WORD = re.compile(r"\S+")


@dataclass(frozen=True, slots=True)
class CutStory:
    """A held-out story in two parts; put together they are the story."""

    id: str
    beginning: str
    ending: str


@dataclass(frozen=True)
class EndingOverlap:
    """How much endings of a model share with true endings, training text and each other."""

    with_true_ending: Measure
    nearest_in_training: Measure
    nearest_of_true_endings: Measure
    among_endings: Mapping[str, Measure]
    memorised: Memorisation

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "with_true_ending": self.with_true_ending.to_json(),
            "nearest_in_training": self.nearest_in_training.to_json(),
            "nearest_of_true_endings": self.nearest_of_true_endings.to_json(),
            "among_endings": {name: value.to_json() for name, value in self.among_endings.items()},
            "memorised": self.memorised.to_json(),
        }


def cut_story(id: str, story: str, share: float = CUT) -> CutStory:
    """Cut a story before the word that follows `share` of its words; the space goes to the ending.

    Raises DataError for a story of fewer than two words.
    """
    words = list(_WORD.finditer(story))
    if len(words) < 2:
        raise DataError(f"{id} is no story that can be cut: {story[:40]!r}")
    n_given = min(len(words) - 1, max(1, round(share * len(words))))
    place = words[n_given - 1].end()
    return CutStory(id, story[:place], story[place:])


def complete_stories(
    engine: Engine, stories: Sequence[CutStory], sampling: Sampling, *, n: int
) -> list[StorySample]:
    """Let a model write n endings of each story. Raises UsageError where a beginning is too long.

    `sampling` holds the seed: the same one gives every model the same random numbers.
    """
    prompts = [engine.tokenizer.encode_prompt(story.beginning) for story in stories]
    completions = engine.complete(prompts, sampling, n=n)
    return [
        StorySample(story.id, k, story.beginning, completion.text, completion.finish_reason)
        for i, story in enumerate(stories)
        for k, completion in enumerate(completions[i * n : (i + 1) * n])
    ]


def measure_endings(
    samples: Sequence[StorySample],
    stories: Sequence[CutStory],
    training_text: Iterable[str],
    *,
    seed: int,
) -> EndingOverlap:
    """Compare a model's endings; the training text is read once. Raises DataError for none."""
    endings = {story.id: words_of(story.ending) for story in stories}
    shared: dict[str, list[float]] = {}
    for sample in samples:
        with_true = rouge(words_of(sample.text), endings[sample.prompt_id]).f
        shared.setdefault(sample.prompt_id, []).append(with_true)
    true = [StorySample(s.id, -1, s.beginning, s.ending, _TRUE) for s in stories]
    found = memorisation([*samples, *true], training_text)
    of_model = Memorisation(
        found.n_documents, found.n_bytes, tuple(s for s in found.samples if s.sample >= 0)
    )
    of_true = {s.prompt_id: s.nearest_rouge_2 for s in found.samples if s.sample < 0}
    metrics = measure_stories(samples, seed=seed).measures
    return EndingOverlap(
        with_true_ending=_measure(
            {id: mean(values) for id, values in shared.items()}, "with the true ending", seed
        ),
        nearest_in_training=_measure(
            of_model.per_prompt("nearest_rouge_2"), "with the nearest training document", seed
        ),
        nearest_of_true_endings=_measure(
            of_true, "true endings with the nearest training document", seed
        ),
        among_endings={n: m for n, m in metrics.items() if n.startswith("self_rouge_2")},
        memorised=of_model,
    )


def _measure(per_prompt: Mapping[str, float], meaning: str, seed: int) -> Measure:
    values = list(per_prompt.values())
    interval = interval_of(values, seed, meaning)
    return Measure(mean(values), interval, "F1", f"Rouge-2 {meaning}", per_prompt)
