"""What a run would ask and cost, without asking: no network, no files."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from tinyllm.config.stories import StoriesConfig
from tinyllm.providers.base import Usage, estimate_tokens
from tinyllm.providers.pipeline.budget import Purse, Spent
from tinyllm.providers.pipeline.figures import format_cost
from tinyllm.stories.plan import StoryPlans

_SAMPLED = 200
_TOKENS_PER_PARAGRAPH = 65
_MESSAGE_TOKENS = 4


@dataclass(frozen=True)
class DryRun:
    """Some prompts, and estimates for all of them."""

    prompts: tuple[tuple[str, str], ...]
    """Id and text of the first ones."""
    n_stories: int
    n_plans: int
    prompt_tokens: int
    likely_tokens: int
    most_tokens: int
    likely_cost: Decimal
    most_cost: Decimal

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; money as strings."""
        prompts = [{"id": item_id, "prompt": prompt} for item_id, prompt in self.prompts]
        return {
            "prompts": prompts,
            "n_stories": self.n_stories,
            "n_plans": self.n_plans,
            "prompt_tokens": self.prompt_tokens,
            "likely_tokens": self.likely_tokens,
            "most_tokens": self.most_tokens,
            "likely_cost": str(self.likely_cost),
            "most_cost": str(self.most_cost),
        }

    def as_text(self) -> str:
        """Say it for people."""
        likely, most = format_cost(self.likely_cost), format_cost(self.most_cost)
        lines = [f"--- {item_id}\n{prompt}\n" for item_id, prompt in self.prompts]
        lines += [
            f"stories          {self.n_stories:,} of {self.n_plans:,} plans",
            f"prompt tokens    about {self.prompt_tokens:,}",
            f"answer tokens    about {self.likely_tokens:,}, {self.most_tokens:,} at most",
            f"cost             about {likely}, {most} at most, retries aside",
        ]
        return "\n".join(lines)


def dry_run(config: StoriesConfig, n_prompts: int = 3) -> DryRun:
    """Look at the first plans and project. Raises DataError for words or prompts."""
    plans = StoryPlans(config)
    n_sampled = min(_SAMPLED, config.n_stories)
    sampled = [plans.plan(index) for index in range(n_sampled)]
    per_prompt = sum(
        estimate_tokens(plans.prompt(plan)) + _MESSAGE_TOKENS for plan in sampled
    ) / len(sampled)
    per_answer = _TOKENS_PER_PARAGRAPH * sum(p.n_paragraphs for p in sampled) / len(sampled)
    n = config.n_stories
    prompt_tokens = round(n * per_prompt)
    likely = round(n * min(per_answer, config.sampling.max_tokens))
    most = n * config.sampling.max_tokens
    purse = Purse(config.provider.budget, config.provider.price, Spent())
    return DryRun(
        prompts=tuple(
            (plans.item_id(plan.index), plans.prompt(plan)) for plan in sampled[:n_prompts]
        ),
        n_stories=n,
        n_plans=len(plans),
        prompt_tokens=prompt_tokens,
        likely_tokens=likely,
        most_tokens=most,
        likely_cost=purse.cost(Usage(prompt_tokens, likely)),
        most_cost=purse.cost(Usage(prompt_tokens, most)),
    )
