"""Every knob of `tinyllm tokenize`, and the description of a tokenizer that training shares."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tinyllm.config.base import ConfigPath, DataSource, OneOrMany, Strict


class TokenizerSpec(Strict):
    """Which tokenizer: one to be trained from the data, or an existing file."""

    kind: Literal["bpe", "char"] = "bpe"
    """`bpe` for byte-level subwords that can hold any text, `char` for one id per character."""

    vocab_size: int | None = Field(default=None, ge=3, le=1_000_000)
    """Number of ids, the end-of-text token included; left out, 4096 for bpe (fewer where the text
    is small) and every character for char."""

    path: ConfigPath | None = None
    """An existing tokenizer.json to use instead of training one."""

    @model_validator(mode="after")
    def _trained_or_given(self) -> Self:
        named = [k for k, d in (("kind", "bpe"), ("vocab_size", None)) if getattr(self, k) != d]
        if self.path is not None and named:  # a resolved config names the defaults too
            raise ValueError(
                f"`path` names a finished tokenizer, so {' and '.join(named)} cannot be set"
            )
        if self.kind == "bpe" and self.vocab_size is not None and self.vocab_size < 257:
            raise ValueError(
                f"vocab_size {self.vocab_size} is too small for bpe: it needs 257 at least, "
                "256 bytes and the end-of-text token"
            )
        return self


class TokenizeConfig(Strict):
    """Train a tokenizer on a text and turn the text into token shards."""

    data: Annotated[
        tuple[DataSource, ...],
        Field(strict=False, min_length=1),
        OneOrMany,
    ]
    """Text or conversations: a file, folder, glob or `hf:owner/name`, or a list of them."""

    format: Literal["auto", "text", "conversations"] = "auto"
    """Running text or instruction data; `auto` looks at the first rows."""

    text_field: str | None = None
    """The column or key that holds the text, where a table has several; found by itself if left
    out."""

    tokenizer: TokenizerSpec = TokenizerSpec()
    """The tokenizer to train or to use."""

    output: ConfigPath | None = None
    """Where the tokenizer is written; `NAME.tokenizer.json` beside the text when left out."""

    mask_prompt: bool = True
    """Mark only the assistant's words and the end token as learnt (conversations only)."""

    context_length: int | None = Field(default=None, ge=2)
    """Drop turns from conversations that are longer than this many tokens; none when left out."""

    cache: ConfigPath | None = None
    """Folder for the token shards; `.tinyllm-cache` beside the text when left out."""

    def for_conversations(self) -> list[str]:
        """Name the settings that only conversations can honour."""
        asked = {"context_length": self.context_length is not None}
        asked["mask_prompt"] = not self.mask_prompt
        return [name for name, is_asked in asked.items() if is_asked]

    @model_validator(mode="after")
    def _fields_fit_the_format(self) -> Self:
        if self.format == "text" and self.for_conversations():
            named = " and ".join(self.for_conversations())
            raise ValueError(f"{named} needs conversations, not text")
        if self.format == "conversations" and self.text_field is not None:
            raise ValueError("`text_field` needs running text, not conversations")
        return self
