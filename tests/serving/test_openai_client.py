"""OpenAI's own client, unmodified, against a real server process."""

import math
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from openai import OpenAI

from tests.serving.conftest import Server, StartServer
from tests.tiny import write_tiny_checkpoint
from tinyllm.chat_template import render_prompt
from tinyllm.config.generation import Sampling
from tinyllm.generation.engine import Completion, Engine
from tinyllm.generation.opening import open_engine
from tinyllm.generation.prompting import settings
from tinyllm.records import Message
from tinyllm.reporting import SilentReporter

HELLO = [{"role": "user", "content": "Tell me of the fox"}]


@pytest.fixture(scope="module")
def chatty(tiny_checkpoints: tuple[Path, Path]) -> Engine:
    """The chat-tuned model, in this process."""
    return open_engine(tiny_checkpoints[0], SilentReporter())


@pytest.fixture(scope="module")
def plain(tiny_checkpoints: tuple[Path, Path]) -> Engine:
    """The base model, in this process."""
    return open_engine(tiny_checkpoints[1], SilentReporter())


def answers(engine: Engine, messages: list[dict[str, str]], n: int = 1, **given: object):
    """Return what the engine itself answers to a conversation."""
    turns = [Message(message["role"], message["content"]) for message in messages]
    ids = render_prompt(turns, engine.tokenizer, engine.loaded.template)
    return engine.complete([ids], settings(engine.loaded, Sampling(**given)), n=n)


def continuations(engine: Engine, prompts: list[str], n: int = 1, **given: object):
    """Return how the engine itself continues texts."""
    ids = [engine.tokenizer.encode(prompt) for prompt in prompts]
    return engine.complete(ids, settings(engine.loaded, Sampling(**given), raw=True), n=n)


def texts(completions: list[Completion]) -> list[str]:
    return [completion.text for completion in completions]


# ---- models ----


def test_models_are_listed_with_what_they_are(client: OpenAI) -> None:
    chatty, plain = client.models.list()

    assert (chatty.id, plain.id) == ("chatty", "plain")
    assert chatty.is_chat_tuned
    assert not plain.is_chat_tuned
    assert client.models.retrieve("plain").to_dict() == plain.to_dict()
    assert plain.context_length == 96
    assert plain.parameters > 10_000
    assert plain.defaults["top_p"] == Sampling().top_p


def test_an_unknown_model_is_not_found_and_the_known_are_named(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="chatty, plain") as caught:
        client.models.retrieve("gpt-4")
    assert caught.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError, match="chatty, plain"):
        client.chat.completions.create(model="gpt-4", messages=HELLO)


# ---- chat ----


def test_an_answer_is_the_engines_own(client: OpenAI, chatty: Engine) -> None:
    [expected] = answers(chatty, HELLO, seed=7, max_new_tokens=20)
    got = client.chat.completions.create(model="chatty", messages=HELLO, seed=7, max_tokens=20)

    [choice] = got.choices
    assert choice.message.role == "assistant"
    assert choice.message.content == expected.text
    assert choice.finish_reason == ("length" if expected.finish_reason == "length" else "stop")
    assert got.object == "chat.completion"
    assert got.model == "chatty"
    assert got.usage is not None
    assert got.usage.completion_tokens == len(expected.ids)
    assert got.usage.total_tokens == got.usage.prompt_tokens + len(expected.ids)


@pytest.mark.parametrize(
    "given",
    [
        {"temperature": 0.0},
        {"temperature": 1.3, "top_p": 0.7, "frequency_penalty": 1.5, "presence_penalty": -0.5},
        {"extra": {"top_k": 5, "min_p": 0.05, "repetition_penalty": 1.3, "no_repeat_ngram": 3}},
        {"extra": {"min_new_tokens": 12, "repeat_last_n": 4, "penalize_prompt": True}},
        {"logit_bias": {40: -100.0, 50: 4.5}},
        {"extra": {"ban": ("e", "#45"), "stop_on_loop": False}},
    ],
    ids=lambda given: ",".join({**given, **given.get("extra", {})}),
)
def test_every_setting_reaches_the_engine(
    client: OpenAI, chatty: Engine, given: dict[str, object]
) -> None:
    own = {k: v for k, v in given.items() if k != "extra"}
    extra = dict(given.get("extra", {}))
    [expected] = answers(chatty, HELLO, seed=3, max_new_tokens=24, **own, **extra)
    if "min_new_tokens" in extra:
        extra["min_tokens"] = extra.pop("min_new_tokens")
    biases = {str(k): v for k, v in own.pop("logit_bias", {}).items()}
    got = client.chat.completions.create(
        model="chatty",
        messages=HELLO,
        seed=3,
        max_completion_tokens=24,
        logit_bias=biases or None,
        extra_body=extra,
        **own,
    )

    assert got.choices[0].message.content == expected.text


