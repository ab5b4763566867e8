"""What story i is asked for: a pure function of the seed, i, the prompts and the words.

Nothing is drawn beforehand and nothing is kept: a plan of a million stories costs what a plan of
one does, and any part of it can be made again, in any order.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from tinyllm.config.stories import StoriesConfig
from tinyllm.providers.grammar.vocabulary import Vocabulary, WordTriples
from tinyllm.providers.story_grammar import FEATURES
from tinyllm.seeding import derive_seed, random_for
from tinyllm.stories.templates import Templates, read_templates
from tinyllm.stories.vocabulary import read_vocabulary, vocabulary_sha

PLAN_FORMAT = 1


@dataclass(frozen=True, slots=True)
class StoryPlan:
    """What one story is asked for. `draw` counts how often all but the words was drawn anew."""

    index: int
    draw: int
    words: Mapping[str, str]
    features: tuple[str, ...]
    template: str
    n_paragraphs: int
    extras: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "words": dict(self.words),
            "features": list(self.features),
            "template": self.template,
            "n_paragraphs": self.n_paragraphs,
            "extras": dict(self.extras),
        }


class StoryPlans:
    """All stories of a config. Branches of one beginning share their words."""

    def __init__(self, config: StoriesConfig) -> None:
        """Read the words and prompts. Raises DataError for files that cannot be used."""
        self._config = config.plan
        self._seed = config.seed
        self.vocabulary: Vocabulary = read_vocabulary(config.plan.vocabulary)
        self.templates: Templates = read_templates(config.plan.templates)
        self.branches = config.branches if config.strategy == "branch" else 1
        self._triples = WordTriples(self.vocabulary, config.seed)
        self._template_ids = tuple(self.templates.texts)
        self._shares = {name: float(getattr(config.plan.features, name)) for name in FEATURES}
        self.sha = hashlib.sha256(json.dumps(self.identity(), sort_keys=True).encode()).hexdigest()

    def identity(self) -> dict[str, Any]:
        """Return everything that a plan is a function of, as plain JSON values."""
        extras = {
            name: list(getattr(self._config, name))
            for name in ("themes", "styles", "personas", "openings")
        }
        return {
            "format": PLAN_FORMAT,
            "seed": self._seed,
            "vocabulary_sha256": vocabulary_sha(self.vocabulary),
            "templates_version": self.templates.version,
            "templates_sha256": self.templates.sha,
            "features": self._shares,
            "paragraphs": list(self._config.paragraphs),
            "branches": self.branches,
            **extras,
            "extras_share": self._config.extras_share,
        }

    def __len__(self) -> int:
        """Return how many stories can be asked for before words come together again."""
        return len(self._triples) * self.branches

    def item_id(self, index: int) -> str:
        """Return the id of a story, which no other plan and no other index has."""
        return f"{self.sha[:12]}-{index}"

    def leader(self, index: int) -> int | None:
        """Return the story whose beginning this one shares, if it is another."""
        first = index - index % self.branches
        return None if first == index else first

    def plan(self, index: int, draw: int = 0) -> StoryPlan:
        """Return what a story is asked for."""
        noun, verb, adjective = self._triples.training(index // self.branches)
        random = random_for(self._seed, "story plan", index, draw)
        fewest, most = self._config.paragraphs
        template = random.choice(self._template_ids)
        features = tuple(name for name in FEATURES if random.random() < self._shares[name])
        return StoryPlan(
            index=index,
            draw=draw,
            words={"noun": noun, "verb": verb, "adjective": adjective},
            features=features,
            template=template,
            n_paragraphs=random.randint(fewest, most),
            extras=self._extras(random),
        )

    def _extras(self, random: Random) -> dict[str, str]:
        lists = {
            "theme": self._config.themes,
            "style": self._config.styles,
            "persona": self._config.personas,
            "opening": self._config.openings,
        }
        return {
            name: random.choice(values)
            for name, values in lists.items()
            if values and random.random() < self._config.extras_share
        }

    def prompt(self, plan: StoryPlan, beginning: str | None = None) -> str:
        """Return the text that asks for a story."""
        return self.templates.write(
            plan.template, plan.words, plan.features, plan.extras, plan.n_paragraphs, beginning
        )

    def call_seed(self, index: int, attempt: int) -> int:
        """Return the seed of one attempt."""
        return derive_seed(self._seed, "story call", index, attempt)
