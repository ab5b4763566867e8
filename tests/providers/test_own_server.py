"""Our own server, asked by the provider for OpenAI's protocol, says what the model says here."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving.conftest import Server, serving
from tests.tiny import write_tiny_checkpoint
from tinyllm.config.providers import CheckpointProvider as CheckpointSettings
from tinyllm.config.providers import OpenAIProvider as OpenAISettings
from tinyllm.config.providers import Timeouts
from tinyllm.providers.base import CallSampling, Completion, ItemError, Provider
from tinyllm.providers.checkpoint import CheckpointProvider
from tinyllm.providers.openai_api import OpenAIProvider
from tinyllm.records import Message
from tinyllm.reporting import SilentReporter

PROMPTS = [(Message("user", f"Tell of {n} birds."),) for n in ("two", "nine", "no")]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    return write_tiny_checkpoint(folder / "tiny.safetensors", chat=True)


@pytest.fixture(scope="module")
def server(checkpoint: Path) -> Iterator[Server]:
    with serving(checkpoint) as started:
        yield started


def ask(provider: Provider, *, streams: bool = False) -> list[Completion]:
    """Ask all prompts at the same time."""

    async def all_at_once() -> list[Completion]:
        pieces: list[list[str]] = [[] for _ in PROMPTS]
        try:
            answers = await asyncio.gather(
                *(
                    provider.generate(
                        prompt,
                        CallSampling(max_tokens=24, temperature=0.9, top_p=0.9, seed=11 + n),
                        on_text=pieces[n].append if streams else None,
                    )
                    for n, prompt in enumerate(PROMPTS)
                )
            )
        finally:
            await provider.aclose()
        if streams:
            assert ["".join(piece) for piece in pieces] == [answer.text for answer in answers]
        return answers

    return asyncio.run(all_at_once())


def over_http(server: Server, model: str) -> OpenAIProvider:
    config = OpenAISettings(model=model, base_urls=(f"{server.url}/v1",))
    return OpenAIProvider(config, Timeouts(), concurrency=4)


@pytest.mark.parametrize("streams", [False, True])
def test_a_model_says_the_same_over_http_and_in_this_process(
    checkpoint: Path, server: Server, streams: bool
) -> None:
    settings = CheckpointSettings(checkpoint=str(checkpoint), device="cpu")
    here = ask(CheckpointProvider.open(settings, SilentReporter()))
    there = ask(over_http(server, server.models[0]), streams=streams)
    assert [a.text for a in there] == [a.text for a in here]
    assert [a.finish_reason for a in there] == [a.finish_reason for a in here]
    assert [a.usage for a in there] == [a.usage for a in here]


def test_a_prompt_that_is_too_long_is_told_apart(server: Server) -> None:
    provider = over_http(server, server.models[0])

    async def once() -> None:
        try:
            await provider.generate((Message("user", "fox " * 500),), CallSampling(max_tokens=5))
        finally:
            await provider.aclose()

    with pytest.raises(ItemError) as caught:
        asyncio.run(once())
    assert caught.value.reason == "context_overflow"
