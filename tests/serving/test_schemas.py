"""The schemas of requests and answers against what they describe."""

import json

import httpx
import pytest
from pydantic import ValidationError

from tests.serving.conftest import Server
from tinyllm.config.generation import Sampling
from tinyllm.serving.answers import (
    ChatChunk,
    ChatCompletion,
    Completion,
    CompletionChunk,
    Health,
    ModelList,
)
from tinyllm.serving.failures import ErrorBody
from tinyllm.serving.requests import ChatRequest, CompletionRequest

OURS = {"max_new_tokens": "max_tokens", "min_new_tokens": "min_tokens"}
BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")


def bounds(schema: dict) -> dict:
    found = next(part for part in schema.get("anyOf", [schema]) if part.get("type") != "null")
    return {name: found[name] for name in BOUNDS if name in found}


def test_every_setting_can_be_asked_for_within_its_own_bounds() -> None:
    settings = Sampling.model_json_schema()["properties"]
    fields = CompletionRequest.model_json_schema()["properties"]
    assert {OURS.get(name, name) for name in settings} <= {*fields}
    for name in settings.keys() - {"seed"}:
        assert bounds(fields[OURS.get(name, name)]) == bounds(settings[name]), name


@pytest.mark.parametrize("schema", [ChatRequest, CompletionRequest])
def test_a_request_schema_names_every_accepted_field(schema) -> None:
    described = schema.model_json_schema()
    assert described["additionalProperties"] is False
    assert {"user", "metadata", "best_of", "seed"} <= {*described["properties"]}


@pytest.mark.parametrize(
    ("schema", "body"),
    [
        (ChatRequest, {"messages": [{}] * 1000}),
        (ChatRequest, {"messages": [{"role": "user", "content": [{}] * 1000}]}),
        (CompletionRequest, {"prompt": [{}] * 1000}),
        (CompletionRequest, {"prompt": [[1], *[[-1] * 1000] * 1000]}),
        (CompletionRequest, {"prompt": "a", "ban": [1] * 1000}),
        (CompletionRequest, {"prompt": "a", "end_tokens": [1] * 1000}),
        (CompletionRequest, {"prompt": "a", "stop": [1] * 16}),
        (CompletionRequest, {"prompt": "a", "logit_bias": {str(i): "x" for i in range(2000)}}),
    ],
    ids=["messages", "parts", "prompts", "ids", "ban", "end tokens", "stop", "biases"],
)
def test_of_many_faults_only_the_first_are_looked_for(schema, body) -> None:
    with pytest.raises(ValidationError) as caught:
        schema.model_validate(body)
    assert caught.value.error_count() <= 4  # one for each form that a field may have


CHAT = {"messages": [{"role": "user", "content": "fox"}], "max_tokens": 9, "n": 2, "seed": 1}
TEXT = {"model": "plain", "prompt": ["a", "b"], "max_tokens": 9, "n": 2, "seed": 1, "echo": True}


@pytest.mark.parametrize(
    ("path", "body", "whole", "chunk"),
    [
        ("chat/completions", CHAT, ChatCompletion, ChatChunk),
        ("chat/completions", {**CHAT, "logprobs": True}, ChatCompletion, ChatChunk),
        ("completions", TEXT, Completion, CompletionChunk),
        ("completions", {**TEXT, "echo": False, "logprobs": 2}, Completion, CompletionChunk),
    ],
)
def test_answers_are_what_the_schemas_say(server: Server, path, body, whole, chunk) -> None:
    def exactly(schema, value: object) -> None:
        """The value has the schema's fields, and no other."""
        assert json.loads(schema.model_validate(value).model_dump_json(exclude_unset=True)) == value

    url = f"{server.url}/v1/{path}"
    exactly(whole, httpx.post(url, json=body).json())
    streamed = {**body, "stream": True, "stream_options": {"include_usage": True}}
    lines = httpx.post(url, json=streamed).text.split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    for line in lines[:-2]:
        exactly(chunk, json.loads(line.removeprefix("data: ")))


def test_the_others_are_too(server: Server) -> None:
    for path, schema in (("/v1/models", ModelList), ("/health", Health), ("/nope", ErrorBody)):
        value = httpx.get(server.url + path).json()
        assert schema.model_validate(value).model_dump() == value


def test_the_document_tells_of_400_and_not_of_422(server: Server) -> None:
    document = httpx.get(server.url + "/openapi.json").json()
    for path in document["paths"].values():
        for operation in path.values():
            assert "400" in operation["responses"]
            assert "422" not in operation["responses"]
    text = json.dumps(document)
    names = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert names <= {*document["components"]["schemas"]}
