"""The tokenize workflow: a tokenizer trained (or taken) for a text, and the text as token shards.

Training uses `prepare_tokenizer` too, so that both find the same trained tokenizer in the cache.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tinyllm.chat_template import DEFAULT_TEMPLATE, ChatTemplate
from tinyllm.config.tokenize import TokenizeConfig, TokenizerSpec
from tinyllm.data.corpus import Corpus, Format, name_of, resolve_format
from tinyllm.data.fingerprint import cache_folder, digest, folder_beside
from tinyllm.data.hub import is_hub_source
from tinyllm.data.shards import Shards, build_shards
from tinyllm.data.source_files import expand_source
from tinyllm.errors import ConfigError, DataError
from tinyllm.files import write_text
from tinyllm.reporting import Progress, Reporter, SilentReporter
from tinyllm.tokenizer import SAMPLE_BYTES, Kind, Tokenizer, train_bpe, train_characters

DEFAULT_VOCAB_SIZE = 4096
EXAMPLE_PRESETS = ("llama-1m", "llama-8m", "llama-42m")
"""Model presets whose embedding share is shown."""
_TRAINER_VERSION = 1
"""Counted up when the same text and spec come to train another tokenizer."""


@dataclass(frozen=True)
class EmbeddingShare:
    """How much of a model preset's parameters this vocabulary's embedding takes."""

    preset: str
    total_parameters: int
    embedding_parameters: int

    @property
    def share(self) -> float:
        """The embedding's part of all parameters, 0 to 1."""
        return self.embedding_parameters / self.total_parameters


@dataclass(frozen=True)
class TokenizeResult:
    """What `tinyllm tokenize` found and made."""

    tokenizer_path: Path
    kind: Kind
    vocab_size: int
    n_unused_ids: int
    """Ids that never occur in the text, special ones aside."""
    format: Format
    n_documents: int
    n_tokens: int
    bytes_per_token: float
    """UTF-8 bytes that an average token stands for."""
    shards: Path
    n_cut: int
    n_left_out: int
    """Documents that are not in the shards: empty, or too long to hold an answer."""
    embedding_shares: tuple[EmbeddingShare, ...]

    def to_json(self) -> dict[str, object]:
        """Return plain values for JSON."""
        shares = [{**asdict(share), "share": share.share} for share in self.embedding_shares]
        paths = {"tokenizer_path": str(self.tokenizer_path), "shards": str(self.shards)}
        return {**asdict(self), **paths, "embedding_shares": shares}


def run(config: TokenizeConfig, reporter: Reporter) -> TokenizeResult:
    """Make the tokenizer and the shards that a config describes.

    Raises ConfigError for settings that the data cannot honour, DataError for unusable data.
    """
    format = resolve_format(config.data, config.format)
    if format == "text" and config.for_conversations():
        named = " and ".join(config.for_conversations())
        raise ConfigError(f"{config.data[0]} holds running text, so {named} cannot be set")
    if format == "conversations" and config.text_field is not None:
        raise ConfigError(
            f"{config.data[0]} holds conversations, so text_field cannot be set",
            'Set format to "text" to read one column as running text.',
        )
    output = config.output or default_output(config.data[0])
    _require_free(output, config.data)
    tokenizer = prepare_tokenizer(
        config.tokenizer,
        config.data,
        format=format,
        text_field=config.text_field,
        reporter=reporter,
        cache=config.cache,
    )
    write_text(output, tokenizer.to_json() + "\n")
    with reporter.stage("turn the text into token shards"):
        shards = build_shards(
            config.data,
            tokenizer,
            format=format,
            reporter=reporter,
            mask_prompt=config.mask_prompt,
            context_length=config.context_length,
            text_field=config.text_field,
            cache=config.cache,
        )
    return _summarise(output, tokenizer, format, shards)


def _require_free(output: Path, sources: Sequence[str]) -> None:
    """Raise ConfigError when the tokenizer would be written over a text or a folder."""
    if output.is_dir():
        raise ConfigError(f"the output {output} is a folder", "Give the name of a file.")
    files = (
        path for source in sources if not is_hub_source(source) for path in expand_source(source)
    )
    if output.exists() and any(path.samefile(output) for path in files):
        raise ConfigError(f"{output} is both text and output", "Choose another --output.")