def test_a_stream_is_the_whole_answer_in_pieces(client: OpenAI) -> None:
    asked = {"model": "chatty", "messages": HELLO, "seed": 5, "n": 3, "max_tokens": 40}
    whole = client.chat.completions.create(**asked)
    heard = ["", "", ""]
    ends: dict[int, str] = {}
    usage = None
    with client.chat.completions.create(
        **asked, stream=True, stream_options={"include_usage": True}
    ) as stream:
        for chunk in stream:
            usage = chunk.usage or usage
            for choice in chunk.choices:
                assert choice.index not in ends
                heard[choice.index] += choice.delta.content or ""
                if choice.finish_reason is not None:
                    ends[choice.index] = choice.finish_reason

    assert heard == [choice.message.content for choice in whole.choices]
    assert ends == {choice.index: choice.finish_reason for choice in whole.choices}
    assert usage is not None
    assert usage.completion_tokens == whole.usage.completion_tokens


def test_every_chunk_of_a_stream_has_the_same_id(client: OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model="chatty", messages=HELLO, seed=5, max_tokens=8, stream=True
        )
    )

    assert chunks[0].choices[0].delta.role == "assistant"
    assert len({chunk.id for chunk in chunks}) == 1
    assert all(chunk.usage is None for chunk in chunks)


def test_samples_differ_and_stay_the_same_for_any_n(client: OpenAI) -> None:
    def ask(n: int) -> list[str | None]:
        got = client.chat.completions.create(
            model="chatty", messages=HELLO, seed=11, n=n, max_tokens=16, temperature=1.0
        )
        return [choice.message.content for choice in got.choices]

    four = ask(4)
    assert ask(2) == four[:2]
    assert len(set(four)) > 1


def test_without_a_seed_one_is_drawn_and_told(client: OpenAI) -> None:
    asked = {"model": "chatty", "messages": HELLO, "max_tokens": 16, "temperature": 1.0}
    first = client.chat.completions.create(**asked)
    again = client.chat.completions.create(**asked, seed=first.seed)

    assert again.choices[0].message.content == first.choices[0].message.content


def test_a_text_ends_before_its_stop_string(client: OpenAI) -> None:
    asked = {"model": "chatty", "messages": HELLO, "seed": 2, "max_tokens": 40}
    whole = client.chat.completions.create(**asked).choices[0].message.content
    stop = whole[6:9]
    got = client.chat.completions.create(**asked, stop=[stop, "never there"]).choices[0]

    assert got.message.content == whole[: whole.index(stop)]
    assert got.finish_reason == "stop"
    assert got.stop_reason == stop


def test_roles_and_parts_mean_what_they_say(client: OpenAI, chatty: Engine) -> None:
    turns = [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "What is a fox?"},
        {"role": "assistant", "content": "A friend."},
        {"role": "user", "content": "And a bird?"},
    ]
    [expected] = answers(chatty, turns, seed=1, max_new_tokens=8)
    sent = [
        {"role": "developer", "content": "Be short."},
        *turns[1:3],
        {
            "role": "user",
            "content": [{"type": "text", "text": "And a "}, {"type": "text", "text": "bird?"}],
        },
    ]
    got = client.chat.completions.create(model="chatty", messages=sent, seed=1, max_tokens=8)

    assert got.choices[0].message.content == expected.text


