"""Python's way in: `tinyllm.load("chat.safetensors").generate("Once upon a time")`.

A `Model` is a checkpoint that is ready to speak. Settings that are not given are those stored with
the checkpoint, and then those of `Sampling`; their names are the same as on the command line.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from tinyllm.checkpoint import CheckpointInfo, find_checkpoint
from tinyllm.config.base import validate
from tinyllm.config.generation import Device, Sampling, SpokenDtype
from tinyllm.config.layers import Layer
from tinyllm.errors import UsageError
from tinyllm.generation.chat_session import ChatSession
from tinyllm.generation.engine import Completion, Engine
from tinyllm.generation.opening import open_engine
from tinyllm.generation.prompting import prompt_ids, settings
from tinyllm.reporting import SilentReporter
from tinyllm.tokenizer import Tokenizer

if TYPE_CHECKING:
    from tinyllm.generation.loglikelihood import LogLikelihood


def load(
    checkpoint: str | Path | None = None, *, device: Device = "auto", dtype: SpokenDtype = "auto"
) -> "Model":
    """Load a checkpoint by file, folder or name; without one (None), the newest that is found.

    It is sought in the current folder and in those where training and quickstart leave theirs.
    `device` is auto, cpu, cuda or mps; `dtype`, the form of the weights, is auto, float32, bfloat16
    or int8. Raises CheckpointError when there is none or it is broken.
    """
    if dtype not in get_args(SpokenDtype):
        known = ", ".join(get_args(SpokenDtype))
        raise UsageError(f"dtype must be one of {known}, found {dtype!r}")
    found = find_checkpoint(None if checkpoint is None else str(checkpoint))
    return Model(open_engine(found.path, SilentReporter(), device=device, dtype=dtype))


class Model:
    """A loaded checkpoint that completes, answers, chats and judges how likely a text is."""

    def __init__(self, engine: Engine) -> None:
        self._loaded = engine.loaded
        self._engine = engine

    @property
    def info(self) -> CheckpointInfo:
        """Where the checkpoint lies, its shape and how it was trained."""
        return self._loaded.info

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer that the checkpoint carries."""
        return self._loaded.tokenizer

    @property
    def is_chat_tuned(self) -> bool:
        """Whether prompts go through a chat template."""
        return self._loaded.template is not None

    def generate(
        self, prompt: str, *, raw: bool = False, system: str | None = None, **sampling: Any
    ) -> str:
        """Return the continuation of a prompt, or a chat-tuned model's answer to it.

        `sampling` takes the fields of `Sampling`, as in temperature=0.5, max_new_tokens=100.
        Raises ConfigError for a value out of range, UsageError for a prompt that is too long.
        """
        if "n" in sampling:
            raise UsageError("`generate` returns one text", "`complete` takes n.")
        [completion] = self.complete([prompt], raw=raw, system=system, **sampling)
        return completion.text

    def stream(
        self, prompt: str, *, raw: bool = False, system: str | None = None, **sampling: Any
    ) -> Iterator[str]:
        """Yield the text of `generate` piece by piece, never half a character."""
        ids = self._ids(prompt, raw, system)
        for step in self._engine.generate([ids], self._settings(sampling, raw)):
            if step.text:
                yield step.text

    def complete(
        self,
        prompts: Sequence[str],
        *,
        n: int = 1,
        raw: bool = False,
        system: str | None = None,
        **sampling: Any,
    ) -> list[Completion]:
        """Return n completions per prompt, prompt by prompt, drawn in one batch.

        Raises ConfigError for a value out of range, UsageError for what is no list of texts, for
        an n below 1 and for a prompt that is too long.
        """
        if isinstance(prompts, str):
            raise UsageError("prompts is one text, and a list was expected", "Write [prompt].")
        if isinstance(n, bool) or not isinstance(n, int) or n < 1:
            raise UsageError(f"n must be a whole number of at least 1, found {n!r}")
        ids = [self._ids(prompt, raw, system) for prompt in prompts]
        return self._engine.complete(ids, self._settings(sampling, raw), n=n)

    def chat(self, *, system: str | None = None, **sampling: Any) -> ChatSession:
        """Begin a conversation: `"".join(model.chat().send("Hello"))`."""
        return ChatSession(self._engine, _sampling(sampling), system=system)

    def loglikelihood(self, pairs: Sequence[tuple[str, str]]) -> "list[LogLikelihood]":
        """Return log P(continuation | context) in nats for pairs of texts, tokenised together."""
        from tinyllm.generation.loglikelihood import encode_pair

        requests = [encode_pair(self.tokenizer, *pair)[:2] for pair in pairs]
        return self._engine.loglikelihood(requests)

    def _ids(self, prompt: object, raw: bool, system: str | None) -> list[int]:
        if not isinstance(prompt, str):
            raise UsageError(f"a prompt must be a string, found {prompt!r:.80}")
        return prompt_ids(self._loaded, prompt, raw=raw, system=system)

    def _settings(self, sampling: dict[str, Any], raw: bool) -> Sampling:
        return settings(self._loaded, _sampling(sampling), raw=raw)


def _sampling(values: dict[str, Any]) -> Sampling:
    frozen = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return validate(Sampling, [replace(Layer.from_flags(frozen), label="")])