def prepare_tokenizer(
    spec: TokenizerSpec,
    sources: Sequence[str],
    *,
    format: Format,
    reporter: Reporter,
    template: ChatTemplate = DEFAULT_TEMPLATE,
    text_field: str | None = None,
    cache: Path | None = None,
) -> Tokenizer:
    """Load the tokenizer a spec names, or train it; a trained one is kept in the cache.

    Raises ConfigError when the text cannot give a vocabulary of the size asked for.
    """
    if spec.path is not None:
        return Tokenizer.from_file(spec.path)
    corpus = Corpus(sources, format, template, text_field)
    cache = cache or cache_folder(sources[0])
    asked = [_TRAINER_VERSION, SAMPLE_BYTES, spec.kind, spec.vocab_size]
    kept = cache / f"tokenizer-{digest([asked, corpus.fingerprint(cache)])[:16]}.json"
    with suppress(DataError):
        return Tokenizer.from_file(kept)
    with reporter.stage(f"train a {spec.kind} tokenizer"):
        tokenizer = _train(spec, corpus, reporter)
    with suppress(DataError):  # a cache that cannot be written must not stop the work
        write_text(kept, tokenizer.to_json())
    return tokenizer


def _train(spec: TokenizerSpec, corpus: Corpus, reporter: Reporter) -> Tokenizer:
    """Train on the whole text, or for BPE on every k-th document of a very large one.

    What is odd in the text is said when the shards are built from it, and here not a second time.
    """
    stride = max(1, -(-corpus.n_bytes // SAMPLE_BYTES)) if spec.kind == "bpe" else 1
    if stride > 1:
        reporter.note(f"the tokenizer is trained on one document in {stride}")
    with reporter.progress("read text", None, "documents") as progress:
        texts = _counted(
            itertools.islice(corpus.texts(SilentReporter()), 0, None, stride), progress
        )
        if spec.kind == "char":
            return train_characters(texts, reporter, spec.vocab_size)
        size = spec.vocab_size or DEFAULT_VOCAB_SIZE
        tokenizer = train_bpe(texts, size, reporter, may_be_fewer=spec.vocab_size is None)
    if tokenizer.vocab_size < size:
        reporter.note(f"this text has no more than {tokenizer.vocab_size:,} tokens worth having")
    return tokenizer


def _counted(texts: Iterable[Sequence[str]], progress: Progress) -> Iterator[str]:
    for parts in texts:
        progress.advance()
        yield from parts


def default_output(source: str) -> Path:
    """Return `NAME.tokenizer.json` beside a text, or here when that place cannot be written."""
    return folder_beside(source) / f"{name_of(source)}.tokenizer.json"


def _summarise(
    output: Path, tokenizer: Tokenizer, format: Format, shards: Shards
) -> TokenizeResult:
    occurrences = count_ids(shards, tokenizer.vocab_size)
    lengths = np.array(tokenizer.byte_lengths)
    return TokenizeResult(
        tokenizer_path=output,
        kind=tokenizer.kind,
        vocab_size=tokenizer.vocab_size,
        n_unused_ids=int(((occurrences == 0) & (lengths > 0)).sum()),
        format=format,
        n_documents=shards.n_documents,
        n_tokens=shards.n_tokens,
        bytes_per_token=float(occurrences @ lengths) / shards.n_tokens,
        shards=shards.folder,
        n_cut=shards.counts.n_cut,
        n_left_out=shards.counts.n_empty + shards.counts.n_no_room,
        embedding_shares=tuple(_share(name, tokenizer.vocab_size) for name in EXAMPLE_PRESETS),
    )


def count_ids(shards: Shards, vocab_size: int) -> NDArray[np.int64]:
    """Count how often each id occurs in whole shards, (V,).

    Read block by block instead of through the map, which would fill memory with the file.
    """
    occurrences = np.zeros(vocab_size, np.int64)
    with open(shards.folder / "ids.bin", "rb") as file:
        while len(block := np.fromfile(file, shards.ids.dtype, 1 << 20)):
            occurrences += np.bincount(block, minlength=vocab_size)
    return occurrences


def _share(preset: str, vocab_size: int) -> EmbeddingShare:
    from tinyllm.config.model import ModelSpec
    from tinyllm.model.presets import resolve_model
    from tinyllm.model.sizing import count_parameters

    counts = count_parameters(resolve_model(ModelSpec(preset=preset), vocab_size))
    return EmbeddingShare(preset, counts.total, counts.embedding)
