"""Drawing texts: the same for any batch, ended for the right reason, whole characters only."""

import pytest
import torch

from tests.tiny import tiny_loaded
from tinyllm.config.generation import Sampling
from tinyllm.errors import CheckpointError, UsageError
from tinyllm.generation.engine import Engine, Step, join
from tinyllm.generation.runner_native import NativeRunner
from tinyllm.generation.runner_torch import TorchRunner
from tinyllm.kernels import build

PROMPTS = ["Once upon a time", "The", "One day the fox found a map and", "sun"]
FREE = Sampling(temperature=1.0, top_p=1.0, max_new_tokens=24, seed=11)


def encode(loaded, texts=PROMPTS):
    return [loaded.tokenizer.encode(text) for text in texts]


def greedy_without_cache(loaded, ids, n):
    """The plainest decoder there is."""
    ids = list(ids)
    for _ in range(n):
        with torch.inference_mode():
            logits = loaded.model(torch.tensor([ids]))[0, -1]
        ids.append(int(logits.argmax()))
    return ids


@pytest.mark.parametrize("family", ["llama", "gpt-neo"])
def test_greedy_text_equals_decoding_without_a_cache(make_engine, family):
    loaded = tiny_loaded(family=family)
    prompts = encode(loaded)
    completions = make_engine(loaded).complete(
        prompts, Sampling(temperature=0.0, max_new_tokens=30)
    )
    for prompt, completion in zip(prompts, completions, strict=True):
        n = len(completion.ids)
        assert [*prompt, *completion.ids] == greedy_without_cache(loaded, prompt, n)


@pytest.mark.parametrize("sampling", [Sampling(temperature=0.0, max_new_tokens=20), FREE], ids=str)
def test_a_text_is_the_same_alone_in_a_batch_and_streamed(make_engine, plain, sampling):
    prompts = encode(plain)
    together = make_engine(plain).complete(prompts, sampling, n=3)
    in_pieces = make_engine(plain, max_batch_size=2).complete(prompts, sampling, n=3)
    alone = [c.text for p in prompts for c in make_engine(plain).complete([p], sampling, n=3)]
    streamed = join(list(make_engine(plain).generate(prompts[:1], sampling)))
    assert [c.text for c in together] == [c.text for c in in_pieces] == alone
    assert together[0].text == streamed.text
    assert [(c.index, c.sample) for c in together] == [(i, k) for i in range(4) for k in range(3)]


def test_sample_k_does_not_depend_on_how_many_are_drawn(make_engine, plain):
    prompt = encode(plain)[:1]
    five = [c.ids for c in make_engine(plain).complete(prompt, FREE, n=5)]
    two = [c.ids for c in make_engine(plain).complete(prompt, FREE, n=2)]
    assert five[:2] == two
    assert len(set(five)) == 5


def test_another_seed_gives_another_text(make_engine, plain):
    prompt = encode(plain)[:1]
    texts = {
        make_engine(plain).complete(prompt, FREE.model_copy(update={"seed": seed}))[0].ids
        for seed in (1, 2, 3)
    }
    assert len(texts) == 3


def test_the_end_token_ends_the_text_and_is_not_shown(make_engine, plain):
    completions = make_engine(plain).complete(
        encode(plain), Sampling(temperature=1.5, top_p=1.0, seed=3), n=40
    )
    ended = [c for c in completions if c.finish_reason == "stop"]
    assert ended
    for completion in ended:
        assert completion.ids[-1] == plain.tokenizer.end_of_text_id
        assert plain.tokenizer.decode(completion.ids[:-1]).startswith(completion.text)
        assert "<|endoftext|>" not in completion.text


def test_a_text_ends_where_the_context_is_full(make_engine, plain):
    engine = make_engine(plain)
    for prompt in encode(plain):
        for completion in engine.complete([prompt], Sampling(temperature=0.0, stop_on_loop=False)):
            total = len(prompt) + len(completion.ids)
            assert total <= engine.context_length
            assert completion.finish_reason == "stop" or total == engine.context_length


def test_a_prompt_that_fills_the_context_is_refused(make_engine, plain):
    with pytest.raises(UsageError, match=r"96 tokens long.*holds 96"):
        make_engine(plain).complete([[1] * 96], FREE)


