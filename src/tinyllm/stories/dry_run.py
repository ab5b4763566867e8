"""What a run would ask and cost, without asking: no network, no files."""

from dataclasses import dataclass
from typing import Any

from tinyllm.config.stories import StoriesConfig
from tinyllm.providers.pipeline.looking import SAMPLED, Projection, project
from tinyllm.records import Message
from tinyllm.stories.plan import StoryPlans

_TOKENS_PER_PARAGRAPH = 65


@dataclass(frozen=True)
class DryRun:
    """Some prompts, and estimates for all of them."""

    asked: Projection
    n_stories: int
    n_plans: int

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; money as strings."""
        return {**self.asked.to_json(), "n_stories": self.n_stories, "n_plans": self.n_plans}

    def as_text(self) -> str:
        """Say it for people."""
        stories = f"stories          {self.n_stories:,} of {self.n_plans:,} plans"
        return "\n".join([*self.asked.prompts_as_text(), stories, *self.asked.as_lines()])


def dry_run(config: StoriesConfig) -> DryRun:
    """Look at the first plans and project. Raises DataError for words or prompts."""
    plans = StoryPlans(config)
    sampled = [plans.plan(index) for index in range(min(SAMPLED, config.n_stories))]
    per_answer = _TOKENS_PER_PARAGRAPH * sum(p.n_paragraphs for p in sampled) / len(sampled)
    asked = project(
        config.provider,
        [(plans.item_id(p.index), (Message("user", plans.prompt(p)),)) for p in sampled],
        config.n_stories,
        likely_tokens=per_answer,
        max_tokens=config.sampling.max_tokens,
    )
    return DryRun(asked, config.n_stories, len(plans))
