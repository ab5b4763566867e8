"""How far an exported model is from its checkpoint, measured on what the checkpoint itself says.

The checkpoint greedily continues a few prompts, and both models read prompts and continuations.
Where at each place of a continuation both find the same token likeliest, both write the same
greedy text.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tinyllm.config.generation import Sampling
from tinyllm.generation.engine import Engine
from tinyllm.generation.prompting import prompt_ids

if TYPE_CHECKING:
    from tinyllm.checkpoint import StoredModel

Reader = Callable[[list[int]], Tensor]
"""Logits (T, V) float32 of ids (T,)."""

PROMPTS = (
    "Once upon a time there was a little fox",
    "The sun was shining and",
    'Tom said, "What is that?"',
)
_NEW_TOKENS = 48


@dataclass(frozen=True)
class Parity:
    """What the comparison found; logits and odds are those of the continuations' places."""

    by: str
    """The program that read the export."""
    n_tokens: int
    max_logit_difference: float
    mean_kl_nats: float
    """Mean divergence of the export's odds from the checkpoint's, in nats per token."""
    same_choices: float
    """Share of places where both find the same token likeliest."""

    @property
    def same_text(self) -> bool:
        """Whether both write the same greedy texts."""
        return self.same_choices == 1.0

    def __str__(self) -> str:
        text = "the same greedy text" if self.same_text else "another greedy text"
        return (
            f"logits differ by {self.max_logit_difference:.1e} at most, odds by "
            f"{self.mean_kl_nats:.1e} nats per token, {100 * self.same_choices:.1f} % of "
            f"{self.n_tokens} choices are the same: {text} (read by {self.by})"
        )


def sample_texts(
    stored: "StoredModel", context_length: int | None = None
) -> list[tuple[list[int], int]]:
    """Let the checkpoint continue the prompts; return ids and how many of them are the prompt."""
    engine = Engine(stored)
    room = min(context_length or engine.context_length, engine.context_length)
    prompts = [prompt_ids(stored, prompt)[: room // 2] for prompt in PROMPTS]
    texts = []
    for prompt in prompts:
        sampling = Sampling(temperature=0, max_new_tokens=min(_NEW_TOKENS, room - len(prompt) - 1))
        answer = engine.complete([prompt], sampling)[0]
        texts.append(([*prompt, *answer.ids], len(prompt)))
    return texts


@torch.inference_mode()
def compare(
    stored: "StoredModel", theirs: Reader, by: str, context_length: int | None = None
) -> Parity:
    """Compare a checkpoint with another reader of the same ids, of at most context_length."""
    model = stored.to_torch().model
    ours, others = [], []
    for ids, n_prompt in sample_texts(stored, context_length):
        ours.append(model(torch.tensor([ids]))[0, n_prompt - 1 : -1])
        others.append(theirs(ids)[n_prompt - 1 : -1])
    return measured(ours, others, by)


def measured(ours: Sequence[Tensor], theirs: Sequence[Tensor], by: str) -> Parity:
    """Compare logits (T, V) of the same places, text by text."""
    wanted, found = torch.cat(list(ours)), torch.cat(list(theirs))  # (T, V)
    odds = wanted.log_softmax(-1)
    kl = (odds.exp() * (odds - found.log_softmax(-1))).sum(-1)
    return Parity(
        by=by,
        n_tokens=len(wanted),
        max_logit_difference=float((wanted - found).abs().max()),
        mean_kl_nats=max(0.0, float(kl.mean())),
        same_choices=float((wanted.argmax(-1) == found.argmax(-1)).float().mean()),
    )