def test_an_empty_prompt_begins_a_document(make_engine, plain):
    end = plain.tokenizer.end_of_text_id
    assert make_engine(plain).complete([[]], FREE) == make_engine(plain).complete([[end]], FREE)


def test_a_stop_string_over_token_borders_is_not_shown(make_engine, plain):
    engine = make_engine(plain)
    prompt = encode(plain)[:1]
    whole = engine.complete(prompt, FREE)[0].text
    stop = whole[3:9]
    sampling = FREE.model_copy(update={"stop": (stop,)})
    steps = list(engine.generate(prompt, sampling))
    assert join(steps).finish_reason == "stop_string"
    assert join(steps).text == whole[: whole.index(stop)]
    assert not any(stop[:2] in step.text for step in steps)


def test_streamed_text_never_holds_half_a_character(make_engine, plain):
    """A half would show as another � than those of the whole text; at its end it is dropped."""
    tokenizer = plain.tokenizer
    texts: list[list[Step]] = [[] for _ in range(30)]
    sampling = Sampling(temperature=3.0, top_p=1.0, seed=1)
    for step in make_engine(plain).generate([tokenizer.encode("🌍")], sampling, n=30):
        texts[step.sample].append(step)
    for steps in texts:
        whole = tokenizer.decode([step.token_id for step in steps])
        assert join(steps).text.rstrip("�") == whole.rstrip("�")
    pieces = [step.text for steps in texts for step in steps]
    assert any(len(piece) == 1 and len(piece.encode()) > 1 and piece != "�" for piece in pieces)


def test_an_emoji_over_several_tokens_comes_in_one_piece():
    loaded = tiny_loaded()
    ids = loaded.tokenizer.encode("naïve 🌍 日本")
    assert len(ids) > len("naïve 🌍 日本")
    from tinyllm.tokenizer import TextStream

    stream = TextStream(loaded.tokenizer)
    pieces = [stream.push(token_id) for token_id in ids]
    assert "".join(pieces) == "naïve 🌍 日本"
    assert not any("�" in piece for piece in pieces)


def test_unknown_characters_are_never_written(make_engine):
    loaded = tiny_loaded(kind="char")
    unknown = loaded.tokenizer.unknown_id
    completions = make_engine(loaded).complete(
        encode(loaded, ["fox"]), Sampling(temperature=50.0, top_p=1.0, seed=1), n=8
    )
    assert all(unknown not in completion.ids for completion in completions)


def test_a_diverged_model_is_an_error_and_not_a_text(make_engine):
    loaded = tiny_loaded()
    with torch.no_grad():
        loaded.model.model.norm.weight.fill_(float("nan"))
    with pytest.raises(CheckpointError, match="not a number"):
        make_engine(loaded).complete(encode(loaded), FREE)


def test_a_repetition_penalty_makes_a_text_repeat_less(make_engine, plain):
    def n_different(penalty):
        sampling = Sampling(temperature=0.0, max_new_tokens=60, repetition_penalty=penalty)
        return sum(len(set(c.ids)) for c in make_engine(plain).complete(encode(plain), sampling))

    assert n_different(1.8) > n_different(1.0)


def test_the_number_of_threads_does_not_change_a_text(plain):
    before = torch.get_num_threads()
    texts = []
    try:
        for n_threads in (1, 2):
            torch.set_num_threads(n_threads)
            engine = Engine(plain, runner=TorchRunner(plain.model))
            texts.append([c.text for c in engine.complete(encode(plain), FREE, n=2)])
    finally:
        torch.set_num_threads(before)
    assert texts[0] == texts[1]


@pytest.mark.parametrize("family", ["llama", "gpt-neo"])
def test_texts_that_end_at_different_times_do_not_disturb_each_other(make_engine, family):
    loaded = tiny_loaded(family=family)
    sampling = Sampling(temperature=8.0, top_p=1.0, seed=9, stop=("a",))
    prompts = encode(loaded)
    together = make_engine(loaded).complete(prompts, sampling, n=12)
    assert len({len(completion.ids) for completion in together}) > 10
    alone = [
        c
        for p in prompts
        for c in make_engine(loaded, max_batch_size=1).complete([p], sampling, n=12)
    ]
    assert [c.ids for c in together] == [c.ids for c in alone]


