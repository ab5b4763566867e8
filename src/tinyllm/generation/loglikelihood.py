"""How likely a model finds given tokens: rows of targets, batched by length.

A row is a window of at most the context's length. Positions whose target is IGNORE are context
only. Rows are padded on the right, which a causal model cannot see, so the batch size changes
no result.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from tinyllm.errors import CheckpointError
from tinyllm.model.transformer import Transformer
from tinyllm.tokenizer import Tokenizer

IGNORE = -100
_LARGEST_LOGITS = 1 << 24
"""Logits held at a time; 64 MiB in float32."""


@dataclass(frozen=True, slots=True)
class Row:
    """Input tokens and, position by position, the token that should follow (or IGNORE)."""

    input_ids: Sequence[int]
    targets: Sequence[int]


@dataclass(frozen=True, slots=True)
class RowScore:
    """The log-likelihood of a row's targets in nats, and whether each was the likeliest token."""

    nats: float
    n_tokens: int
    is_greedy: bool


@dataclass(frozen=True, slots=True)
class LogLikelihood:
    """log P(continuation | context) in nats.

    `n_truncated` counts the context tokens that did not fit and were left out on the left.
    """

    nats: float
    n_tokens: int
    is_greedy: bool
    n_truncated: int


@torch.inference_mode()
def score_rows(
    model: Transformer,
    rows: Sequence[Row],
    *,
    batch_size: int = 32,
    advance: Callable[[int], None] | None = None,
) -> list[RowScore]:
    """Score rows, in the order given; `advance` is told how many are done.

    Raises CheckpointError for logits that are not finite.
    """
    order = sorted(range(len(rows)), key=lambda i: -len(rows[i].input_ids))
    scores: dict[int, RowScore] = {}
    for begin in range(0, len(order), batch_size):
        chunk = order[begin : begin + batch_size]
        scores.update(zip(chunk, _score_batch(model, [rows[i] for i in chunk]), strict=True))
        if advance is not None:
            advance(len(chunk))
    return [scores[i] for i in range(len(rows))]


def loglikelihood(
    model: Transformer,
    requests: Sequence[tuple[Sequence[int], Sequence[int]]],
    *,
    begin_id: int,
    batch_size: int = 32,
    advance: Callable[[int], None] | None = None,
) -> list[LogLikelihood]:
    """Score each continuation after its context, both as token ids.

    An empty context stands for the beginning of a document: `begin_id`. What exceeds the context
    is cut from the left of the context, never from the continuation; a continuation longer than
    that is scored in windows. Equal requests are scored once. `advance` is told of rows done.
    """
    unique: dict[tuple[tuple[int, ...], tuple[int, ...]], list[int]] = {}
    keys = [(tuple(context) or (begin_id,), tuple(rest)) for context, rest in requests]
    rows: list[Row] = []
    for key in keys:
        if key not in unique:
            new = windows(*key, context_length=model.config.context_length)
            unique[key] = list(range(len(rows), len(rows) + len(new)))
            rows += new
    scores = score_rows(model, rows, batch_size=batch_size, advance=advance)
    results = []
    for key in keys:
        parts = [scores[i] for i in unique[key]]
        n_used = rows[unique[key][0]].targets.count(IGNORE) + 1 if parts else len(key[0])
        results.append(
            LogLikelihood(
                nats=sum(part.nats for part in parts),
                n_tokens=len(key[1]),
                is_greedy=all(part.is_greedy for part in parts),
                n_truncated=len(key[0]) - n_used,
            )
        )
    return results


def encode_pair(
    tokenizer: Tokenizer, context: str, continuation: str
) -> tuple[list[int], list[int], bool]:
    """Tokenise a context and its continuation together, and cut after the context's tokens.

    Spaces at the end of the context go to the continuation, as in lm-evaluation-harness's
    `_encode_pair`. Returns the two, and whether the context's own tokens are not the beginning
    of the whole's, so that the cut falls inside a word.
    """
    stripped = context.rstrip()
    whole = tokenizer.encode(context + continuation)
    ids = tokenizer.encode(stripped)
    return ids, whole[len(ids) :], whole[: len(ids)] != ids


def windows(
    context: Sequence[int],
    continuation: Sequence[int],
    *,
    context_length: int,
    overlap: float = 0.0,
) -> list[Row]:
    """Cut (context, continuation) into rows that score every continuation token exactly once.

    One row where the continuation fits, with as much of the context as there is room for.
    Otherwise several, each beginning with tokens that only serve as context: the `overlap` share
    of the context length, at least one token, and in the last row whatever fits. The context must
    not be empty.
    """
    if not context:
        raise ValueError("the context must hold at least one token")
    ids = [*context, *continuation]
    rows: list[Row] = []
    scored = len(context)  # ids[:scored] are context or already scored
    while scored < len(ids):
        to_spare = context_length + 1 - (len(ids) - scored)  # a window's last id is a target only
        first = max(0, scored - max(1, int(context_length * overlap), to_spare))
        end = min(len(ids), first + context_length + 1)
        targets = [IGNORE] * (scored - first - 1) + ids[scored:end]
        rows.append(Row(ids[first : end - 1], targets))
        scored = end
    return rows


def _score_batch(model: Transformer, rows: Sequence[Row]) -> list[RowScore]:
    device = next(model.parameters()).device
    longest = max(len(row.input_ids) for row in rows)
    input_ids = torch.zeros((len(rows), longest), dtype=torch.int64)
    targets = torch.full((len(rows), longest), IGNORE, dtype=torch.int64)
    for i, row in enumerate(rows):
        input_ids[i, : len(row.input_ids)] = torch.tensor(row.input_ids)
        targets[i, : len(row.targets)] = torch.tensor(row.targets)
    hidden = model.hidden_states(input_ids.to(device))  # (B, T, D)
    scored = targets != IGNORE  # (B, T)
    nats, greedy = _score_positions(model, hidden[scored.to(device)], targets[scored].to(device))
    if not bool(torch.isfinite(nats).all()):
        raise CheckpointError(
            "the model's output is not a number (NaN or infinity)",
            "Its training has probably diverged; use an earlier checkpoint.",
        )
    counts = scored.sum(dim=1).tolist()
    return [
        RowScore(float(part.double().sum()), count, bool(hits.all()))
        for part, hits, count in zip(
            torch.split(nats, counts), torch.split(greedy, counts), counts, strict=True
        )
    ]


def _score_positions(model: Transformer, hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return log-probability and hit per position; hidden is (N, D), targets (N,)."""
    step = max(1, _LARGEST_LOGITS // model.config.vocab_size)
    nats, greedy = [], []
    for begin in range(0, len(targets), step):
        logits = model.head(hidden[begin : begin + step]).float()  # (N, V)
        wanted = targets[begin : begin + step]
        nats.append(-functional.cross_entropy(logits, wanted, reduction="none").cpu())
        greedy.append((logits.argmax(dim=-1) == wanted).cpu())
    if not nats:
        return torch.zeros(0), torch.zeros(0, dtype=torch.bool)
    return torch.cat(nats), torch.cat(greedy)
