"""Drawing texts with native code on the CPU: no PyTorch, and no Python between tokens."""

from collections.abc import Mapping, Sequence
from typing import Self

import numpy as np

from tinyllm.checkpoint import LoadedModel, SpeakingModel
from tinyllm.checkpoint.weights import Weight
from tinyllm.generation.penalties import Logits
from tinyllm.generation.runner import Decoding, StepDecoding
from tinyllm.generation.sampler import Sampler, require_done
from tinyllm.generation.sampling import Ids
from tinyllm.generation.texts import TextTable
from tinyllm.kernels.build import is_built, load_library
from tinyllm.kernels.decode import Chooser, NativeDecoder
from tinyllm.kernels.decode_cache import NativeCache
from tinyllm.kernels.decode_memory import Dtype
from tinyllm.kernels.sampling import default_threads
from tinyllm.process import cores

_MOST_THREADS = 64


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

    def begin(
        self, prompts: Sequence[Sequence[int]], sources: Sequence[int], max_length: int
    ) -> tuple[Logits, Decoding]:
        """Read the prompts one after the other; see `Runner`."""
        cache = self.decoder.allocate(len(sources), max_length)
        logits = np.empty((len(sources), self.decoder.config.vocab_size), np.float32)
        first_rows: dict[int, int] = {}
        for row, source in enumerate(sources):
            if source in first_rows:
                cache.copy_row(first_rows[source], row)
                logits[row] = logits[first_rows[source]]
            else:
                first_rows[source] = row
                logits[row] = self.decoder.prefill(cache, row, prompts[source])
        return logits, NativeDecoding(self.decoder, cache)


class NativeDecoding(StepDecoding):
    """Rows of a native cache."""

    def __init__(self, decoder: NativeDecoder, cache: NativeCache) -> None:
        self._decoder, self._cache = decoder, cache

    def step(self, rows: Ids, tokens: Ids) -> Logits:
        """Read a token of each of some rows; see `StepDecoding`."""
        return self._decoder.step(self._cache, rows, tokens)

    def draw(self, sampler: Sampler, texts: TextTable, rows: Ids, n_steps: int) -> None:
        """Draw up to n_steps tokens of each row; see `Decoding`."""
        room = self._cache.max_length - int(self._cache.lengths[rows].max())
        writers = sampler.writers(texts, rows)
        self._decoder.decode(
            self._cache,
            rows,
            texts.newest(rows),
            min(n_steps, room),
            Chooser(writers.function, writers.states),
        )
        require_done(writers.outcome)
