"""How well a model predicts a text: nats per token, perplexity, bits per byte.

Every token of a document is scored once, its end token included, given as much of what stands
before it as the context holds; of a conversation, the answers and their end tokens. Bits per byte
divide by the UTF-8 bytes of the scored text itself, so models with different tokenizers can be
compared. A document begins after the end token of another one, as in pretraining on a stream; a
model that was trained on whole documents has never seen that, so its first token is left out.
"""

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tinyllm.chat_template import DEFAULT_TEMPLATE, render
from tinyllm.checkpoint import LoadedModel
from tinyllm.config.evaluation import EvalLossConfig
from tinyllm.data.sources import read_conversations, read_documents, sniff_format
from tinyllm.errors import DataError
from tinyllm.evaluation.report import markdown_table
from tinyllm.generation.loglikelihood import IGNORE, Row, score_rows, windows
from tinyllm.records import Conversation, Document
from tinyllm.reporting import Reporter
from tinyllm.tokenizer import Tokenizer

_DOCUMENTS_AT_A_TIME = 256


@dataclass(frozen=True, slots=True)
class Loss:
    """The figures of one text. `n_tokens` and `n_bytes` count what was scored."""

    format: str
    n_documents: int
    n_tokens: int
    n_bytes: int
    n_windows: int
    unknown_share: float
    nats_per_token: float
    perplexity: float
    bits_per_byte: float


@dataclass(frozen=True, slots=True)
class _Scored:
    """A document as rows, with the bytes that its targets stand for."""

    rows: list[Row]
    n_bytes: int
    n_unknown: int


def measure(loaded: LoadedModel, config: EvalLossConfig, reporter: Reporter) -> Loss:
    """Score a text or conversations. Memory stays flat, whatever the size.

    Raises DataError for data without a token to score.
    """
    form = sniff_format(config.data) if config.format == "auto" else config.format
    pieces = (
        _from_conversations(loaded, config, reporter)
        if form == "conversations"
        else _from_documents(loaded, config, reporter)
    )
    nats, n_documents, n_tokens, n_bytes, n_windows, n_unknown = [], 0, 0, 0, 0, 0
    with reporter.progress("scoring", config.max_documents, "documents") as progress:
        while chunk := list(itertools.islice(pieces, _DOCUMENTS_AT_A_TIME)):
            rows = [row for piece in chunk for row in piece.rows]
            scores = score_rows(loaded.model, rows, batch_size=config.batch_size)
            nats += [score.nats for score in scores]
            n_tokens += sum(score.n_tokens for score in scores)
            n_windows += len(rows)
            n_documents += len(chunk)
            n_bytes += sum(piece.n_bytes for piece in chunk)
            n_unknown += sum(piece.n_unknown for piece in chunk)
            progress.advance(len(chunk))
    if not n_tokens or not n_bytes:
        raise DataError(f"{config.data} holds nothing to score")
    total = -math.fsum(nats)
    return Loss(
        format=form,
        n_documents=n_documents,
        n_tokens=n_tokens,
        n_bytes=n_bytes,
        n_windows=n_windows,
        unknown_share=n_unknown / n_tokens,
        nats_per_token=total / n_tokens,
        perplexity=math.exp(min(total / n_tokens, 700.0)),
        bits_per_byte=total / math.log(2) / n_bytes,
    )


def _from_documents(
    loaded: LoadedModel, config: EvalLossConfig, reporter: Reporter
) -> Iterator[_Scored]:
    begins_in_stream = not was_trained_on_whole_documents(loaded.info.training)
    documents = read_documents(config.data, reporter=reporter)
    for document in itertools.islice(documents, config.max_documents):
        yield _score_document(document, loaded, config.overlap, begins_in_stream)


def _score_document(
    document: Document, loaded: LoadedModel, overlap: float, begins_in_stream: bool
) -> _Scored:
    tokenizer = loaded.tokenizer
    ids = [*tokenizer.encode(document.text), tokenizer.end_of_text_id]
    context, rest = ([tokenizer.begin_id], ids) if begins_in_stream else (ids[:1], ids[1:])
    n_bytes = len(document.text.encode("utf-8", "replace"))
    if not begins_in_stream:
        n_bytes -= len(tokenizer.token_bytes(ids[0]))
    rows = windows(
        context, rest, context_length=loaded.model.config.context_length, overlap=overlap
    )
    return _Scored(rows, n_bytes, _count_unknown(ids, tokenizer))


def _from_conversations(
    loaded: LoadedModel, config: EvalLossConfig, reporter: Reporter
) -> Iterator[_Scored]:
    conversations = read_conversations(config.data, reporter)
    for conversation in itertools.islice(conversations, config.max_documents):
        yield _score_conversation(conversation, loaded, config.overlap)


def _score_conversation(conversation: Conversation, loaded: LoadedModel, overlap: float) -> _Scored:
    tokenizer = loaded.tokenizer
    example = render(conversation, tokenizer, loaded.template or DEFAULT_TEMPLATE)
    context_length = loaded.model.config.context_length
    rows = []
    position = 1  # the place in the conversation of the next target
    for row in windows(
        example.ids[:1], example.ids[1:], context_length=context_length, overlap=overlap
    ):
        targets = list(row.targets)
        for i, target in enumerate(targets):
            if target != IGNORE:
                targets[i] = target if example.loss_mask[position] else IGNORE
                position += 1
        if any(target != IGNORE for target in targets):
            rows.append(Row(row.input_ids, targets))
    answers = [m.content for m in conversation.messages if m.role == "assistant"]
    n_bytes = sum(len(answer.encode("utf-8", "replace")) for answer in answers)
    scored = [i for i, is_scored in zip(example.ids, example.loss_mask, strict=True) if is_scored]
    return _Scored(rows, n_bytes, _count_unknown(scored, tokenizer))


def _count_unknown(ids: list[int], tokenizer: Tokenizer) -> int:
    return 0 if tokenizer.unknown_id is None else ids.count(tokenizer.unknown_id)


def was_trained_on_whole_documents(training: Mapping[str, Any]) -> bool:
    """Read from a checkpoint's training record whether rows began where documents begin."""
    config = training.get("config", {})
    data = config.get("data", {}) if isinstance(config, Mapping) else {}
    return isinstance(data, Mapping) and data.get("packing") in ("documents", "single")


def as_markdown(results: Mapping[str, object], loss: Loss) -> str:
    """Write the report for people."""
    figures = [
        ("bits per byte", f"{loss.bits_per_byte:.4f}"),
        ("nats per token", f"{loss.nats_per_token:.4f}"),
        ("perplexity", f"{loss.perplexity:.2f}"),
        ("documents", f"{loss.n_documents:,}"),
        ("tokens scored", f"{loss.n_tokens:,}"),
        ("bytes", f"{loss.n_bytes:,}"),
    ]
    lines = ["# Loss", "", f"Checkpoint `{results['checkpoint']}` on `{results['data']}`.", ""]
    return "\n".join([*lines, *markdown_table(("figure", "value"), figures), ""])
