"""Speed of the data path, each part in turn with the plain thing that does the same work.

tokenizing   shards from a text on disk    beside   the library's own batch call, text in memory
mixing       two sources into one          beside   `cat` of the same files
loading      batches of a training         beside   nothing: against the step, see `bench train`
"""

import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import tokenizers

from tinyllm.bench.made_up import write_stories
from tinyllm.bench.timing import in_turn, median_ratio, median_seconds
from tinyllm.config.base import validate
from tinyllm.config.bench import BenchDataConfig
from tinyllm.config.data import MixConfig
from tinyllm.config.layers import Layer
from tinyllm.data import mix
from tinyllm.data.corpus import Corpus
from tinyllm.data.loader import Loader
from tinyllm.data.shards import Shards, build_shards
from tinyllm.files import require_file
from tinyllm.reporting import Reporter, SilentReporter
from tinyllm.tokenizer import Tokenizer, train_bpe

_SAMPLE_DOCUMENTS = 20_000
_LIBRARY_CALL_BYTES = 2_000_000
_BATCHES = 500
_MEGABYTE = 1e6


@dataclass(frozen=True)
class DataSpeed:
    """Medians; every ratio is the median of ratios taken round by round, above 1 where we win."""

    megabytes: float
    vocab_size: int
    tokenize_mb_per_second: float
    """From a text on disk to token shards on disk."""
    library_mb_per_second: float
    """`encode_batch_fast` of the tokenizers library, from and to memory."""
    tokenize_ratio: float
    mix_mb_per_second: float
    cat_mb_per_second: float | None
    """None where there is no `cat`."""
    mix_ratio: float | None
    batch_seconds: float
    """One batch of the loader."""
    loader_tokens_per_second: float

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


def run(config: BenchDataConfig, reporter: Reporter) -> DataSpeed:
    """Measure the three parts. Raises DataError for a text that cannot be used."""
    if config.text is not None:
        require_file(config.text, "text")
    with tempfile.TemporaryDirectory(prefix="tinyllm-bench-") as name:
        folder = Path(name)
        text = config.text
        if text is None:
            text = folder / "stories.txt"
            write_stories(text, int(config.megabytes * _MEGABYTE))
        with reporter.stage("train a tokenizer"):
            documents = list(_documents(text))
            tokenizer = train_bpe(
                documents[:_SAMPLE_DOCUMENTS],
                config.vocab_size,
                SilentReporter(),
                may_be_fewer=True,
            )
        n_bytes = sum(len(document.encode()) for document in documents)
        with reporter.stage("tokenize"):
            ours, library = _tokenizing(text, documents, tokenizer, folder, config.rounds)
        with reporter.stage("mix"):
            mixing, copying = _mixing(text, folder, config.rounds)
        with reporter.stage("load"):
            shards = _shards(text, tokenizer, folder / "cache")
            batch_seconds = _loading(shards, config)
    n_mixed = 2 * n_bytes
    return DataSpeed(
        megabytes=n_bytes / _MEGABYTE,
        vocab_size=tokenizer.vocab_size,
        tokenize_mb_per_second=n_bytes / _MEGABYTE / median(ours),
        library_mb_per_second=n_bytes / _MEGABYTE / median(library),
        tokenize_ratio=median_ratio(library, ours),
        mix_mb_per_second=n_mixed / _MEGABYTE / median(mixing),
        cat_mb_per_second=n_mixed / _MEGABYTE / median(copying) if copying else None,
        mix_ratio=median_ratio(copying, mixing) if copying else None,
        batch_seconds=batch_seconds,
        loader_tokens_per_second=config.rows_per_step * config.context_length / batch_seconds,
    )


def _documents(text: Path) -> list[str]:
    corpus = Corpus([str(text)], "text")
    return ["".join(parts) for parts in corpus.texts(SilentReporter())]


def _shards(text: Path, tokenizer: Tokenizer, cache: Path) -> Shards:
    return build_shards(
        [str(text)], tokenizer, format="text", reporter=SilentReporter(), cache=cache
    )


def _tokenizing(
    text: Path, documents: list[str], tokenizer: Tokenizer, folder: Path, rounds: int
) -> tuple[list[float], list[float]]:
    """Return the seconds of ours and of the library, round by round."""
    inner = tokenizers.Tokenizer.from_str(tokenizer.to_json())
    calls = _calls(documents)
    fresh = folder / "fresh"

    def ours() -> None:
        _shards(text, Tokenizer.from_json(tokenizer.to_json()), fresh)
        shutil.rmtree(fresh)

    def library() -> None:
        for call in calls:
            inner.encode_batch_fast(call, add_special_tokens=False)

    seconds = in_turn({"ours": ours, "library": library}, rounds)
    return seconds["ours"], seconds["library"]


def _calls(documents: list[str]) -> list[list[str]]:
    """Group documents into calls that keep all cores busy and memory flat."""
    calls: list[list[str]] = [[]]
    n_chars = 0
    for document in documents:
        if n_chars >= _LIBRARY_CALL_BYTES:
            calls.append([])
            n_chars = 0
        calls[-1].append(document)
        n_chars += len(document)
    return calls


def _mixing(text: Path, folder: Path, rounds: int) -> tuple[list[float], list[float]]:
    """Return the seconds of mixing a text with its copy, and of `cat` of both."""
    names = (f"copy{text.suffix}", "mixed.txt", "joined.txt")
    copy, mixed, joined = (folder / name for name in names)
    shutil.copyfile(text, copy)
    settings = {"sources": [f"{text}:1", f"{copy}:1"], "output": str(mixed)}
    config = validate(MixConfig, [Layer(settings, "the bench")])
    works: dict[str, Callable[[], object]] = {"mix": lambda: mix.run(config, SilentReporter())}
    if (cat := shutil.which("cat")) is not None:

        def concatenate() -> None:
            with joined.open("wb") as file:
                subprocess.run([cat, text, copy], stdout=file, check=True)

        works["cat"] = concatenate
    seconds = in_turn(works, rounds)
    return seconds["mix"], seconds.get("cat", [])


def _loading(shards: Shards, config: BenchDataConfig) -> float:
    """Return the mean seconds of a batch; a loader that reads ahead has quick and slow ones."""
    loader = Loader(shards, batch_size=config.rows_per_step, context_length=config.context_length)

    def read_on() -> None:
        for number in range(_BATCHES):
            loader.rows(number * config.rows_per_step, config.rows_per_step)

    return median_seconds(read_on, config.rounds) / _BATCHES
