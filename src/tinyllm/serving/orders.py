"""From the body of a request to what a batch draws: token ids, settings, a seed."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from tinyllm.chat_template import ChatTemplate, render_prompt
from tinyllm.config.generation import Sampling
from tinyllm.config.serve import ServeLimits
from tinyllm.errors import UsageError
from tinyllm.generation.engine import Engine
from tinyllm.generation.prompting import newest_turns, settings
from tinyllm.records import Message, Role
from tinyllm.serving.failures import ApiError
from tinyllm.serving.requests import ChatMessage, ChatRequest, CompletionRequest, DrawRequest

_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
}


@dataclass(frozen=True, slots=True)
class Order:
    """What one request wants drawn: n texts behind each prompt."""

    prompts: tuple[tuple[int, ...], ...]
    sampling: Sampling
    seed: int
    n: int
    echoes: tuple[str, ...] = ()
    """What stands before each prompt's texts in the answer."""
    n_dropped: int = 0
    """Messages left out of the prompt, for they did not fit."""

    @property
    def n_prompt_tokens(self) -> int:
        """Tokens of all prompts; one that is drawn from n times is counted once."""
        return sum(map(len, self.prompts))


def chat_order(request: ChatRequest, engine: Engine, limits: ServeLimits) -> Order:
    """Render a conversation for a chat-tuned model. Raises ApiError."""
    template = engine.loaded.template
    if template is None:
        raise ApiError(
            400,
            "this model is not chat-tuned; use /v1/completions, which continues texts",
            param="model",
            code="not_a_chat_model",
        )
    sampling = _settings(request, engine, limits, raw=False)
    messages = [_message(message) for message in request.messages]
    is_cut = request.truncation == "auto"
    ids, n_dropped = _fit(messages, engine, template, is_cut=is_cut)
    _require_room(engine, [ids], "messages")
    return _order(request, engine, limits, [ids], sampling, n_dropped=n_dropped)


def completion_order(request: CompletionRequest, engine: Engine, limits: ServeLimits) -> Order:
    """Take texts or token ids as they are. Raises ApiError."""
    sampling = _settings(request, engine, limits, raw=True)
    texts, ids = _prompts(request, engine)
    _require_room(engine, ids, "prompt")
    echoes = tuple(texts) if request.echo else ()
    return _order(request, engine, limits, ids, sampling, echoes=echoes)


def _order(
    request: DrawRequest,
    engine: Engine,
    limits: ServeLimits,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    *,
    echoes: tuple[str, ...] = (),
    n_dropped: int = 0,
) -> Order:
    n = request.n or 1
    if n * len(prompts) > limits.max_texts:
        raise ApiError(
            400,
            f"this asks for {n * len(prompts)} texts, and one request gets {limits.max_texts}",
            param="n" if n > 1 else "prompt",
        )
    _require_tokens(n * len(prompts), sampling, engine, limits)
    seed = secrets.randbits(31) if sampling.seed is None else sampling.seed
    return Order(tuple(map(tuple, prompts)), sampling, seed, n, echoes, n_dropped)


def _require_tokens(n_texts: int, sampling: Sampling, engine: Engine, limits: ServeLimits) -> None:
    """Refuse a request whose texts could grow to more tokens than one request gets.

    Alternatives that are told beside a token count as tokens too.
    """
    longest = min(sampling.max_new_tokens or engine.context_length, engine.context_length)
    most = n_texts * longest * (1 + (sampling.logprobs or 0))
    if n_texts > 1 and most > limits.max_request_tokens:
        raise ApiError(
            400,
            f"this asks for up to {most} tokens, and one request gets "
            f"{limits.max_request_tokens}: give a smaller max_tokens, or ask for fewer texts",
            param="max_tokens",
        )


def _settings(request: DrawRequest, engine: Engine, limits: ServeLimits, *, raw: bool) -> Sampling:
    """Return the sampling in force; no text gets more tokens than the server allows."""
    given = Sampling.model_validate(request.sampling_values())  # the request has its bounds
    sampling = settings(engine.loaded, given, raw=raw)
    allowed = min(sampling.max_new_tokens or limits.max_new_tokens, limits.max_new_tokens)
    return sampling.model_copy(update={"max_new_tokens": allowed})


def _require_room(engine: Engine, prompts: Sequence[Sequence[int]], param: str) -> None:
    try:
        engine.require_room(prompts)
    except UsageError as error:
        code = "context_length_exceeded"
        raise ApiError(400, error.message, param=param, code=code) from error


def _message(message: ChatMessage) -> Message:
    return Message(_ROLES[message.role], message.text)


def _fit(
    messages: list[Message], engine: Engine, template: ChatTemplate, *, is_cut: bool
) -> tuple[list[int], int]:
    """Return the ids of a conversation and how many messages were left out of it.

    Cut, it loses its oldest exchanges, but never a system text at its head or the last turn.
    """
    n_head = next((i for i, m in enumerate(messages) if m.role != "system"), len(messages))
    head, turns = messages[:n_head], messages[n_head:]

    def render(start: int) -> list[int]:
        return render_prompt([*head, *turns[start:]], engine.tokenizer, template)

    starts = [i for i in range(1, len(turns)) if _begins(turns, i)] if is_cut else []
    return newest_turns(render, [0, *starts], engine.context_length)


def _begins(turns: Sequence[Message], place: int) -> bool:
    """Tell whether an exchange begins here: something is said after an answer."""
    return turns[place].role != "assistant" and turns[place - 1].role == "assistant"


def _prompts(request: CompletionRequest, engine: Engine) -> tuple[list[str], list[list[int]]]:
    """Return the prompts as texts and as ids; an empty one begins a new document."""
    tokenizer, prompt = engine.tokenizer, request.prompt
    before = tokenizer.prefix_ids
    if isinstance(prompt, str):
        prompt = [prompt]
    texts = [part for part in prompt if isinstance(part, str)]
    if texts:
        encoded = [before + ids for ids in tokenizer.encode_batch(texts)]
        return texts, [ids or [tokenizer.begin_id] for ids in encoded]
    lists = [part for part in prompt if isinstance(part, list)]
    ids = lists or [[part for part in prompt if isinstance(part, int)]]
    largest = max(map(max, ids))
    if largest >= tokenizer.vocab_size:
        raise ApiError(
            400,
            f"the model has no token {largest}; its ids end at {tokenizer.vocab_size - 1}",
            param="prompt",
        )
    return [tokenizer.decode(row) for row in ids], ids
