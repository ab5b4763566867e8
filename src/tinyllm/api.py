"""Python's way in: `tinyllm.load("chat.safetensors").generate("Once upon a time")`.

A `Model` is a checkpoint that is ready to speak, a `Chat` a conversation with it. Settings that are
not given are those stored with the checkpoint, and then those of `Sampling`; their names are the
same as on the command line. Nothing is printed. docs/python.md tells more.
"""

from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, Unpack, get_args

from tinyllm.checkpoint import CheckpointInfo, find_checkpoint
from tinyllm.config.base import validate
from tinyllm.config.generation import Device, Sampling, SpokenDtype
from tinyllm.config.layers import Layer
from tinyllm.errors import UsageError
from tinyllm.generation.chat_session import ChatSession, Exchange
from tinyllm.generation.engine import Completion, Engine, FinishReason
from tinyllm.generation.opening import open_engine
from tinyllm.generation.prompting import prompt_ids, settings
from tinyllm.model.sizing import count_parameters
from tinyllm.records import Conversation
from tinyllm.reporting import SilentReporter, counted, format_count
from tinyllm.tokenizer import Tokenizer

if TYPE_CHECKING:
    from tinyllm.generation.loglikelihood import LogLikelihood

T = TypeVar("T")


class Settings(TypedDict, total=False):
    """How text is drawn: the fields of `Sampling`, which explains them and knows their bounds."""

    temperature: float
    top_k: int
    top_p: float
    min_p: float
    repetition_penalty: float
    frequency_penalty: float
    presence_penalty: float
    repeat_last_n: int
    no_repeat_ngram: int
    penalize_prompt: bool
    logit_bias: Mapping[int, float]
    ban: Sequence[str]
    min_new_tokens: int
    max_new_tokens: int | None
    stop: Sequence[str]
    end_tokens: Sequence[str]
    stop_on_loop: bool
    logprobs: int | None
    seed: int | None


def load(
    checkpoint: str | Path | None = None, *, device: Device = "auto", dtype: SpokenDtype = "auto"
) -> "Model":
    """Load a checkpoint by file, folder or name; without one (None), the newest that is found.

    It is sought in the current folder and in those where training and quickstart leave theirs.
    `device` is auto, cpu, cuda or mps; `dtype`, the form of the weights, is auto, float32, bfloat16
    or int8. Raises CheckpointError when there is none or it is broken.
    """
    if checkpoint is not None and not isinstance(checkpoint, str | Path):
        raise UsageError(f"a checkpoint is a path or a name, found {checkpoint!r:.80}")
    for name, value, kind in (("device", device, Device), ("dtype", dtype, SpokenDtype)):
        if value not in get_args(kind):
            raise UsageError(f"{name} must be one of {', '.join(get_args(kind))}, found {value!r}")
    found = find_checkpoint(None if checkpoint is None else str(checkpoint))
    return Model(open_engine(found.path, SilentReporter(), device=device, dtype=dtype))


class _Turns:
    """Threads that share one engine: each draws a step, or a few, while the others wait."""

    def __init__(self) -> None:
        self.lock = RLock()  # a stream that is thrown away may be closed inside another's step

    def take(self, items: Iterator[T]) -> Generator[T, None, None]:
        """Yield from an iterator, which runs under the lock and is closed with this one."""
        try:
            while True:
                with self.lock:
                    try:
                        item = next(items)
                    except StopIteration:
                        return
                yield item
        finally:
            close = getattr(items, "close", None)
            if close is not None:
                with self.lock:
                    close()