def test_a_long_conversation_loses_its_oldest_turns_only_when_asked_to(
    client: OpenAI, chatty: Engine
) -> None:
    system = {"role": "system", "content": "Be short."}
    exchange = [
        {"role": "user", "content": "Once upon a time"},
        {"role": "assistant", "content": "there was a little fox"},
    ]
    turns = [system, *exchange * 6, *HELLO]
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="chatty", messages=turns)
    assert caught.value.code == "context_length_exceeded"
    assert caught.value.param == "messages"

    got = client.chat.completions.create(
        model="chatty", messages=turns, seed=1, max_tokens=8, extra_body={"truncation": "auto"}
    )
    assert got.dropped_messages % 2 == 0
    assert got.dropped_messages > 0
    kept = [system, *turns[1 + got.dropped_messages :]]
    [expected] = answers(chatty, kept, seed=1, max_new_tokens=8)
    assert got.choices[0].message.content == expected.text


# ---- log-probabilities ----


def test_log_probabilities_are_the_engines_own(client: OpenAI, chatty: Engine) -> None:
    [expected] = answers(chatty, HELLO, seed=7, max_new_tokens=10, logprobs=3)
    got = client.chat.completions.create(
        model="chatty", messages=HELLO, seed=7, max_tokens=10, logprobs=True, top_logprobs=3
    )

    told = got.choices[0].logprobs.content
    odds = [o for o in expected.odds if o.token_id != chatty.tokenizer.end_of_text_id]
    assert [one.logprob for one in told] == [o.logprob for o in odds]
    assert [[t.logprob for t in one.top_logprobs] for one in told] == [
        [logprob for _, logprob in o.top] for o in odds
    ]
    assert all(len(one.top_logprobs) == 3 for one in told)
    assert [bytes(one.bytes) for one in told] == [
        chatty.tokenizer.token_bytes(o.token_id) for o in odds
    ]
    assert all(math.exp(one.logprob) <= 1 for one in told)


def test_streamed_log_probabilities_are_the_whole_ones(client: OpenAI) -> None:
    asked = {"model": "chatty", "messages": HELLO, "seed": 7, "max_tokens": 30, "logprobs": True}
    whole = client.chat.completions.create(**asked).choices[0].logprobs.content
    streamed = [
        one
        for chunk in client.chat.completions.create(**asked, stream=True)
        for choice in chunk.choices
        for one in (choice.logprobs.content if choice.logprobs else [])
    ]

    assert [one.to_dict() for one in streamed] == [one.to_dict() for one in whole]


def test_completions_have_log_probabilities_in_their_own_form(
    client: OpenAI, plain: Engine
) -> None:
    asked = {"model": "plain", "prompt": "Once upon", "seed": 4, "max_tokens": 12, "logprobs": 2}
    [expected] = continuations(plain, ["Once upon"], seed=4, max_new_tokens=12, logprobs=2)
    told = client.completions.create(**asked).choices[0].logprobs

    odds = [o for o in expected.odds if o.token_id != plain.tokenizer.end_of_text_id]
    assert told.token_logprobs == [o.logprob for o in odds]
    assert [max(top.values()) for top in told.top_logprobs] == [o.top[0][1] for o in odds]
    assert told.text_offset[0] == 0
    assert len(told.tokens) == len(told.text_offset) == len(told.top_logprobs)


def test_each_token_is_told_with_its_place_in_the_text(client: OpenAI) -> None:
    """Streamed or whole, and also while all of the text may still become a stop string."""
    asked = {"model": "plain", "prompt": "Once upon", "seed": 4, "max_tokens": 30, "logprobs": 0}
    whole = client.completions.create(**asked, temperature=0.3).choices[0]
    streamed = [
        offset
        for chunk in client.completions.create(
            **asked, temperature=0.3, stop=[whole.text + "\0"], stream=True
        )
        for offset in chunk.choices[0].logprobs.text_offset
    ]

    assert streamed == whole.logprobs.text_offset
    placed = [
        (whole.text[place : place + len(token)], token)
        for place, token in zip(whole.logprobs.text_offset, whole.logprobs.tokens, strict=True)
        if "\N{REPLACEMENT CHARACTER}" not in token
    ]
    assert len(placed) > 5
    assert all(found == token for found, token in placed)


