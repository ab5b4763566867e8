"""Drawing texts with native code on the CPU: no PyTorch, and no Python between tokens."""

from collections.abc import Mapping, Sequence
from typing import Self

from tinyllm.checkpoint import LoadedModel, SpeakingModel
from tinyllm.checkpoint.weights import Weight
from tinyllm.generation.penalties import Logits
from tinyllm.generation.row_samplers import RowSamplers
from tinyllm.generation.runner import Decoding, Runner, StepDecoding
from tinyllm.generation.sampling import Ids
from tinyllm.kernels.build import is_built, load_library
from tinyllm.kernels.decode import NativeDecoder
from tinyllm.kernels.decode_cache import NativeCache
from tinyllm.kernels.decode_memory import Dtype
from tinyllm.kernels.sampling import default_threads
from tinyllm.process import cores

_MOST_THREADS = 64
_MOST_PARTS = 2
"""Of more, those would wait for Python whose tokens are drawn."""
_STEPS_BESIDE_ODDS = 4
"""Longest block while another row is drawn step by step, which gets one token a block."""


def must_compile() -> bool:
    """Tell whether the first use of native code will take the time to compile it."""
    return any(is_built(name) is False for name in ("sampling", "decode"))


class NativeRunner:
    """A network's weights packed for this processor."""

    def __init__(self, decoder: NativeDecoder) -> None:
        """Run a decoder that has been loaded."""
        self.decoder = decoder

    @property
    def dtype(self) -> Dtype:
        """The form of the weights."""
        return self.decoder.dtype

    @classmethod
    def load(cls, loaded: SpeakingModel, dtype: Dtype = "float32") -> Self | None:
        """Pack the weights of a model in `dtype`, as they are now; None without native code.

        Matrices are packed, the rest shares memory with the model: load again after training it.
        """
        library = load_library("sampling")
        if library is None:
            return None
        if isinstance(loaded, LoadedModel):
            config = loaded.model.config
            weights: Mapping[str, Weight] = {
                name: weight.detach().float().cpu().numpy()
                for name, weight in loaded.model.state_dict().items()
            }
        else:
            config, weights = loaded.info.config, loaded.weights
        n_threads = min(default_threads(library), cores(), _MOST_THREADS)
        decoder = NativeDecoder.load(config, weights, dtype=dtype, n_threads=n_threads)
        return None if decoder is None else cls(decoder)

    def parts(self) -> Sequence[Runner]:
        """Return two runners where threads do not work together anyway; see `Runner`."""
        n_threads = self.decoder.n_threads // _MOST_PARTS
        if n_threads == 0 or not self.decoder.is_drawn_in_groups:
            return [self]
        return [NativeRunner(self.decoder.sharing(n_threads)) for _ in range(_MOST_PARTS)]

    def open(self, n_rows: int, max_length: int) -> Decoding:
        """Return empty rows; see `Runner`."""
        return NativeDecoding(self.decoder, self.decoder.allocate(n_rows, max_length))


class NativeDecoding(StepDecoding):
    """Rows of a native cache; what they say does not depend on their neighbours, to the bit."""

    def __init__(self, decoder: NativeDecoder, cache: NativeCache) -> None:
        self._decoder, self._cache = decoder, cache

    @property
    def lengths(self) -> Ids:
        """How many tokens each row holds; see `Decoding`."""
        return self._cache.lengths

    def grow(self, n_rows: int, max_length: int) -> None:
        """Add empty rows, or room to all of them; see `Decoding`."""
        self._cache.grow(n_rows, max_length)

    def truncate(self, row: int, length: int) -> None:
        """Forget all but the first tokens of a row; see `Decoding`."""
        self._cache.truncate(row, length)

    def copy(self, source: int, target: int, length: int) -> None:
        """Copy the beginning of a row; see `Decoding`."""
        self._cache.copy_row(source, target, length)

    def clear(self, row: int) -> None:
        """Empty a row; native attention keeps out what lies behind a row's end, even NaN."""
        self._cache.truncate(row, 0)

    def read(self, tokens: Mapping[int, Sequence[int]]) -> None:
        """Append tokens to rows; see `Decoding`."""
        self._decoder.read(self._cache, tokens)

    def step(self, rows: Ids, tokens: Ids) -> Logits:
        """Append a token to each of some rows; see `Decoding`."""
        return self._decoder.step(self._cache, rows, tokens)

    def draw(self, samplers: RowSamplers, rows: Ids, n_steps: int) -> int:
        """Draw up to n_steps tokens of each row without Python; see `Decoding`."""
        needs_steps = samplers.need_steps(rows)
        if needs_steps.any():
            super().draw(samplers, rows[needs_steps], 1)
            rows, n_steps = rows[~needs_steps], min(n_steps, _STEPS_BESIDE_ODDS)
        if not len(rows):
            return 1
        n_steps = min(n_steps, self._cache.max_length - int(self.lengths[rows].max()))
        writers = samplers.writers(rows)
        newest = samplers.texts.newest(rows)
        self._decoder.decode(self._cache, rows, newest, n_steps, writers.chooser)
        writers.report()
        return n_steps
