"""A model of the `transformers` package, and one batch of texts drawn from it.

Every text has settings and a seed of its own. Tokens are drawn by adding Gumbel noise to the log
probabilities and taking the largest, which is a draw from them: so the package's plain greedy
search serves a whole batch of different settings.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tinyllm.config.providers import TransformersProvider as TransformersSettings
from tinyllm.device import choose_device
from tinyllm.errors import MissingPartError, ProviderError
from tinyllm.providers.base import CallSampling, FinishReason, ItemError
from tinyllm.providers.thoughts import THOUGHT_MARKERS, opens_thoughts, part_thoughts
from tinyllm.records import Message

_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


@dataclass(frozen=True, slots=True)
class Request:
    """A prompt in tokens, and how it is to be answered."""

    ids: list[int]
    sampling: CallSampling
    begins_inside: bool = False
    """The prompt ends in the middle of the model's thinking."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What was drawn, the thinking taken out."""

    text: str
    finish_reason: FinishReason
    n_tokens: int
    n_reasoning_tokens: int


class TransformersModel:
    """A causal language model with its tokenizer."""

    def __init__(
        self, model: Any, tokenizer: Any, *, name: str, thinking: bool = False, raw: bool = False
    ) -> None:
        """Take a model and a tokenizer of the package; `thinking` goes to the chat template.

        With `raw` there is none: the last message is gone on with as it stands.
        """
        from transformers import GenerationConfig

        self.name = name
        self._model, self._tokenizer = model.eval(), tokenizer
        self._thinking, self._raw = thinking, raw
        own = model.generation_config
        self._ends = _id_set(own.eos_token_id) | _id_set(tokenizer.eos_token_id)
        pad = tokenizer.pad_token_id
        self._pad = pad if pad is not None else min(self._ends, default=0)
        model.generation_config = GenerationConfig(
            eos_token_id=sorted(self._ends) or None, pad_token_id=self._pad, do_sample=False
        )
        markers = set(tokenizer.convert_tokens_to_ids(sorted(THOUGHT_MARKERS)))
        self._hidden = set(tokenizer.all_special_ids) - markers

    @classmethod
    def open(cls, config: TransformersSettings) -> "TransformersModel":
        """Read a model from a folder or the Hub.

        Raises MissingPartError without the package, ProviderError for what cannot be read.
        """
        package = _package()
        source = str(config.model)
        device = choose_device(config.device)
        given: dict[str, Any] = {"revision": config.revision, "trust_remote_code": False}
        try:
            tokenizer = package.AutoTokenizer.from_pretrained(source, **given)
            model = package.AutoModelForCausalLM.from_pretrained(
                source, dtype=config.dtype, **given
            ).to(device)
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise ProviderError(
                f"the model {source} cannot be read: {_first_line(error)}",
                "Name a folder with a model and its tokenizer, or a model of the Hub.",
            ) from error
        name = Path(source).name if Path(source).is_dir() else source
        name = f"{name}@{config.revision}" if config.revision else name
        return cls(model, tokenizer, name=name, thinking=config.thinking, raw=config.raw)

    @property
    def context_length(self) -> int | None:
        """Tokens of prompt and answer together, None where the model sets no limit."""
        found = getattr(self._model.config, "max_position_embeddings", None)
        return found if isinstance(found, int) and found > 0 else None

    def request(self, messages: Sequence[Message], sampling: CallSampling) -> Request:
        """Put messages into tokens, by the chat template where the tokenizer has one.

        Raises ItemError for what the template refuses or what fills the context.
        """
        if self._raw:
            prompt = messages[-1].content
        elif self._tokenizer.chat_template:
            prompt = self._by_template(messages)
        else:
            prompt = "\n\n".join(message.content for message in messages) + "\n\n"
        prompt = prompt.encode("utf-8", "replace").decode("utf-8")
        is_raw = self._raw or not self._tokenizer.chat_template
        ids = list(self._tokenizer(prompt, add_special_tokens=is_raw)["input_ids"])
        longest = self.context_length
        if longest is not None and len(ids) >= longest:
            raise ItemError(
                "context_overflow",
                f"the prompt has {len(ids):,} tokens, and the context of {self.name} {longest:,}",
            )
        return Request(ids, sampling, opens_thoughts(prompt))

    def _by_template(self, messages: Sequence[Message]) -> str:
        """Lay messages out; where there is no system role, its text goes before the first turn."""
        from jinja2 import TemplateError

        try:
            return self._lay_out(messages)
        except TemplateError as error:
            if len(messages) > 1 and messages[0].role == "system":
                first = Message(messages[1].role, f"{messages[0].content}\n\n{messages[1].content}")
                return self._by_template((first, *messages[2:]))
            raise ItemError(
                "bad_request", f"the chat template of {self.name} refuses this: {error}"
            ) from error

    def _lay_out(self, messages: Sequence[Message]) -> str:
        turns = [{"role": message.role, "content": message.content} for message in messages]
        return str(
            self._tokenizer.apply_chat_template(
                turns, tokenize=False, add_generation_prompt=True, enable_thinking=self._thinking
            )
        )

    def reply(
        self, requests: Sequence[Request], is_given_up: Callable[[int], bool] = lambda _: False
    ) -> list[Reply]:
        """Answer all of them in one batch, in their order.

        `is_given_up` is asked for each place of the batch whether nobody waits there any more.
        Raises what torch raises when memory is short (`is_out_of_memory`).
        """
        device = self._model.device
        ids, mask = _pad_left([request.ids for request in requests], self._pad)
        n_prompt = ids.shape[1]
        limits = torch.tensor([self._room(request) for request in requests], device=device)

        def is_over(drawn: Tensor, *_: object, **__: object) -> Tensor:
            left = torch.tensor([is_given_up(i) for i in range(len(drawn))], device=device)
            return (drawn.shape[1] - n_prompt >= limits) | left  # (B,)

        draw = _Draw([request.sampling for request in requests], device)
        with torch.inference_mode():
            drawn = self._model.generate(
                ids.to(device),
                attention_mask=mask.to(device),
                max_new_tokens=int(limits.max()),
                logits_processor=[draw],
                stopping_criteria=[is_over],
            )  # (B, T)
        rows = drawn[:, n_prompt:].tolist()
        return [
            self._finish(request, row[:limit])
            for request, row, limit in zip(requests, rows, limits.tolist(), strict=True)
        ]

    def _room(self, request: Request) -> int:
        """Return how many tokens the answer may have."""
        longest = self.context_length
        wanted = request.sampling.max_tokens
        return wanted if longest is None else min(wanted, longest - len(request.ids))

    def _finish(self, request: Request, drawn: list[int]) -> Reply:
        """Cut at the end token, and make text of the rest."""
        end = next((i for i, token in enumerate(drawn) if token in self._ends), None)
        reason: FinishReason = "length" if end is None else "stop"
        kept = drawn if end is None else drawn[:end]
        shown = [token for token in kept if token not in self._hidden]
        text = self._tokenizer.decode(shown, clean_up_tokenization_spaces=False)
        parted = part_thoughts(text, begins_inside=request.begins_inside)
        n_reasoning = 0
        if parted.thoughts:
            encoded = self._tokenizer(parted.thoughts, add_special_tokens=False)
            n_reasoning = min(len(kept), len(encoded["input_ids"]))
        return Reply(parted.answer, reason, len(kept) + (end is not None), n_reasoning)