# ---- completions ----


def test_prompts_come_in_four_forms(client: OpenAI, plain: Engine) -> None:
    first, second = "The sun gives light", "One day the fox"
    ids = [plain.tokenizer.encode(text) for text in (first, second)]
    expected = texts(continuations(plain, [first, second], seed=9, max_new_tokens=9))

    def ask(prompt: object) -> list[str]:
        got = client.completions.create(model="plain", prompt=prompt, seed=9, max_tokens=9)
        return [choice.text for choice in got.choices]

    assert ask(first) == ask(ids[0]) == expected[:1]
    assert ask([first, second]) == ask(ids) == expected


def test_choices_of_several_prompts_are_in_order(client: OpenAI, plain: Engine) -> None:
    prompts = ["The sun", "One day", "Once"]
    expected = texts(continuations(plain, prompts, n=2, seed=9, max_new_tokens=9))
    got = client.completions.create(model="plain", prompt=prompts, n=2, seed=9, max_tokens=9)

    assert [choice.index for choice in got.choices] == [0, 1, 2, 3, 4, 5]
    assert [choice.text for choice in got.choices] == expected


def test_echo_gives_the_prompt_back(client: OpenAI) -> None:
    asked = {"model": "plain", "prompt": ["The sun", "One day"], "seed": 9, "max_tokens": 9}
    without = client.completions.create(**asked)
    whole = client.completions.create(**asked, echo=True)
    streamed = ["", ""]
    for chunk in client.completions.create(**asked, echo=True, stream=True):
        for choice in chunk.choices:
            streamed[choice.index] += choice.text

    expected = ["The sun" + without.choices[0].text, "One day" + without.choices[1].text]
    assert [choice.text for choice in whole.choices] == expected == streamed


def test_an_empty_prompt_begins_a_document(client: OpenAI, plain: Engine) -> None:
    [expected] = plain.complete([[]], settings(plain.loaded, Sampling(seed=1, max_new_tokens=8)))
    got = client.completions.create(model="plain", prompt="", seed=1, max_tokens=8)

    assert got.choices[0].text == expected.text


def test_a_chat_tuned_model_continues_plain_text_too(client: OpenAI, chatty: Engine) -> None:
    [expected] = continuations(chatty, ["The sun"], seed=1, max_new_tokens=8)
    got = client.completions.create(model="chatty", prompt="The sun", seed=1, max_tokens=8)

    assert got.choices[0].text == expected.text


def test_what_was_read_before_is_told_as_cached(
    start_server: StartServer, tiny_checkpoints
) -> None:
    with start_server(tiny_checkpoints[1]).client() as client:
        asked = {"model": "plain", "prompt": "Once upon a time there was a little fox who lived"}
        first = client.completions.create(**asked, max_tokens=4)
        second = client.completions.create(**asked, max_tokens=4)

    assert first.usage.prompt_tokens_details.cached_tokens == 0
    assert 0 < second.usage.prompt_tokens_details.cached_tokens < second.usage.prompt_tokens


# ---- errors ----


