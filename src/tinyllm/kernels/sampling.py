"""The native sampler: `sampling.cpp` over numpy arrays.

Its reference and twin is `generation/sampling.py`. Texts in the making are rows of one table:

    ids              (N, S) int64    the prompt, then what was drawn
    lengths          (N,) int64      tokens held
    prompt_lengths   (N,) int64      those of them that were given
    limits           (N,) int64      the length at which a text is full, at most S
    seeds            (N,) uint64     of each row's own stream of numbers
"""

import ctypes
from collections.abc import Sequence
from ctypes import c_double, c_int, c_int64, c_void_p
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinyllm.config.generation import Sampling
from tinyllm.kernels.build import load_library


class Outcome(IntEnum):
    """What native code found."""

    DONE = 0
    NOT_FINITE = 1
    ALL_BANNED = 2
    NO_MEMORY = 3


class Texts(NamedTuple):
    """The table of texts, as drawn above."""

    ids: NDArray[np.int64]
    lengths: NDArray[np.int64]
    prompt_lengths: NDArray[np.int64]
    limits: NDArray[np.int64]
    seeds: NDArray[np.uint64]


_REALS = (
    "temperature",
    "top_p",
    "min_p",
    "repetition_penalty",
    "frequency_penalty",
    "presence_penalty",
)
_WHOLES = ("top_k", "no_repeat_ngram", "repeat_last_n", "penalize_prompt", "min_new_tokens")


class _Rules(ctypes.Structure):
    _fields_ = [
        *[(name, c_double) for name in _REALS],
        *[(name, c_int64) for name in _WHOLES],
        ("vocab_size", c_int64),
        ("never", c_void_p),
        ("n_never", c_int64),
        ("ends", c_void_p),
        ("n_ends", c_int64),
        ("biased", c_void_p),
        ("biases", c_void_p),
        ("n_biased", c_int64),
    ]


class _Texts(ctypes.Structure):
    _fields_ = [
        ("ids", c_void_p),
        ("capacity", c_int64),
        *[(name, c_void_p) for name in ("lengths", "prompt_lengths", "limits", "seeds")],
    ]


class _Writer(ctypes.Structure):
    _fields_ = [("rules", c_void_p), ("texts", c_void_p), ("row", c_int64), ("outcome", c_int64)]


class Writers:
    """Rows of a table that native code writes on by itself, token by token."""

    def __init__(self, library: ctypes.CDLL, rules: _Rules, texts: Texts, rows: Any) -> None:
        """Use `NativeSampler.writers`."""
        self._rules, self._texts = rules, _address(texts)  # kept alive for the pointers to them
        self._writers = (_Writer * len(rows))(
            *[
                _Writer(ctypes.addressof(rules), ctypes.addressof(self._texts), row, 0)
                for row in rows.tolist()
            ]
        )
        self.function: int = _address_of(library.tinyllm_write)
        """Address of int64_t choose(float *logits, int64_t vocab_size, void *state)."""
        base, size = ctypes.addressof(self._writers), ctypes.sizeof(_Writer)
        self.states: list[int] = [base + size * i for i in range(len(rows))]
        """Addresses of what it is called with, one a row."""

    @property
    def outcome(self) -> Outcome:
        """What native code found in any of the rows."""
        return Outcome(max((writer.outcome for writer in self._writers), default=0))

    @property
    def outcomes(self) -> list[Outcome]:
        """What native code found in each of the rows."""
        return [Outcome(writer.outcome) for writer in self._writers]


class NativeSampler:
    """One set of rules, ready to choose tokens."""

    def __init__(
        self,
        library: ctypes.CDLL,
        sampling: Sampling,
        *,
        vocab_size: int,
        end_ids: Sequence[int],
        never: NDArray[np.int64],
    ) -> None:
        """Use `load`."""
        self._library = library
        # Kept alive for the pointers to them.
        self._never = np.ascontiguousarray(never, np.int64)
        self._ends = np.array(end_ids, np.int64)
        self._biased = np.array(list(sampling.logit_bias), np.int64)
        self._biases = np.array(list(sampling.logit_bias.values()), np.float32)
        self._vocab_size = vocab_size
        self._rules = _Rules(
            vocab_size=vocab_size,
            never=self._never.ctypes.data,
            n_never=len(self._never),
            ends=self._ends.ctypes.data,
            n_ends=len(self._ends),
            biased=self._biased.ctypes.data,
            biases=self._biases.ctypes.data,
            n_biased=len(self._biased),
            **{name: getattr(sampling, name) for name in _REALS + _WHOLES},
        )
        self._n_threads = default_threads(library)

    @classmethod
    def load(
        cls,
        sampling: Sampling,
        *,
        vocab_size: int,
        end_ids: Sequence[int],
        never: NDArray[np.int64],
    ) -> "NativeSampler | None":
        """Make a sampler; None without native code.

        `end_ids` are the tokens that end a text, `never` those that are not drawn.
        """
        library = load_library("sampling")
        if library is None:
            return None
        library.tinyllm_sample.argtypes = [c_void_p] * 3 + [c_int64] + [c_void_p] * 2 + [c_int64]
        library.tinyllm_sample.restype = c_int
        return cls(library, sampling, vocab_size=vocab_size, end_ids=end_ids, never=never)

    def choose(
        self, logits: NDArray[np.float32], texts: Texts, rows: NDArray[np.int64]
    ) -> tuple[Outcome, NDArray[np.int64]]:
        """Choose a token (B,) for some rows from their logits (B, V), which are used up."""
        self._require(logits, rows)
        chosen = np.empty(len(rows), np.int64)
        table = _address(texts)
        outcome = self._library.tinyllm_sample(
            ctypes.byref(self._rules),
            ctypes.byref(table),
            rows.ctypes.data,
            len(rows),
            logits.ctypes.data,
            chosen.ctypes.data,
            self._n_threads,
        )
        return Outcome(outcome), chosen

    def writers(self, texts: Texts, rows: NDArray[np.int64]) -> Writers:
        """Return what lets native code choose these rows' tokens and add them to `texts`."""
        return Writers(self._library, self._rules, texts, rows)

    def _require(self, logits: NDArray[np.float32], rows: NDArray[np.int64]) -> None:
        wanted = (len(rows), self._vocab_size)
        is_plain = logits.flags.c_contiguous and logits.flags.writeable
        if logits.shape != wanted or logits.dtype != np.float32 or not is_plain:
            raise ValueError(
                f"wanted contiguous float32 logits {wanted}, found {logits.dtype} {logits.shape}"
            )
        if rows.dtype != np.int64 or not rows.flags.c_contiguous:
            raise ValueError(f"wanted contiguous int64 rows, found {rows.dtype}")


def _address(texts: Texts) -> Any:
    return _Texts(
        ids=texts.ids.ctypes.data,
        capacity=texts.ids.shape[1],
        lengths=texts.lengths.ctypes.data,
        prompt_lengths=texts.prompt_lengths.ctypes.data,
        limits=texts.limits.ctypes.data,
        seeds=texts.seeds.ctypes.data,
    )


def _address_of(function: Any) -> int:
    return ctypes.cast(function, c_void_p).value or 0


def default_threads(library: ctypes.CDLL) -> int:
    """Return how many threads OpenMP would take: the processor's, or OMP_NUM_THREADS."""
    library.tinyllm_default_threads.restype = c_int64
    return int(library.tinyllm_default_threads())
