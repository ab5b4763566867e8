"""Decoding in native code: a network's weights in memory, a cache, prefill and steps.

    NativeDecoder.load(config, weights, dtype="int8", n_threads=2)    None without a compiler
        .allocate(n_rows, max_length) -> NativeCache                  rows of tokens already read
        .read(cache, {row: ids})                                      many rows at once
        .prefill(cache, row, ids)     -> logits (V,) after the last
        .step(cache, rows, tokens)    -> logits (B, V), one token for each named row
        .decode(cache, rows, tokens, n_steps, chooser) -> tokens (B, n_steps), no Python between

Both families of `model/transformer.py`, under its parameter names; numpy only. What float32,
bfloat16 and int8 do to the weights is drawn in `packing.h`, the cache in `cached_attention.h`.
Activations between products are float32; each product rounds them to the weights' format: int8 by
a scale per 64 columns, like the weights. Accuracy is tested in tests/kernels/test_decode.py.
"""

from collections.abc import Mapping, Sequence
from copy import copy
from threading import Lock
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from tinyllm.config.model import ModelConfig
from tinyllm.errors import MissingPartError
from tinyllm.kernels.build import why_unavailable
from tinyllm.kernels.decode_cache import Floats, Ids, NativeCache
from tinyllm.kernels.decode_memory import (
    Address,
    Batch,
    Dtype,
    aligned_bytes,
    decode_library,
    knows,
)
from tinyllm.kernels.packed_weights import PackedWeights

_PREFILL_TOKENS = 256
"""Tokens that a long prompt is read by at once: enough to hide the weights' way from memory."""
_BYTES_PER_THREAD = 3_000_000
"""Weights that a thread must find to read before it is worth meeting it after every product: two
threads gain little below, and on a busy machine each meeting may wait for the scheduler."""
_BRIEF_READING = 1_000_000_000
"""Tokens times bytes of weights: a prompt that one thread reads in less, a few milliseconds, is not
worth a meeting either. A server reads prompts while its clients want the processor."""
_TOKENS_PER_READ = 4
"""Tokens at once that make a weight cost about twice its reading."""


class KernelsUnavailable(MissingPartError):
    """Native code that cannot be built here; `load` answers None instead."""


class Chooser(NamedTuple):
    """A native function `int64 choose(float *logits, int64 vocab_size, void *state)` and states.

    It picks the next token of a row, and may change the logits; a negative number ends the row.
    states holds an address per row. Whoever makes a Chooser keeps what they point to alive.
    """

    function: int
    states: Sequence[int]