class Model:
    """A loaded checkpoint that completes, answers, chats and judges how likely a text is.

    Several threads may use one model. Prompts of one `complete` are drawn together; calls of
    several threads take turns.
    """

    def __init__(self, engine: Engine) -> None:
        self._loaded = engine.loaded
        self._engine = engine
        self._turns = _Turns()

    def __repr__(self) -> str:
        """Name the checkpoint, its kind and its size."""
        info = self.info
        size = format_count(count_parameters(info.config).total)
        return (
            f"<tinyllm.Model {str(info.path)!r}: {info.kind}, {size} parameters, "
            f"context {info.config.context_length}>"
        )

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
        self,
        prompt: str,
        *,
        raw: bool = False,
        system: str | None = None,
        **sampling: Unpack[Settings],
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
        self,
        prompt: str,
        *,
        raw: bool = False,
        system: str | None = None,
        **sampling: Unpack[Settings],
    ) -> Generator[str, None, None]:
        """Yield the text of `generate` piece by piece, never half a character.

        Raises at once, as `generate` does. Who stops early should close the generator, or leave
        it: either gives its place in the batch back.
        """
        ids = self._ids(prompt, raw, system)
        chosen = self._settings(sampling, raw)
        self._engine.require_room([ids])
        steps = self._engine.generate([ids], chosen)
        return self._turns.take(step.text for step in steps if step.text)

    def complete(
        self,
        prompts: Sequence[str],
        *,
        n: int = 1,
        raw: bool = False,
        system: str | None = None,
        **sampling: Unpack[Settings],
    ) -> list[Completion]:
        """Return n completions per prompt, prompt by prompt, drawn in one batch.

        With logprobs=k, `Completion.odds` holds each token's log-probability and the k likeliest
        tokens in its place. Raises ConfigError for a value out of range, UsageError for what is no
        list of texts, for an n below 1 and for a prompt that is too long.
        """
        if isinstance(prompts, str):
            raise UsageError("prompts is one text, and a list was expected", "Write [prompt].")
        if isinstance(n, bool) or not isinstance(n, int) or n < 1:
            raise UsageError(f"n must be a whole number of at least 1, found {n!r}")
        ids = [self._ids(prompt, raw, system) for prompt in _listed(prompts, "prompts")]
        chosen = self._settings(sampling, raw)
        with self._turns.lock:
            return self._engine.complete(ids, chosen, n=n)

    def chat(self, *, system: str | None = None, **sampling: Unpack[Settings]) -> "Chat":
        """Begin a conversation: `model.chat().say("Hello")`.

        Raises UsageError for a system text where the model is not chat-tuned.
        """
        if system is not None:
            _text(system, "system")
        session = ChatSession(self._engine, _sampling(sampling), system=system)
        return Chat(session, self._turns)

    def loglikelihood(self, pairs: Sequence[tuple[str, str]]) -> "list[LogLikelihood]":
        """Return log P(continuation | context) in nats for pairs of texts, tokenised together.

        Raises UsageError for what is no list of pairs of texts.
        """
        from tinyllm.generation.loglikelihood import encode_pair

        requests = [encode_pair(self.tokenizer, *_pair(p))[:2] for p in _listed(pairs, "pairs")]
        with self._turns.lock:
            return self._engine.loglikelihood(requests)

    def _ids(self, prompt: object, raw: bool, system: str | None) -> list[int]:
        if system is not None:
            _text(system, "system")
        return prompt_ids(self._loaded, _text(prompt, "a prompt"), raw=raw, system=system)

    def _settings(self, sampling: Settings, raw: bool) -> Sampling:
        return settings(self._loaded, _sampling(sampling), raw=raw)


class Chat:
    """A conversation with a model. One thread at a time may use it."""

    def __init__(self, session: ChatSession, turns: _Turns) -> None:
        """Use `Model.chat`."""
        self._session, self._turns = session, turns

    def __repr__(self) -> str:
        """Tell how much has been said."""
        return f"<tinyllm.Chat: {counted(len(self.history), 'exchange')}>"

    def send(self, text: str) -> Generator[str, None, None]:
        """Yield the reply piece by piece. What was drawn of it is kept when the caller stops.

        Raises UsageError at once for a message too long for the context.
        """
        return self._turns.take(self._session.send(_text(text, "a message")))

    def say(self, text: str) -> str:
        """Return the whole reply."""
        return "".join(self.send(text))

    def retry(self) -> str:
        """Draw the last reply anew and return it. Raises UsageError when there is none."""
        return "".join(self._turns.take(self._session.retry()))

    def undo(self) -> Exchange:
        """Take back the last exchange and return it. Raises UsageError when there is none."""
        return self._session.undo()

    def clear(self) -> None:
        """Forget every exchange; the system text stays."""
        self._session.clear()

    @property
    def history(self) -> tuple[Exchange, ...]:
        """What was said so far."""
        return tuple(self._session.history)

    @property
    def finish_reason(self) -> FinishReason | None:
        """Why the last reply ended; None when it was broken off."""
        return self._session.finish_reason

    @property
    def n_forgotten(self) -> int:
        """How many of the oldest exchanges the last reply could not see."""
        return self._session.n_forgotten

    def conversation(self) -> Conversation:
        """Return the conversation as a record that a model can be trained on."""
        return self._session.conversation()


def _sampling(values: Settings) -> Sampling:
    """Check settings; one text stands for a list of one, as in stop="."."""
    lists = {
        name: [value]
        for name in ("stop", "ban", "end_tokens")
        if isinstance(value := values.get(name), str)
    }
    return validate(Sampling, [Layer({**values, **lists}, label="")])


def _text(value: object, name: str) -> str:
    if isinstance(value, str):
        return value
    raise UsageError(f"{name} must be a string, found {value!r:.80}")


def _listed(values: object, name: str) -> Sequence[Any]:
    if isinstance(values, Sequence) and not isinstance(values, str | bytes):
        return values
    raise UsageError(f"{name} must be a list, found {values!r:.80}")


def _pair(value: object) -> tuple[str, str]:
    if isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 2:
        context, continuation = value
        if isinstance(context, str) and isinstance(continuation, str):
            return context, continuation
    raise UsageError(f"a pair must be (context, continuation), two strings, found {value!r:.80}")
