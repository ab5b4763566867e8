"""What the engine needs of a network: prompts in, then tokens drawn, row by row.

TorchRunner    runner_torch.py    any device; every network
NativeRunner   runner_native.py   the CPU, without PyTorch
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Protocol

from tinyllm.generation.penalties import Logits
from tinyllm.generation.sampler import Sampler
from tinyllm.generation.sampling import Ids
from tinyllm.generation.texts import TextTable


class Decoding(Protocol):
    """Texts that are being drawn; row i of the table is row i here, to the end."""

    def draw(self, sampler: Sampler, texts: TextTable, rows: Ids, n_steps: int) -> None:
        """Read the newest token of some rows and draw their next ones: n_steps, or fewer."""


class Runner(Protocol):
    """A network that texts are drawn from."""

    def begin(
        self, prompts: Sequence[Sequence[int]], sources: Sequence[int], max_length: int
    ) -> tuple[Logits, Decoding]:
        """Read each prompt once. Text i goes on from prompts[sources[i]].

        Returns the logits (B, V) float32 that follow each text's prompt, to be used up, and the
        decoding of the B texts, of at most max_length tokens each.
        """


class StepDecoding(ABC):
    """A decoding of which one step is known; it draws token by token."""

    @abstractmethod
    def step(self, rows: Ids, tokens: Ids) -> Logits:
        """Read a token of each of some rows (B,); returns what may follow, (B, V) float32."""

    def draw(self, sampler: Sampler, texts: TextTable, rows: Ids, n_steps: int) -> None:
        """Draw one token of each row, so that it is shown at once; `n_steps` asks for more."""
        logits = self.step(rows, texts.newest(rows))
        texts.append(rows, sampler.choose(logits, texts, rows))
