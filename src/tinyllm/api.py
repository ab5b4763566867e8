"""Python's way in: `tinyllm.load("chat.safetensors").generate("Once upon a time")`.

A `Model` is a checkpoint that is ready to speak. Settings that are not given are those stored with
the checkpoint, and then those of `Sampling`; their names are the same as on the command line.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tinyllm.checkpoint import CheckpointInfo, LoadedModel, find_checkpoint, load_checkpoint
from tinyllm.config.base import load_config
from tinyllm.config.generation import Sampling
from tinyllm.device import choose_device, prepare_arithmetic
from tinyllm.generation.chat_session import ChatSession
from tinyllm.generation.engine import Completion, Engine
from tinyllm.generation.loglikelihood import LogLikelihood, encode_pair
from tinyllm.generation.prompting import prompt_ids, settings
from tinyllm.tokenizer import Tokenizer


def load(checkpoint: str | Path | None = None, *, device: str = "auto") -> "Model":
    """Load a checkpoint by file, folder or name; without one, the newest that is found.

    Raises CheckpointError when there is none or it is broken.
    """
    found = find_checkpoint(None if checkpoint is None else str(checkpoint))
    chosen = choose_device(device)
    prepare_arithmetic(chosen)
    return Model(load_checkpoint(found.path, device=str(chosen)))


class Model:
    """A loaded checkpoint that completes, answers, chats and judges how likely a text is."""

    def __init__(self, loaded: LoadedModel) -> None:
        self._loaded = loaded
        self._engine = Engine(loaded)

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
        [completion] = self.complete([prompt], raw=raw, system=system, **sampling)
        return completion.text

    def stream(
        self, prompt: str, *, raw: bool = False, system: str | None = None, **sampling: Any
    ) -> Iterator[str]:
        """Yield the text of `generate` piece by piece, never half a character."""
        ids = prompt_ids(self._loaded, prompt, raw=raw, system=system)
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
        """Return n completions per prompt, prompt by prompt, drawn in one batch."""
        ids = [prompt_ids(self._loaded, prompt, raw=raw, system=system) for prompt in prompts]
        return self._engine.complete(ids, self._settings(sampling, raw), n=n)

    def chat(self, *, system: str | None = None, **sampling: Any) -> ChatSession:
        """Begin a conversation: `"".join(model.chat().send("Hello"))`."""
        return ChatSession(self._engine, _sampling(sampling), system=system)

    def loglikelihood(self, pairs: Sequence[tuple[str, str]]) -> list[LogLikelihood]:
        """Return log P(continuation | context) in nats for pairs of texts, tokenised together."""
        requests = [encode_pair(self.tokenizer, *pair)[:2] for pair in pairs]
        return self._engine.loglikelihood(requests)

    def _settings(self, sampling: dict[str, Any], raw: bool) -> Sampling:
        return settings(self._loaded, _sampling(sampling), raw=raw)


def _sampling(values: dict[str, Any]) -> Sampling:
    frozen = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return load_config(Sampling, flags=frozen)