@pytest.mark.skipif(not build.available(), reason="needs a C++ compiler (Debian: g++)")
@pytest.mark.parametrize("family", ["llama", "gpt-neo"])
@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=0.0, max_new_tokens=60),
        Sampling(temperature=1.2, top_p=0.93, max_new_tokens=60, seed=5),
        Sampling(temperature=0.9, top_k=20, repetition_penalty=1.2, no_repeat_ngram=3, seed=6),
        Sampling(temperature=2.0, min_p=0.02, min_new_tokens=9, stop=("a",), seed=7),
    ],
    ids=str,
)
def test_native_code_and_torch_write_the_same_texts(family, sampling):
    loaded = tiny_loaded(family=family)
    by_native, by_torch = (
        Engine(loaded, runner=runner).complete(encode(loaded), sampling, n=3)
        for runner in (NativeRunner.load(loaded), TorchRunner(loaded.model))
    )
    assert by_native == by_torch


@pytest.mark.skipif(not build.available(), reason="needs a C++ compiler (Debian: g++)")
@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_smaller_weights_write_a_text_too(plain, dtype):
    engine = Engine(plain, runner=NativeRunner.load(plain, dtype))
    [completion] = engine.complete(encode(plain)[:1], FREE)
    assert completion == engine.complete(encode(plain), FREE, n=2)[0]


def test_a_torch_batch_goes_on_with_the_rows_that_are_left(plain):
    """Many rows that end one by one: the texts stay those of a batch of one."""
    sampling = Sampling(temperature=8.0, top_p=1.0, seed=2, max_new_tokens=40)
    together = Engine(plain, runner=TorchRunner(plain.model)).complete(encode(plain), sampling, n=8)
    alone = Engine(plain, runner=TorchRunner(plain.model), max_batch_size=1).complete(
        encode(plain), sampling, n=8
    )
    assert [c.ids for c in together] == [c.ids for c in alone]


def test_a_generator_that_is_closed_early_frees_its_rows(make_engine, plain):
    engine = make_engine(plain, max_batch_size=2)
    prompts = encode(plain)
    wanted = make_engine(plain).complete(prompts, FREE)
    steps = engine.generate(prompts, FREE, n=5)
    next(steps)
    steps.close()
    assert engine.complete(prompts, FREE) == wanted
    assert engine.n_reused_tokens > 0


def test_texts_drawn_in_turns_from_one_engine_do_not_mix(make_engine, plain):
    engine = make_engine(plain)
    first, second = encode(plain)[:2]
    turns = zip(engine.generate([first], FREE), engine.generate([second], FREE), strict=False)
    mixed = [step.token_id for pair in turns for step in pair]
    alone = [make_engine(plain).complete([prompt], FREE)[0].ids for prompt in (first, second)]
    n_turns = min(map(len, alone))
    assert mixed == [ids[turn] for turn in range(n_turns) for ids in alone]


def test_an_engine_remembers_what_it_has_read_until_told_to_forget(make_engine, plain):
    engine = make_engine(plain)
    prompt = encode(plain)[2]
    texts = [engine.complete([prompt], FREE) for _ in range(2)]
    assert engine.n_reused_tokens == len(prompt) - 1
    engine.forget()
    texts.append(engine.complete([prompt], FREE))
    assert engine.n_reused_tokens == len(prompt) - 1
    assert engine.n_prompt_tokens == 2 * len(prompt) + 1
    assert texts[0] == texts[1] == texts[2]


def test_a_text_that_goes_round_ends_and_says_so(make_engine):
    loaded = tiny_loaded(context_length=400)
    with torch.no_grad():  # every layer adds nothing: the next token depends on the last one alone
        for name, parameter in loaded.model.named_parameters():
            if "o_proj" in name or "down_proj" in name:
                parameter.zero_()
    greedy = Sampling(temperature=0.0, repetition_penalty=1.0)
    [ended] = make_engine(loaded).complete([[5]], greedy)
    assert ended.finish_reason == "loop"
    assert len(ended.ids) < 100
    [whole] = make_engine(loaded).complete([[5]], greedy.model_copy(update={"stop_on_loop": False}))
    assert whole.finish_reason == "length"
    assert whole.ids[: len(ended.ids)] == ended.ids
    assert whole.text.startswith(ended.text)