class NativeDecoder:
    """A network's weights, packed for this processor, and the calls that read and write tokens.

    Calls may come from several threads; one runs at a time, but for those of `sharing` decoders.
    """

    def __init__(
        self,
        config: ModelConfig,
        weights: Mapping[str, NDArray[np.float32]],
        *,
        dtype: Dtype,
        n_threads: int,
    ) -> None:
        """Pack float32 weights of `model/transformer.py`'s names and shapes.

        Calls use up to n_threads threads, fewer where so many would have little to do.

        The embedding table is kept as it is given, without a copy where it is contiguous float32.
        Raises KernelsUnavailable without a compiler, KeyError and ValueError for weights that are
        missing or of another shape.
        """
        library = decode_library()
        if library is None:
            raise KernelsUnavailable(f"no native code: {why_unavailable()}")
        if not 1 <= n_threads <= library.most_threads:
            raise ValueError(f"n_threads {n_threads} must be 1 to {library.most_threads}")
        self.config, self.dtype, self.n_threads = config, dtype, n_threads
        self._library = library
        self._weights = PackedWeights(library, config, weights, dtype, n_threads)
        self._make_workplace()

    def _make_workplace(self) -> None:
        self._scratch = aligned_bytes(0)
        self._scratch_for = (0, 0, 0)
        self._logits = np.empty((0, self.config.vocab_size), np.float32)
        self._crowd = np.zeros(1, np.int64)  # `Crowd` of team.h
        self._lock = Lock()

    def sharing(self, n_threads: int) -> Self:
        """Return a decoder with the same weights whose calls may run beside this one's."""
        other = copy(self)
        other.n_threads = n_threads
        other._make_workplace()
        return other

    @classmethod
    def load(
        cls,
        config: ModelConfig,
        weights: Mapping[str, NDArray[np.float32]],
        *,
        dtype: Dtype,
        n_threads: int,
    ) -> Self | None:
        """Return a decoder, or None where native code cannot be built or knows no such network."""
        if not knows(config):
            return None
        try:
            return cls(config, weights, dtype=dtype, n_threads=n_threads)
        except KernelsUnavailable:
            return None

    @property
    def nbytes_weights(self) -> int:
        """Bytes of the packed matrices, head included: what a step reads once."""
        return self._weights.nbytes

    @property
    def is_drawn_in_groups(self) -> bool:
        """Whether many rows are drawn in groups by one thread each, which never meet."""
        return self.nbytes_weights <= self._library.grouped_bytes

    @property
    def likeliest(self) -> int:
        """Address of a native choose function that takes the likeliest token; it needs no state."""
        return self._library.choose_likeliest

    def allocate(self, n_rows: int, max_length: int) -> NativeCache:
        """Return a cache of empty rows; raises ValueError beyond the context length."""
        return NativeCache(self.config, n_rows, max_length, self._library.lanes)

    def prefill(self, cache: NativeCache, row: int, ids: Sequence[int] | Ids) -> Floats:
        """Append ids to a row; return the logits (V,) after the last of them."""
        tokens = np.atleast_1d(np.asarray(ids, np.int64))
        if not len(tokens):
            raise ValueError("prefill needs at least one token")
        logits = np.empty((1, self.config.vocab_size), np.float32)
        self._append(cache, {row: tokens}, logits)
        last: Floats = logits[0]
        return last

    def read(self, cache: NativeCache, texts: Mapping[int, Sequence[int] | Ids]) -> None:
        """Append ids to each of some rows, and leave it at that."""
        self._append(cache, texts, np.empty((0, self.config.vocab_size), np.float32))

    def _append(
        self, cache: NativeCache, texts: Mapping[int, Sequence[int] | Ids], logits: Floats
    ) -> None:
        """Append ids to rows; logits (0 or 1, V) are those after the last id of all."""
        if not texts:
            return
        pieces = [np.asarray(ids, np.int64) for ids in texts.values()]
        counts = np.array([len(piece) for piece in pieces], np.int64)
        tokens, named = self._checked(np.concatenate(pieces)), np.fromiter(texts, np.int64)
        for row, count in zip(named, counts, strict=True):
            cache.require_room(row[None], int(count))
        rows = named.repeat(counts)
        within = np.arange(len(tokens)) - (counts.cumsum() - counts).repeat(counts)
        positions = cache.lengths[rows] + within
        for first in range(0, len(tokens), _PREFILL_TOKENS):
            part = slice(first, min(first + _PREFILL_TOKENS, len(tokens)))
            is_last = part.stop == len(tokens)
            outputs = np.full(len(logits) if is_last else 0, part.stop - first - 1, np.int64)
            self._forward(cache, tokens[part], rows[part], positions[part], outputs, logits)
        cache.lengths[named] += counts

    def step(self, cache: NativeCache, rows: Ids, tokens: Ids) -> Floats:
        """Append one token to each of the named rows; return logits (B, V)."""
        rows, tokens = (
            np.ascontiguousarray(rows, np.int64),
            self._checked(np.asarray(tokens, np.int64)),
        )
        self._require_distinct(rows, tokens)
        cache.require_room(rows, 1)
        logits = np.empty((len(rows), self.config.vocab_size), np.float32)
        if len(rows):
            outputs = np.arange(len(rows))
            self._forward(cache, tokens, rows, cache.lengths[rows], outputs, logits)
            cache.lengths[rows] += 1
        return logits

    def decode(
        self, cache: NativeCache, rows: Ids, tokens: Ids, n_steps: int, chooser: Chooser
    ) -> Ids:
        """Append tokens, choose the next ones, append those, …; return the choices (B, n_steps).

        The n_steps-th choice is returned and not appended. A row for which a negative number was
        chosen has ended: it is -1 from there on, and its cache holds what was appended until then.
        """
        rows, tokens = np.array(rows, np.int64), self._checked(np.array(tokens, np.int64))
        self._require_distinct(rows, tokens)
        cache.require_room(rows, n_steps)
        if len(chooser.states) != len(rows):
            raise ValueError(f"{len(chooser.states)} states for {len(rows)} rows")
        chosen = np.empty((len(rows), n_steps), np.int64)
        if not chosen.size:
            return chosen
        places, outputs, fed = np.empty_like(rows), np.arange(len(rows)), rows.copy()
        positions = cache.lengths[rows]
        states = (Address * len(rows))(*chooser.states)
        with self._lock:
            if len(self._logits) < len(rows):
                self._logits = np.empty((len(rows), self.config.vocab_size), np.float32)
            batch = Batch.of(tokens, fed, positions, outputs, self._logits)
            n_threads = self._threads(len(rows))
            scratch = self._room(len(rows), cache, n_threads)
            self._library.generate(
                self._weights.model,
                cache.native,
                batch,
                scratch,
                n_threads,
                cache.max_length,
                self._crowd.ctypes.data,
                n_steps,
                chooser.function,
                states,
                chosen.ctypes.data,
                places.ctypes.data,
            )
        is_ended = chosen < 0
        n_fed = np.where(is_ended.any(1), is_ended.argmax(1) + 1, n_steps)
        cache.lengths[rows] += n_fed
        return chosen

    def _forward(
        self,
        cache: NativeCache,
        tokens: Ids,
        rows: Ids,
        positions: Ids,
        outputs: Ids,
        logits: Floats,
    ) -> None:
        batch = Batch.of(tokens, rows, positions, outputs, logits)
        is_brief = self.nbytes_weights * len(tokens) < _BRIEF_READING and not len(outputs)
        n_threads = 1 if is_brief else self._threads(len(tokens))
        with self._lock:
            scratch = self._room(len(tokens), cache, n_threads)
            self._library.forward(
                self._weights.model,
                cache.native,
                batch,
                scratch,
                n_threads,
                cache.max_length,
                self._crowd.ctypes.data,
            )

    def _threads(self, n_tokens: int) -> int:
        """Return how many threads n_tokens at once are worth, at most n_threads."""
        work = self.nbytes_weights * max(1, n_tokens // _TOKENS_PER_READ)
        return max(1, min(self.n_threads, work // _BYTES_PER_THREAD))

    def _room(self, n_tokens: int, cache: NativeCache, n_threads: int) -> int:
        """Return the address of scratch memory for n_tokens at once, kept between calls."""
        wanted = (n_tokens, cache.max_length, n_threads)
        if wanted != self._scratch_for:
            n_bytes = self._library.scratch_bytes(
                self._weights.model, n_tokens, n_threads, cache.max_length
            )
            if n_bytes > len(self._scratch):
                self._scratch = aligned_bytes(n_bytes)
            self._scratch_for = wanted
        return self._scratch.ctypes.data

    def _checked(self, tokens: Ids) -> Ids:
        if len(tokens) and not (tokens.min() >= 0 and tokens.max() < self.config.vocab_size):
            raise ValueError(f"token ids must be 0 to {self.config.vocab_size - 1}, found {tokens}")
        return np.ascontiguousarray(tokens)

    def _require_distinct(self, rows: Ids, tokens: Ids) -> None:
        if rows.shape != tokens.shape or rows.ndim != 1:
            raise ValueError(f"rows {rows.shape} and tokens {tokens.shape} must be one (B,)")
        if len(rows) > 1 and len(np.unique(rows)) < len(rows):
            raise ValueError(f"each row may be named once, found {rows}")
