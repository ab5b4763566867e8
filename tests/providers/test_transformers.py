"""Local models of the transformers package: a tiny one with random weights, made here."""

import asyncio
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.tiny import TEXT
from tinyllm.config.base import load_config
from tinyllm.config.providers import ProviderConfig
from tinyllm.errors import ConfigError, ProviderError
from tinyllm.providers.base import CallSampling, Completion, ItemError, RunError
from tinyllm.providers.opening import open_provider
from tinyllm.providers.transformers_local import TransformersProvider
from tinyllm.providers.transformers_model import TransformersModel, is_out_of_memory
from tinyllm.records import Message
from tinyllm.reporting import RecordingReporter, SilentReporter

transformers = pytest.importorskip("transformers")

CONTEXT = 160
TURNS = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
NO_SYSTEM = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
)
THINKS = "{% if enable_thinking %}<think>{% else %}<think></think>{% endif %}"
ASKED = (Message("user", "Tell of a fox."),)
SAMPLING = CallSampling(max_tokens=12, temperature=0.9, top_p=0.95, seed=5)


def tiny_tokenizer(template: str | None = TURNS) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=["<|end|>", "<|user|>", "<|assistant|>", "<|system|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT.splitlines(), trainer)
    made = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>")
    made.chat_template = template
    return made


def tiny_llama(kind: type | None = None) -> Any:
    shape = {
        "vocab_size": 330,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": CONTEXT,
        "eos_token_id": 0,
        "bos_token_id": None,
    }
    model = (kind or transformers.LlamaForCausalLM)(transformers.LlamaConfig(**shape))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            centre = 1.0 if parameter.ndim == 1 else 0.0
            parameter.normal_(centre, 0.3, generator=generator)
    return model


def tiny_model(template: str | None = TURNS, *, thinking: bool = False, **options: Any):
    return TransformersModel(
        tiny_llama(**options), tiny_tokenizer(template), name="tiny", thinking=thinking
    )


def provider(batch_size: int = 4, model: TransformersModel | None = None, reporter=None):
    return TransformersProvider(model or tiny_model(), batch_size, reporter or SilentReporter())


def ask_all(
    asked: TransformersProvider,
    prompts: Sequence[Sequence[Message]],
    samplings: Sequence[CallSampling],
) -> list[Completion | BaseException]:
    async def run() -> list[Completion | BaseException]:
        try:
            calls = [asked.generate(p, s) for p, s in zip(prompts, samplings, strict=True)]
            return await asyncio.gather(*calls, return_exceptions=True)
        finally:
            await asked.aclose()

    return asyncio.run(run())


def ask(asked: TransformersProvider, messages=ASKED, sampling=SAMPLING) -> Completion:
    answer = ask_all(asked, [messages], [sampling])[0]
    if isinstance(answer, BaseException):
        raise answer
    return answer


def many(n: int) -> tuple[list[Sequence[Message]], list[CallSampling]]:
    prompts = [(Message("user", "Tell of " + "a fox and " * i + "a bird."),) for i in range(n)]
    samplings = [CallSampling(5 + i, temperature=0.1 * i, top_p=0.9, seed=i) for i in range(n)]
    return prompts, samplings


def test_answers_are_the_same_alone_and_in_a_batch() -> None:
    prompts, samplings = many(6)
    together = ask_all(provider(), prompts, samplings)
    alone = [ask(provider(1), p, s) for p, s in zip(prompts, samplings, strict=True)]
    assert together == alone
    assert len({completion.text for completion in alone}) > 1
    assert ask(provider(), sampling=CallSampling(12, seed=6)).text != ask(provider()).text


def test_greedy_text_is_that_of_the_package() -> None:
    model, tokenizer = tiny_llama().eval(), tiny_tokenizer()
    prompt = tokenizer("<|user|>Tell of a fox.<|end|><|assistant|>", return_tensors="pt")
    wanted = model.generate(
        prompt["input_ids"],
        attention_mask=prompt["attention_mask"],
        max_new_tokens=12,
        do_sample=False,
        pad_token_id=0,
    )[0, prompt["input_ids"].shape[1] :]
    found = ask(provider(), sampling=CallSampling(12, temperature=0))
    assert found.text == tokenizer.decode(wanted, skip_special_tokens=True)
    assert found.usage.prompt_tokens == prompt["input_ids"].shape[1]


def test_draws_have_the_models_odds() -> None:
    from tinyllm.providers.transformers_model import _noisy

    logits = torch.tensor([2.0, 1.0, 0.0, -1.0])
    generator = torch.Generator().manual_seed(0)
    for top_p in (1.0, 0.85):
        sampling = CallSampling(1, temperature=0.7, top_p=top_p)
        draws = [int(_noisy(logits, sampling, generator).argmax()) for _ in range(4000)]
        odds = torch.softmax(logits / 0.7, -1)
        kept = odds.clone()
        kept[2:] *= top_p == 1.0
        kept /= kept.sum()
        shares = torch.bincount(torch.tensor(draws), minlength=4) / len(draws)
        assert torch.allclose(shares, kept, atol=0.03)


def test_the_end_token_stops_and_the_budget_cuts() -> None:
    replies = ask_all(
        provider(64), [ASKED] * 40, [CallSampling(100, 2.0, 1.0, i) for i in range(40)]
    )
    ended = [reply for reply in replies if reply.finish_reason == "stop"]
    cut = [reply for reply in replies if reply.finish_reason == "length"]
    assert ended
    assert cut
    assert all("<|end|>" not in reply.text for reply in replies)
    assert all(reply.usage.completion_tokens == 100 for reply in cut)
    assert any(reply.usage.completion_tokens < 100 for reply in ended)


def test_an_answer_ends_with_the_context() -> None:
    long = (Message("user", "fox " * 60),)
    answer = ask(provider(), long, CallSampling(500, temperature=0))
    assert answer.finish_reason == "length"
    assert answer.usage.total == CONTEXT
    with pytest.raises(ItemError) as caught:
        ask(provider(), (Message("user", "fox " * 500),))
    assert caught.value.reason == "context_overflow"


def test_a_tokenizer_without_a_template_gets_plain_text() -> None:
    model = tiny_model(None)
    asked = (Message("system", "Be kind."), Message("user", "Tell of a fox \ud800."))
    request = model.request(asked, SAMPLING)
    assert tiny_tokenizer().decode(request.ids) == "Be kind.\n\nTell of a fox ?.\n\n"
    assert ask(provider(model=model)).usage.completion_tokens > 0


def test_a_template_without_a_system_role_gets_its_text_first() -> None:
    model = tiny_model(NO_SYSTEM + TURNS)
    asked = (Message("system", "Be kind."), *ASKED)
    prompt = tiny_tokenizer().decode(model.request(asked, SAMPLING).ids)
    assert prompt == "<|user|>Be kind.\n\nTell of a fox.<|end|><|assistant|>"
    refuses = tiny_model("{{ raise_exception('nothing pleases me') }}")
    with pytest.raises(ItemError, match="nothing pleases me"):
        refuses.request(asked, SAMPLING)


def test_thinking_is_taken_out_and_counted() -> None:
    thinking = ask(provider(model=tiny_model(TURNS + THINKS, thinking=True)))
    assert (thinking.text, thinking.finish_reason) == ("", "length")
    assert 0 < thinking.usage.reasoning_tokens <= thinking.usage.completion_tokens
    answering = ask(provider(model=tiny_model(TURNS + THINKS)))
    assert answering.text
    assert answering.usage.reasoning_tokens == 0


class FewAtATime(transformers.LlamaForCausalLM):
    """A model for which memory really runs out: it asks for more than there is."""

    most = 2

    def forward(self, input_ids=None, **options):
        if input_ids is not None and len(input_ids) > self.most:
            torch.empty(1 << 60, dtype=torch.uint8)
        return super().forward(input_ids=input_ids, **options)


class NoneAtAll(FewAtATime):
    most = 0


class Broken(transformers.LlamaForCausalLM):
    def forward(self, *_: object, **__: object):
        raise RuntimeError("a wire is loose")


def test_a_batch_that_does_not_fit_is_halved() -> None:
    prompts, samplings = many(7)
    reporter = RecordingReporter()
    asked = provider(8, tiny_model(kind=FewAtATime), reporter)
    assert ask_all(asked, prompts, samplings) == ask_all(provider(1), prompts, samplings)
    assert asked.batch_size == 2
    assert asked.capabilities().max_concurrency == 2
    assert any("2 texts at a time" in warning for warning in reporter.warnings)


def test_one_text_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ItemError, match="memory is short for one prompt"):
        ask(provider(model=tiny_model(kind=NoneAtAll)))
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert not is_out_of_memory(RuntimeError("a wire is loose"))


