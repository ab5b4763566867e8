"""Conversations that are longer than the context."""

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tiny import tiny_loaded
from tinyllm.chat_template import render_prompt
from tinyllm.config.serve import ServeLimits
from tinyllm.generation.engine import Engine
from tinyllm.records import Message
from tinyllm.serving.failures import ApiError
from tinyllm.serving.orders import chat_order, completion_order
from tinyllm.serving.requests import ChatRequest, CompletionRequest

LIMITS = ServeLimits()


@cache
def engine() -> Engine:
    """A chat-tuned model whose context holds 96 tokens."""
    return Engine(tiny_loaded(chat=True))


def ids_of(messages: list[dict[str, str]]) -> list[int]:
    turns = [Message(one["role"], one["content"]) for one in messages]
    return render_prompt(turns, engine().tokenizer, engine().loaded.template)


TURN = st.fixed_dictionaries(
    {
        "role": st.sampled_from(["user", "assistant", "system"]),
        "content": st.text("ab ", max_size=9),
    }
)
ROOM = 96 - 96 // 4


@given(st.lists(TURN, max_size=24))
def test_as_few_of_the_oldest_turns_are_left_out_as_will_do(turns: list[dict[str, str]]) -> None:
    messages = [*turns, {"role": "user", "content": "fox"}]
    request = ChatRequest(messages=messages, truncation="auto")
    order, code = None, None
    try:
        order = chat_order(request, engine(), LIMITS)
    except ApiError as error:
        code = error.code
    if order is None:  # the last exchange alone is too long
        assert code == "context_length_exceeded"
        return
    n_head = next(i for i, one in enumerate(messages) if one["role"] != "system")
    head, rest = messages[:n_head], messages[n_head:]

    assert list(order.prompts[0]) == ids_of([*head, *rest[order.n_dropped :]])
    if order.n_dropped:
        assert rest[order.n_dropped - 1]["role"] == "assistant"
        assert rest[order.n_dropped]["role"] != "assistant"
        earlier = [
            i
            for i in range(order.n_dropped)
            if i == 0 or (rest[i]["role"] != "assistant" and rest[i - 1]["role"] == "assistant")
        ]
        assert len(ids_of([*head, *rest[earlier[-1] :]])) > ROOM


def test_a_conversation_that_fits_loses_nothing() -> None:
    messages = [{"role": "user", "content": "fox"}]
    order = chat_order(ChatRequest(messages=messages, truncation="auto"), engine(), LIMITS)
    assert order.n_dropped == 0
    assert list(order.prompts[0]) == ids_of(messages)


def test_a_text_gets_no_more_tokens_than_the_server_allows() -> None:
    limits = ServeLimits(max_new_tokens=5)
    for asked, allowed in ((None, 5), (3, 3), (99, 5)):
        request = CompletionRequest(prompt="fox", max_tokens=asked)
        assert completion_order(request, engine(), limits).sampling.max_new_tokens == allowed


@pytest.mark.parametrize(("n", "top", "is_refused"), [(2, 0, False), (2, 9, True), (20, 0, True)])
def test_a_request_gets_no_more_tokens_than_the_server_allows(
    n: int, top: int, is_refused: bool
) -> None:
    limits = ServeLimits(max_request_tokens=500)
    request = CompletionRequest(prompt="fox", n=n, logprobs=top, max_tokens=30)
    if is_refused:
        with pytest.raises(ApiError, match="one request gets 500"):
            completion_order(request, engine(), limits)
    else:
        assert completion_order(request, engine(), limits).n == n


def test_an_id_that_the_model_has_not_is_refused() -> None:
    vocab_size = engine().tokenizer.vocab_size
    completion_order(CompletionRequest(prompt=[vocab_size - 1]), engine(), LIMITS)
    with pytest.raises(ApiError, match=f"no token {vocab_size}"):
        completion_order(CompletionRequest(prompt=[[0], [1, vocab_size]]), engine(), LIMITS)