class _Draw:
    """Turns logits into scores whose largest is a draw, each row by its own settings and seed."""

    def __init__(self, rows: Sequence[CallSampling], device: torch.device) -> None:
        self._rows = [
            (row, torch.Generator(device).manual_seed(row.seed % (1 << 63))) for row in rows
        ]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Take (B, T) ids and (B, V) logits; return (B, V) float32 scores."""
        logits = scores.float()
        drawn = [_noisy(logits[i], row, generator) for i, (row, generator) in enumerate(self._rows)]
        return torch.stack(drawn)


def _noisy(logits: Tensor, sampling: CallSampling, generator: torch.Generator) -> Tensor:
    """Add Gumbel noise to one row's (V,) log probabilities; none at temperature 0."""
    if sampling.temperature == 0:
        return logits
    log_probs = torch.log_softmax(logits / sampling.temperature, dim=-1)
    if sampling.top_p < 1:
        ordered, places = log_probs.sort(descending=True)
        before = ordered.exp().cumsum(-1) - ordered.exp()
        dropped = places[before >= sampling.top_p]
        log_probs[dropped] = -torch.inf
    exponential = torch.empty_like(log_probs).exponential_(generator=generator)
    return log_probs - exponential.clamp_min(torch.finfo(torch.float32).tiny).log()


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether torch says that memory is short, whatever the device."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(
        sign in str(error).lower() for sign in _OUT_OF_MEMORY
    )


def _pad_left(rows: Sequence[list[int]], pad: int) -> tuple[Tensor, Tensor]:
    """Return ids and mask, both (B, T) int64, shorter rows padded in front."""
    width = max(len(row) for row in rows)
    ids = [[pad] * (width - len(row)) + row for row in rows]
    mask = [[0] * (width - len(row)) + [1] * len(row) for row in rows]
    return torch.tensor(ids), torch.tensor(mask)


def _id_set(value: object) -> set[int]:
    if isinstance(value, int):
        return {value}
    return {item for item in value if isinstance(item, int)} if isinstance(value, list) else set()


def _package() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise MissingPartError(
            "provider kind transformers needs the package transformers, which is not installed",
            'Install it: pip install "tinyllm[hf]"',
        ) from error
    return transformers


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