def test_a_model_that_fails_ends_the_run() -> None:
    with pytest.raises(RunError, match=r"tiny cannot go on.*a wire is loose"):
        ask(provider(model=tiny_model(kind=Broken)))


def test_a_cancelled_request_leaves_the_others_alone() -> None:
    async def run() -> Completion:
        asked = provider()
        try:
            given_up = asyncio.create_task(asked.generate(ASKED, CallSampling(100, seed=1)))
            kept = asyncio.create_task(asked.generate(ASKED, SAMPLING))
            await asyncio.sleep(0)
            given_up.cancel()
            return await kept
        finally:
            await asked.aclose()

    assert asyncio.run(run()) == ask(provider())


def test_a_saved_model_is_opened_by_its_folder(tmp_path: Path) -> None:
    tiny_llama().save_pretrained(tmp_path / "teller")
    tiny_tokenizer().save_pretrained(tmp_path / "teller")
    flags = {"kind": "transformers", "transformers.model": str(tmp_path / "teller")}
    opened = open_provider(load_config(ProviderConfig, flags=flags), SilentReporter())
    assert opened.capabilities().model == "teller"
    found = ask(opened)
    assert found.text == ask(provider()).text
    assert found.model == "teller"


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    flags = {"kind": "transformers", "transformers.model": str(tmp_path)}
    with pytest.raises(ProviderError) as caught:
        open_provider(load_config(ProviderConfig, flags=flags), SilentReporter())
    assert str(tmp_path) in caught.value.message
    with pytest.raises(ConfigError, match="kind transformers needs"):
        load_config(ProviderConfig, flags={"kind": "transformers"})


def test_without_the_package_its_command_is_named(tmp_path: Path) -> None:
    script = (
        "import sys; sys.modules['transformers'] = None; from tinyllm.cli.app import main; main()"
    )
    settings = [
        *("--set", "provider.kind=transformers"),
        *("--set", "provider.transformers.model=x"),
        *("--output", str(tmp_path / "stories")),
    ]
    done = subprocess.run(
        [sys.executable, "-c", script, "gen-stories", *settings],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 7, done.stderr
    assert 'pip install "tinyllm[hf]"' in done.stderr
