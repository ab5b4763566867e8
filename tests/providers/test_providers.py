"""What every provider promises, and what each of them does besides."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tiny import tiny_loaded, write_tiny_checkpoint
from tinyllm.config.base import load_config
from tinyllm.config.providers import CheckpointProvider as CheckpointSettings
from tinyllm.config.providers import ProviderConfig
from tinyllm.errors import ConfigError, DataError, UsageError
from tinyllm.generation.batch import Batch
from tinyllm.generation.engine import Engine
from tinyllm.providers.base import CallSampling, Completion, ItemError, RetryableError, RunError
from tinyllm.providers.checkpoint import CheckpointProvider
from tinyllm.providers.offline import OfflineProvider
from tinyllm.providers.opening import open_provider
from tinyllm.providers.scripted import ScriptedProvider
from tinyllm.records import Message
from tinyllm.reporting import SilentReporter

SAMPLING = CallSampling(max_tokens=20, temperature=0.8, seed=5)
ASKED = (Message("user", 'A story with "fox", "jump" and "happy". It has a dialogue.'),)


def checkpoint_provider() -> CheckpointProvider:
    return CheckpointProvider(Engine(tiny_loaded(chat=True), max_batch_size=4), "tiny")


def ask(provider, messages=ASKED, sampling=SAMPLING, **options) -> Completion:
    async def once() -> Completion:
        try:
            return await provider.generate(messages, sampling, **options)
        finally:
            await provider.aclose()

    return asyncio.run(once())


@pytest.mark.parametrize(
    "make", [OfflineProvider, lambda: ScriptedProvider(["A text."]), checkpoint_provider]
)
def test_pieces_make_up_the_whole(make: Callable) -> None:
    pieces: list[str] = []
    completion = ask(make(), on_text=pieces.append)
    assert "".join(pieces) == completion.text
    assert completion.usage.completion_tokens > 0
    assert make().capabilities().is_deterministic


def test_the_grammar_tells_what_is_asked_for() -> None:
    told = ask(OfflineProvider())
    assert told.finish_reason == "stop"
    assert all(word in told.text for word in ("fox", "jump", "happy"))
    assert '"' in told.text
    assert ask(OfflineProvider()) == told
    assert ask(OfflineProvider(), sampling=CallSampling(20, seed=6)).text != told.text


def test_the_grammar_answers_any_prompt() -> None:
    for prompt in ("Tell me something.", "", 'About "quantum" and "fox".', "\ud800"):
        assert ask(OfflineProvider(), (Message("user", prompt),)).text


def test_a_script_gives_answers_in_order_then_none() -> None:
    provider = ScriptedProvider(
        ["a", RetryableError("server", "busy"), ItemError("bad_request", "x")]
    )
    assert ask(provider).text == "a"
    with pytest.raises(RetryableError):
        ask(provider)
    with pytest.raises(ItemError):
        ask(provider)
    with pytest.raises(RunError, match="no more answers"):
        ask(provider)
    assert [asked[0] for asked in provider.asked] == [ASKED] * 4


def test_a_script_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "script.jsonl"
    answers = [
        {"text": "Once", "finish_reason": "length"},
        {"fault": "retry", "kind": "rate_limit", "wait_seconds": 2},
        {"fault": "run", "message": "no"},
    ]
    path.write_text("".join(json.dumps(answer) + "\n" for answer in answers))
    config = load_config(ProviderConfig, flags={"kind": "scripted", "scripted.path": path})
    provider = open_provider(config, SilentReporter())
    assert ask(provider).finish_reason == "length"
    with pytest.raises(RetryableError) as caught:
        ask(provider)
    assert (caught.value.kind, caught.value.wait_seconds) == ("rate_limit", 2)
    with pytest.raises(RunError, match="no"):
        ask(provider)
    path.write_text('{"text": "a"}\n{"fault": "other"}\n')
    with pytest.raises(DataError, match=r"script\.jsonl:2: this is no answer"):
        ScriptedProvider.read(path)


def test_a_checkpoint_answers_the_same_alone_and_among_others() -> None:
    prompts = [(Message("user", f"Tell of a fox and {i} birds."),) for i in range(9)]

    async def together() -> list[Completion]:
        provider = checkpoint_provider()
        try:
            return await asyncio.gather(*(provider.generate(p, SAMPLING) for p in prompts))
        finally:
            await provider.aclose()

    alone = [ask(checkpoint_provider(), prompt) for prompt in prompts[:3]]
    assert asyncio.run(together())[:3] == alone


def test_a_cancelled_request_leaves_the_others_alone() -> None:
    async def run() -> Completion:
        provider = checkpoint_provider()
        try:
            given_up = asyncio.create_task(provider.generate(ASKED, CallSampling(60, seed=1)))
            kept = asyncio.create_task(provider.generate(ASKED, SAMPLING))
            await asyncio.sleep(0)
            given_up.cancel()
            return await kept
        finally:
            await provider.aclose()

    assert asyncio.run(run()) == ask(checkpoint_provider())


def test_a_checkpoint_says_when_it_was_cut_and_refuses_what_is_too_long() -> None:
    cut = ask(checkpoint_provider(), sampling=CallSampling(max_tokens=3, seed=0))
    assert (cut.finish_reason, cut.usage.completion_tokens) == ("length", 3)
    with pytest.raises(ItemError) as caught:
        ask(checkpoint_provider(), (Message("user", "fox " * 500),))
    assert caught.value.reason == "context_overflow"


@pytest.mark.parametrize("where", ["open_batch", "step"])
def test_a_checkpoint_that_breaks_leaves_nobody_waiting(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: object) -> None:
        raise MemoryError("no room")

    async def run() -> list[object]:
        provider = checkpoint_provider()
        owner = provider._engine if where == "open_batch" else Batch
        monkeypatch.setattr(owner, where, breaks)
        messages, sampling = (Message("user", "Hi"),), CallSampling(max_tokens=3, seed=0)
        asked = [provider.generate(messages, sampling) for _ in range(3)]
        answers: list[object] = list(await asyncio.gather(*asked, return_exceptions=True))
        answers += await asyncio.gather(
            provider.generate(messages, sampling), return_exceptions=True
        )
        await provider.aclose()
        return answers

    answers = asyncio.run(asyncio.wait_for(run(), 60))
    assert [type(answer) for answer in answers] == [RunError] * 4
    assert "cannot go on: MemoryError: no room" in str(answers[0])


def test_a_checkpoint_that_takes_no_instructions_is_refused(tmp_path: Path) -> None:
    path = write_tiny_checkpoint(tmp_path / "base.safetensors")
    config = CheckpointSettings(checkpoint=str(path))
    with pytest.raises(UsageError, match="not chat-tuned"):
        CheckpointProvider.open(config, SilentReporter())


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ({"kind": "openai"}, "needs `openai.model`"),
        ({"kind": "scripted"}, "needs `scripted.path`"),
        ({"openai.model": "x"}, "`openai` is set, and `kind` is offline"),
        ({"kind": "openai", "openai.model": "x", "openai.base_urls": "ftp://x"}, "is no address"),
        ({"price.input_per_million": "much"}, "is not an amount"),
    ],
)
def test_a_provider_that_cannot_be_is_refused(flags: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(ProviderConfig, flags=flags)
    assert sentence in caught.value.message
