"""The rows that a training learns from and is measured on, and what they depend on.

What is decided here from the data (packing, what is kept aside) is told to the user.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinyllm.chat_template import DEFAULT_TEMPLATE
from tinyllm.checkpoint import checkpoint_fingerprint
from tinyllm.config.model import ModelConfig
from tinyllm.config.train import TrainConfig
from tinyllm.config.train_sections import MICRO_BATCH_SIZE
from tinyllm.data.corpus import Format, resolve_format
from tinyllm.data.loader import Batch, Loader
from tinyllm.data.loader import Packing as RowLayout
from tinyllm.data.preferences import (
    ChosenAnswers,
    Pairs,
    PairStream,
    Preference,
    hold_out,
    read_preferences,
)
from tinyllm.data.shard_writer import ShardCounts
from tinyllm.data.shards import Shards, build_shards
from tinyllm.data.split import split_shards
from tinyllm.errors import ConfigError, DataError
from tinyllm.model.foreign import ForeignShape
from tinyllm.reporting import Reporter, counted, format_count
from tinyllm.seeding import derive_seed
from tinyllm.training.loop import RowStream
from tinyllm.training.prepare import Beginning

_MOST_TOO_LONG = 0.5
"""Share of conversations that do not fit beyond which the user is warned."""


@dataclass(frozen=True)
class Rows:
    """Rows to train on and rows to measure on."""

    train: Loader | Pairs
    validation: Loader | ChosenAnswers | None
    shards: Shards | None
    """The documents of a text before some were held out."""
    held_out_pairs: Pairs | None = None

    def stream(self, epochs: int | None) -> RowStream:
        """Return all rows of so many epochs; without end when it is None."""
        if isinstance(self.train, Pairs):
            return PairStream(self.train, epochs)
        assert self.shards is not None
        return EpochStream(self.train, epochs, self.shards)

    @property
    def fingerprints(self) -> dict[str, object]:
        """What the rows depend on."""
        found = dict(self.train.identity)
        if self.validation is not None:
            found["validation_shards"] = self.validation.identity["shards"]
        return found


@dataclass(frozen=True)
class EpochStream:
    """Rows of so many epochs, one after another; without end when `epochs` is None."""

    loader: Loader
    epochs: int | None
    whole: Shards
    """The documents before some were held out."""

    @property
    def n_rows(self) -> int | None:
        """Rows in all epochs."""
        return None if self.epochs is None else self.epochs * self.loader.n_rows

    def batch(self, start: int, stop: int) -> Batch:
        """Return rows start..stop."""
        return self.loader.rows(start, stop - start)

    def documents(self, start: int, stop: int) -> list[int]:
        """Return the numbers of the documents in rows start..stop, in the order of the text."""
        chosen = self.loader.shards.starts[self.loader.documents(start, stop - start)]
        return [int(i) - 1 for i in np.searchsorted(self.whole.starts, chosen, side="right")]


def find_rows(config: TrainConfig, beginning: Beginning, reporter: Reporter) -> Rows:
    """Turn the text into rows for training and for validation."""
    context_length = _context_length(config, beginning.model_config)
    data = config.data

    def shards_of(sources: Sequence[str], format: Format = beginning.format) -> Shards:
        return build_shards(
            sources,
            beginning.tokenizer,
            format=format,
            template=beginning.template or DEFAULT_TEMPLATE,
            mask_prompt=data.mask_prompt,
            context_length=context_length,
            text_field=data.text_field,
            reporter=reporter,
        )

    size = config.batch.micro_batch_size

    def loader(shards: Shards, layout: RowLayout, pack: bool, shuffle: bool) -> Loader:
        return Loader(
            shards,
            batch_size=MICRO_BATCH_SIZE if size == "auto" else size,
            context_length=context_length,
            packing=layout,
            pack=pack,
            shuffle=shuffle,
            seed=derive_seed(config.seed, "rows"),
        )

    if config.preference is not None:
        if data.validation is None:
            return _find_pairs(config, beginning, context_length, None, reporter)
        format = resolve_format([data.validation], "auto")
        layout: RowLayout = "contiguous" if format == "text" else "documents"
        held = loader(shards_of([data.validation], format), layout, True, False)
        return _find_pairs(config, beginning, context_length, held, reporter)
    whole = shards_of(data.train)
    held_out: Shards | None
    if data.validation is not None:
        train, held_out = whole, shards_of([data.validation])
    elif data.validation_fraction > 0:
        train, held_out = split_shards(whole, data.validation_fraction)
    else:
        train, held_out = whole, None
    layout, pack = _layout(config, beginning.format)
    train_rows = loader(train, layout, pack, data.shuffle)
    rows = Rows(
        train_rows,
        None if held_out is None else loader(held_out, layout, pack, False),
        whole,
    )
    n_tokens = format_count(train_rows.n_targets)
    reporter.note(f"{n_tokens} tokens to learn: {train_rows.report.summary()}")
    _tell_left_out(whole.counts, context_length, reporter)
    return rows


def _find_pairs(
    config: TrainConfig,
    beginning: Beginning,
    context_length: int,
    text: Loader | None,
    reporter: Reporter,
) -> Rows:
    """Read pairs, and keep a share of their prompts aside; `text` tells of forgetting."""
    found = list(read_preferences(config.data.train, reporter))
    kept, held_out = hold_out(found, config.data.validation_fraction)

    def pairs_of(preferences: Sequence[Preference]) -> Pairs:
        return Pairs(
            preferences,
            beginning.tokenizer,
            beginning.template or DEFAULT_TEMPLATE,
            context_length=context_length,
            seed=derive_seed(config.seed, "rows"),
            shuffle=config.data.shuffle,
        )

    train, aside = pairs_of(kept), pairs_of(held_out)
    if not len(train):
        raise DataError(
            f"none of {counted(len(found), 'pair')} can be learnt from: answers are equal, or too "
            f"long for {context_length} tokens",
            "See batch.context_length.",
        )
    counts, (chosen_tokens, rejected_tokens) = train.counts, train.mean_lengths
    reporter.note(
        f"{counted(counts.kept, 'pair')} to learn from, {len(aside):,} kept aside; "
        f"{chosen_tokens:.0f} tokens on average are preferred to {rejected_tokens:.0f}"
        + (f"; {counts.equal:,} with equal answers left out" if counts.equal else "")
        + (f"; {counts.too_long:,} that do not fit the context" if counts.too_long else "")
    )
    size = MICRO_BATCH_SIZE
    chosen = ChosenAnswers(aside, size) if len(aside) else None
    return Rows(train, text or chosen, None, aside if len(aside) else None)


def _tell_left_out(counts: ShardCounts, context_length: int, reporter: Reporter) -> None:
    """Say what of the text is not in the rows, and why."""
    told = {
        "without text or answer": counts.n_empty,
        f"with a prompt longer than {context_length} tokens": counts.n_no_room,
        "cut inside an answer that is too long": counts.n_cut,
    }
    parts = [f"{n:,} {what}" for what, n in told.items() if n]
    if counts.n_dropped_turns:
        parts.append(f"{counts.n_dropped_turns:,} later exchanges that no longer fit")
    if parts:
        reporter.note("left out or shortened: " + "; ".join(parts))
    n_all = counts.n_documents + counts.n_no_room
    share = (counts.n_no_room + counts.n_cut) / max(1, n_all)
    if share > _MOST_TOO_LONG:
        reporter.warn(
            f"{share:.0%} of {counted(n_all, 'conversation')} are too long for a context of "
            f"{context_length} tokens, and teach half an answer or nothing: use a model with a "
            "larger model.context_length, or shorter conversations"
        )


def validation_batches(config: TrainConfig, loader: Loader | ChosenAnswers) -> Iterator[Batch]:
    """Yield the rows that are always measured: the first ones, up to `evaluation.max_tokens`."""
    left = config.evaluation.max_tokens
    for batch in loader.batches():
        yield batch
        if left is not None:
            left -= batch.n_targets
            if left <= 0:
                return


def fingerprints(config: TrainConfig, beginning: Beginning, rows: Rows) -> dict[str, Any]:
    """Return what a resume must find equal beside the config."""
    started_from = beginning.base_path
    named = "init_from" if beginning.foreign is None else "base"
    merged = None if config.lora is None else config.lora.merge_first
    return {
        **rows.fingerprints,
        "tokenizer": beginning.tokenizer.fingerprint,
        named: checkpoint_fingerprint(started_from) if started_from is not None else None,
        "merge_first": checkpoint_fingerprint(merged) if merged is not None else None,
        "effective_batch": config.batch.rows_per_step,
    }


def _context_length(config: TrainConfig, model_config: ModelConfig | ForeignShape) -> int:
    asked = config.batch.context_length
    if asked is not None and asked > model_config.context_length:
        raise ConfigError(
            f"batch.context_length {asked} is longer than the model's context of "
            f"{model_config.context_length} tokens",
            "Lower it, or leave it out to use the whole context.",
        )
    return asked or model_config.context_length


def _layout(config: TrainConfig, format: Format) -> tuple[RowLayout, bool]:
    packing = config.data.packing
    if packing == "auto":
        packing = "contiguous" if format == "text" else "documents"
    if packing == "contiguous":
        return "contiguous", True
    return "documents", packing == "documents"
