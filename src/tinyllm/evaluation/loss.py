"""How well a model predicts a text: nats per token, perplexity, bits per byte.

Every token of a document is scored once, its end token included, given as much of what stands
before it as the context holds; of a conversation, the answers and their end tokens. Bits per byte
divide by the UTF-8 bytes of the scored text itself, so models with different tokenizers can be
compared. Their interval resamples documents: tokens of one document are not independent. A document
begins after the end token of another one, as in pretraining on a stream; a model that was trained
on whole documents has never seen that, so its first token is left out.

predictions.jsonl   {"id", "nats", "n_tokens", "n_bytes"} of each document; nats are a loss
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tinyllm.chat_template import DEFAULT_TEMPLATE, render
from tinyllm.checkpoint import LoadedModel
from tinyllm.config.evaluation import EvalLossConfig
from tinyllm.data.sources import read_conversations, read_documents, sniff_format
from tinyllm.errors import DataError
from tinyllm.evaluation.report import (
    data_head,
    markdown_table,
    report_folder,
    report_head,
    write_report,
)
from tinyllm.evaluation.statistics import Interval, cluster_bootstrap_interval
from tinyllm.generation.loglikelihood import IGNORE, Row, score_rows, windows
from tinyllm.records import Conversation, Document
from tinyllm.reporting import Reporter
from tinyllm.tokenizer import Tokenizer

_DOCUMENTS_AT_A_TIME = 256
_SEED = 0


@dataclass(frozen=True, slots=True)
class DocumentLoss:
    """What one document cost: nats in all, over what was scored of it."""

    id: str
    nats: float
    n_tokens: int
    n_bytes: int


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
    interval_95: Interval | None
    """Of the bits per byte; None for a single document."""


@dataclass(frozen=True, slots=True)
class Report:
    """The figures, as they were written into the folder where one was asked for."""

    results: dict[str, object]
    loss: Loss
    folder: Path | None


@dataclass(frozen=True, slots=True)
class _Scored:
    """A document as rows, with the bytes that its targets stand for."""

    id: str
    rows: list[Row]
    n_bytes: int
    n_unknown: int


def run(loaded: LoadedModel, config: EvalLossConfig, reporter: Reporter) -> Report:
    """Measure, and write the report where `output` asks for one. Raises DataError."""
    folder = config.output and report_folder(config.output, loaded.info.path, "loss")
    loss, documents = measure_documents(loaded, config, reporter)
    results = {
        **report_head(loaded, "loss"),
        "data": data_head(config.data),
        "overlap": config.overlap,
        "max_documents": config.max_documents,
        **asdict(loss),
    }
    if folder is not None:
        predictions = [asdict(document) for document in documents]
        write_report(folder, results, as_markdown(results, loss), predictions)
    return Report(results, loss, folder)


def measure(loaded: LoadedModel, config: EvalLossConfig, reporter: Reporter) -> Loss:
    """Score a text or conversations. Raises DataError for data without a token to score."""
    return measure_documents(loaded, config, reporter)[0]


def measure_documents(
    loaded: LoadedModel, config: EvalLossConfig, reporter: Reporter
) -> tuple[Loss, list[DocumentLoss]]:
    """Score a text or conversations, and tell what each document cost.

    Of the text, a few hundred documents at a time are in memory. Raises DataError for data without
    a token to score.
    """
    costs: list[DocumentLoss] = []
    form = sniff_format(config.data) if config.format == "auto" else config.format
    pieces = (
        _from_conversations(loaded, config, reporter)
        if form == "conversations"
        else _from_documents(loaded, config, reporter)
    )
    n_windows, n_unknown = 0, 0
    with reporter.progress("scoring", config.max_documents, "documents") as progress:
        while chunk := list(itertools.islice(pieces, _DOCUMENTS_AT_A_TIME)):
            costs += _score(loaded, chunk, config.batch_size)
            n_windows += sum(len(piece.rows) for piece in chunk)
            n_unknown += sum(piece.n_unknown for piece in chunk)
            progress.advance(len(chunk))
    n_tokens, n_bytes = sum(d.n_tokens for d in costs), sum(d.n_bytes for d in costs)
    if not n_tokens or not n_bytes:
        raise DataError(f"{config.data} holds nothing to score")
    nats = math.fsum(d.nats for d in costs)
    interval = cluster_bootstrap_interval([[v] for v in bits_per_byte_values(costs)], seed=_SEED)
    loss = Loss(
        format=form,
        n_documents=len(costs),
        n_tokens=n_tokens,
        n_bytes=n_bytes,
        n_windows=n_windows,
        unknown_share=n_unknown / n_tokens,
        nats_per_token=nats / n_tokens,
        perplexity=math.exp(min(nats / n_tokens, 700.0)),
        bits_per_byte=nats / math.log(2) / n_bytes,
        interval_95=interval if len(costs) > 1 else None,
    )
    return loss, costs


def _score(
    loaded: LoadedModel, chunk: Sequence[_Scored], batch_size: int
) -> Iterator[DocumentLoss]:
    rows = [row for piece in chunk for row in piece.rows]
    scores = iter(score_rows(loaded.model, rows, batch_size=batch_size))
    for piece in chunk:
        own = list(itertools.islice(scores, len(piece.rows)))
        nats, n_tokens = -math.fsum(s.nats for s in own), sum(s.n_tokens for s in own)
        yield DocumentLoss(piece.id, nats, n_tokens, piece.n_bytes)


def bits_per_byte_values(documents: Sequence[DocumentLoss]) -> list[float]:
    """Return a value for each document whose plain mean is the bits per byte of all together.

    A ratio of sums is no mean over documents. Its linearised values (Cochran 1977, section 6.3)
    are: they scatter as much as the ratio does when other documents are drawn, and two models can
    be compared by them document by document.
    """
    n_bytes = sum(d.n_bytes for d in documents)
    ratio = math.fsum(d.nats for d in documents) / math.log(2) / n_bytes
    scale = len(documents) / n_bytes
    return [ratio + (d.nats / math.log(2) - ratio * d.n_bytes) * scale for d in documents]


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
    return _Scored(document.id, rows, n_bytes, _count_unknown(ids, tokenizer))


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
    return _Scored(conversation.id, rows, n_bytes, _count_unknown(scored, tokenizer))


def _count_unknown(ids: list[int], tokenizer: Tokenizer) -> int:
    return 0 if tokenizer.unknown_id is None else ids.count(tokenizer.unknown_id)


def was_trained_on_whole_documents(training: Mapping[str, Any]) -> bool:
    """Read from a checkpoint's training record whether rows began where documents begin."""
    config = training.get("config", {})
    data = config.get("data", {}) if isinstance(config, Mapping) else {}
    return isinstance(data, Mapping) and data.get("packing") in ("documents", "single")


def as_markdown(results: Mapping[str, Any], loss: Loss) -> str:
    """Write the report for people."""
    figures = [
        ("bits per byte", f"{loss.bits_per_byte:.4f}"),
        ("its 95 % interval", format_interval(loss)),
        ("nats per token", f"{loss.nats_per_token:.4f}"),
        ("perplexity", f"{loss.perplexity:.2f}"),
        ("documents", f"{loss.n_documents:,}"),
        ("tokens scored", f"{loss.n_tokens:,}"),
        ("bytes", f"{loss.n_bytes:,}"),
    ]
    source = results["data"]["source"]
    lines = ["# Loss", "", f"Checkpoint `{results['checkpoint']}` on `{source}`.", ""]
    return "\n".join([*lines, *markdown_table(("figure", "value"), figures), ""])


def format_interval(loss: Loss) -> str:
    """Write the interval of the bits per byte; a question mark where there is none."""
    return "?" if loss.interval_95 is None else "–".join(f"{end:.4f}" for end in loss.interval_95)