@pytest.mark.parametrize(
    ("given", "param", "says"),
    [
        ({"temperature": -1}, "temperature", "temperature must be at least 0"),
        ({"top_p": 0}, "top_p", "greater than 0"),
        ({"n": 0}, "n", "at least 1"),
        ({"n": 129}, "n", "one request gets 128"),
        ({"stop": [""]}, "stop", "none of them empty"),
        ({"messages": []}, "messages", "at least one message"),
        ({"messages": [{"role": "tool", "content": "5"}]}, "messages.0.role", "'user'"),
        ({"messages": [*HELLO, {"role": "assistant", "content": "x"}]}, "messages", "own turn"),
        ({"tools": [{"type": "function"}]}, "tools", "tools cannot be honoured"),
        ({"response_format": {"type": "json_object"}}, "response_format", "plain text"),
        ({"top_logprobs": 2}, "top_logprobs", "needs logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "at most 20"),
        ({"extra_body": {"best_of": 3}}, "best_of", "best_of cannot be honoured"),
        ({"extra_body": {"tempratur": 1}}, "tempratur", "did you mean temperature?"),
        ({"extra_body": {"ban": ["fox fox"]}}, None, "not one token"),
        ({"logit_bias": {"5000": 1}}, None, "5000"),
        ({"logit_bias": {"fox": 1}}, "logit_bias", "strings of digits"),
        ({"logit_bias": dict.fromkeys(map(str, range(1025)), 1)}, "logit_bias", "at most 1024"),
        ({"extra_body": {"ban": ["e"] * 1025}}, "ban", "ban must have at most 1024"),
    ],
    ids=lambda value: ",".join(value)[:40] if isinstance(value, dict) else "",
)
def test_bad_input_is_a_bad_request_that_names_its_field(
    client: OpenAI, given: dict[str, object], param: str | None, says: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=says) as caught:
        client.chat.completions.create(**{"model": "chatty", "messages": HELLO, **given})

    assert caught.value.type == "invalid_request_error"
    assert caught.value.param == param


def test_fields_that_change_nothing_are_accepted(client: OpenAI) -> None:
    got = client.chat.completions.create(
        model="chatty",
        messages=HELLO,
        max_tokens=2,
        user="someone",
        metadata={"a": "b"},
        store=False,
        tools=[],
        response_format={"type": "text"},
        service_tier="auto",
    )

    assert got.usage.completion_tokens <= 2


def test_a_base_model_does_not_chat_and_says_what_it_does(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="/v1/completions") as caught:
        client.chat.completions.create(model="plain", messages=HELLO)
    assert caught.value.code == "not_a_chat_model"


def test_a_prompt_longer_than_the_context_is_a_bad_request(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="holds 96") as caught:
        client.completions.create(model="plain", prompt="fox " * 200)
    assert caught.value.code == "context_length_exceeded"


@pytest.fixture(scope="module")
def locked(tiny_checkpoints: tuple[Path, Path]) -> Iterator[Server]:
    """A server that wants a key."""
    from tests.serving.conftest import serving

    with serving(tiny_checkpoints[1], api_key="a secret of ours") as server:
        yield server


def test_a_wrong_key_is_an_authentication_error(locked: Server) -> None:
    for key in ("guess", "a secret of our", "a secret of ours!"):
        with locked.client(key) as client, pytest.raises(openai.AuthenticationError) as caught:
            client.models.list()
        assert caught.value.code == "invalid_api_key"
        assert key not in caught.value.message


def test_the_right_key_opens(locked: Server) -> None:
    with locked.client("a secret of ours") as client:
        assert [model.id for model in client.models.list()] == ["plain"]
        got = client.completions.create(model="plain", prompt="The", max_tokens=2)
    assert got.usage.completion_tokens <= 2


def test_too_many_requests_are_a_rate_limit_error(
    start_server: StartServer, tmp_path: Path
) -> None:
    long = write_tiny_checkpoint(tmp_path / "long.safetensors", context_length=200_000)
    limits = {"max_batch_size": 1, "max_waiting": 0, "max_new_tokens": 200_000}
    sets = [part for name, x in limits.items() for part in ("--set", f"limits.{name}={x}")]
    endless = {"min_tokens": 199_000, "stop_on_loop": False}
    with start_server(long, *sets).client() as client:
        asked = {"model": "long", "prompt": "The"}
        with client.completions.create(**asked, stream=True, extra_body=endless) as stream:
            next(stream)
            with pytest.raises(openai.RateLimitError) as caught:
                client.completions.create(**asked)
        assert client.with_options(max_retries=9).completions.create(**asked, max_tokens=2)

    assert int(caught.value.response.headers["retry-after"]) >= 1
    assert caught.value.code == "overloaded"


def test_a_request_that_takes_too_long_is_a_server_error(
    start_server: StartServer, tiny_checkpoints: tuple[Path, Path]
) -> None:
    server = start_server(tiny_checkpoints[1], "--set", "limits.request_seconds=1e-9")
    with server.client() as client, pytest.raises(openai.InternalServerError) as caught:
        client.completions.create(model="plain", prompt="The")
    assert caught.value.code == "request_timeout"
