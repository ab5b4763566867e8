"""What the engine needs of a network: rows of tokens that it has read, and what may follow them.

TorchRunner    runner_torch.py    any device; every network
NativeRunner   runner_native.py   the CPU, without PyTorch
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Protocol

from tinyllm.generation.penalties import Logits
from tinyllm.generation.row_samplers import RowSamplers
from tinyllm.generation.sampling import Ids


class Decoding(Protocol):
    """Rows of tokens that a network has read, each of its own length; row i is one text's, or idle.

    A row keeps what it holds until it is truncated or cleared, so that another text with the same
    beginning need not read it again.
    """

    @property
    def lengths(self) -> Ids:
        """How many tokens each row holds, (N,); not to be written on."""

    def grow(self, n_rows: int, max_length: int) -> None:
        """Make sure of so many rows, with room for so many tokens each; new rows are empty."""

    def truncate(self, row: int, length: int) -> None:
        """Forget all but the first `length` tokens of a row."""

    def copy(self, source: int, target: int, length: int) -> None:
        """Make `target` hold the first `length` tokens of `source`, and nothing else."""

    def clear(self, row: int) -> None:
        """Empty a row that may hold numbers that are not finite, and keep them from other texts."""

    def read(self, tokens: Mapping[int, Sequence[int]]) -> None:
        """Append tokens, by row, to what the rows hold."""

    def step(self, rows: Ids, tokens: Ids) -> Logits:
        """Append a token to each of some rows (B,); returns what may follow, (B, V) float32.

        The rows are in rising order; the logits may be written on.
        """

    def draw(self, samplers: RowSamplers, rows: Ids, n_steps: int) -> int:
        """Read the newest token of some texts and draw their next ones: n_steps, or fewer.

        Returns how many steps were done. A row that cannot go on is among the samplers' `errors`.
        """


class Runner(Protocol):
    """A network that texts are drawn from."""

    def parts(self) -> Sequence["Runner"]:
        """Return runners of the same network that share its threads and may run side by side.

        It is this one alone where that would be slower than drawing all texts together.
        """

    def open(self, n_rows: int, max_length: int) -> Decoding:
        """Return empty rows with room for max_length tokens each."""


class StepDecoding(ABC):
    """A decoding of which one step is known; it draws token by token."""

    @abstractmethod
    def step(self, rows: Ids, tokens: Ids) -> Logits:
        """Append a token to each of some rows; see `Decoding`."""

    def draw(self, samplers: RowSamplers, rows: Ids, n_steps: int) -> int:
        """Draw one token of each row, so that it is shown at once; `n_steps` asks for more."""
        samplers.choose(self.step(rows, samplers.texts.newest(rows)), rows)
        return 1
