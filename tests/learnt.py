"""Small models that have learnt a few answers by heart, so that a test knows what they say."""

from collections.abc import Mapping
from pathlib import Path

import torch

from tests.tiny import tiny_model, tiny_tokenizer
from tinyllm.chat_template import DEFAULT_TEMPLATE, render
from tinyllm.checkpoint import save_checkpoint
from tinyllm.records import Conversation, Message

_IGNORE = -100


def write_learnt_checkpoint(
    path: Path, answers: Mapping[str, str], *, context_length: int = 256
) -> Path:
    """Save a chat model that gives each first message its answer at temperature 0."""
    tokenizer = tiny_tokenizer()
    model = tiny_model(tokenizer, context_length=context_length)
    conversations = [
        Conversation("", (Message("user", asked), Message("assistant", answer)))
        for asked, answer in answers.items()
    ]
    examples = [render(conversation, tokenizer) for conversation in conversations]
    length = max(len(example.ids) for example in examples)
    ids = torch.zeros(len(examples), length, dtype=torch.int64)
    targets = torch.full((len(examples), length - 1), _IGNORE)
    for row, example in enumerate(examples):
        ids[row, : len(example.ids)] = torch.tensor(example.ids)
        for place, (token_id, counts) in enumerate(
            zip(example.ids[1:], example.loss_mask[1:], strict=True)
        ):
            targets[row, place] = token_id if counts else _IGNORE
    model.init_weights(torch.Generator().manual_seed(0))
    _learn(model.train(), ids[:, :-1], targets)
    save_checkpoint(
        path,
        model.eval(),
        tokenizer,
        template=DEFAULT_TEMPLATE,
        training={},
        generation={"temperature": 0.0},
    )
    return path


def _learn(model: torch.nn.Module, ids: torch.Tensor, targets: torch.Tensor) -> None:
    """Fit until every target is all but certain."""
    n_targets = int((targets != _IGNORE).sum())
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(400):
        loss = model(ids, targets=targets) / n_targets
        if loss.item() < 0.02:
            return
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    raise AssertionError(f"the answers were not learnt: {loss.item():.2f} nats a token")
