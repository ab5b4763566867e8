"""A server that others wrote: `transformers serve`, on a tiny model with random weights."""

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.tiny import tiny_tokenizer
from tinyllm.config.providers import OpenAIProvider as OpenAISettings
from tinyllm.config.providers import Timeouts
from tinyllm.providers.base import CallSampling, Completion, RunError
from tinyllm.providers.openai_api import OpenAIProvider
from tinyllm.records import Message

pytestmark = pytest.mark.long

_START_SECONDS = 120
_TEMPLATE = (
    "{% for m in messages %}### Instruction:\n{{ m['content'] }}\n\n{% endfor %}### Response:\n"
)


def write_model(folder: Path) -> None:
    """Save a two-layer model as others read it."""
    import torch
    from tokenizers import Tokenizer
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = tiny_tokenizer()
    end = tokenizer.end_of_text_id
    fast = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(tokenizer.to_json()), eos_token="<|endoftext|>"
    )
    fast.chat_template = _TEMPLATE
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        eos_token_id=end,
        bos_token_id=None,
        pad_token_id=end,
    )
    LlamaForCausalLM(config).save_pretrained(folder)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The base URL of a running server, and its model's name."""
    folder = tmp_path_factory.mktemp("foreign")
    write_model(folder)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(Path(sys.executable).with_name("transformers")), "serve", str(folder)]
    process = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"],
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_until_it_answers(process, f"http://127.0.0.1:{port}/health")
        yield f"http://127.0.0.1:{port}/v1", str(folder)
    finally:
        process.terminate()
        process.wait(30)


def _wait_until_it_answers(process: "subprocess.Popen[bytes]", url: str) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            httpx.get(url, timeout=1)
        except httpx.TransportError:
            time.sleep(0.2)
        else:
            return
    raise AssertionError("the server did not start")


def ask(address: str, model: str, *, pieces: list[str] | None = None) -> Completion:
    config = OpenAISettings(model=model, base_urls=(address,))
    provider = OpenAIProvider(config, Timeouts(), concurrency=2)

    async def once() -> Completion:
        try:
            return await provider.generate(
                (Message("user", "Tell of a fox."),),
                CallSampling(max_tokens=12, temperature=0.9, seed=4),
                on_text=None if pieces is None else pieces.append,
            )
        finally:
            await provider.aclose()

    return asyncio.run(once())


def test_whole_answers(address: tuple[str, str]) -> None:
    answer = ask(*address)
    assert answer.finish_reason == "length"
    assert answer.text
    assert answer.usage.completion_tokens == 12
    assert not answer.usage.is_estimated


def test_streamed_answers(address: tuple[str, str]) -> None:
    pieces: list[str] = []
    answer = ask(*address, pieces=pieces)
    assert "".join(pieces) == answer.text
    assert answer.finish_reason == "length"


def test_an_address_without_chat_is_told_at_once(address: tuple[str, str]) -> None:
    with pytest.raises(RunError, match="answered 404"):
        ask(f"{address[0]}/elsewhere", address[1])
