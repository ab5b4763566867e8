"""Texts that come and go: each is what it would be alone, and costs what is new of it."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.tiny import tiny_loaded
from tinyllm.config.generation import Sampling
from tinyllm.errors import CheckpointError, TinyLLMError, UsageError
from tinyllm.generation.batch import Batch
from tinyllm.generation.engine import Completion, Engine, Step, join
from tinyllm.generation.runner import Decoding, Runner
from tinyllm.generation.runner_native import NativeRunner

FREE = Sampling(temperature=1.0, top_p=1.0, max_new_tokens=24)
PROMPTS = [
    "",
    "sun",
    "Once upon a time",
    "Once upon a time there was a little fox",
    "Once upon a time there was a little house by the river. One day",
    "The moon",
    "One day the fox found a map and",
]
SETTINGS = [
    Sampling(temperature=0.0, max_new_tokens=30),
    FREE,
    Sampling(temperature=0.0),
    Sampling(temperature=8.0, top_p=1.0, stop=("a",)),
    Sampling(temperature=1.3, top_k=9, repetition_penalty=1.4, repeat_last_n=5, max_new_tokens=9),
    Sampling(temperature=1.0, end_tokens=("t", "e"), min_new_tokens=3, no_repeat_ngram=2),
    Sampling(temperature=1.0, max_new_tokens=6, logprobs=2, logit_bias={17: 4.0}),
]


def collect(batch: Batch, *, n_steps: int = 10_000) -> dict[int, Completion | TinyLLMError]:
    """Step until nothing is left to do, or n_steps times; return what ended, by ticket."""
    return dict(_ended(batch, {}, n_steps))


def _ended(
    batch: Batch, steps: dict[int, list[Step]], n_steps: int
) -> Iterator[tuple[int, Completion | TinyLLMError]]:
    while (batch.n_live or batch.n_waiting) and n_steps:
        n_steps -= 1
        for ticket, outcome in batch.step():
            if isinstance(outcome, TinyLLMError):
                yield ticket, outcome
                continue
            steps.setdefault(ticket, []).append(outcome)
            if outcome.finish_reason is not None:
                yield ticket, join(steps[ticket])


def as_exact(engine: Engine, found: Completion | TinyLLMError) -> Completion | TinyLLMError:
    """Return what must be the same to the bit: PyTorch's odds depend on the batch, by rounding."""
    is_exact = isinstance(engine.runner, NativeRunner) or not isinstance(found, Completion)
    return found if is_exact else replace(found, odds=None)


def alone(engine: Engine, *text: object, **options: object) -> Completion | TinyLLMError:
    """Draw one text in a batch of its own."""
    batch = engine.open_batch()
    ticket = batch.add(*text, **options)
    return as_exact(engine, collect(batch)[ticket])


class TextsComeAndGo(RuleBasedStateMachine):
    """Whatever else a batch does, every text that ends is the one that is drawn alone."""

    make_engine: Callable[..., Engine]
    known: ClassVar[dict[object, Completion | TinyLLMError]]

    @initialize(n_rows=st.sampled_from([1, 2, 3, 7]))
    def open(self, n_rows):
        self.engine = self.make_engine(max_batch_size=n_rows)
        self.batch, self.n_rows = self.engine.open_batch(), n_rows
        self.asked, self.steps = {}, {}

    @rule(
        prompt=st.sampled_from(PROMPTS),
        sampling=st.sampled_from(SETTINGS),
        seed=st.integers(0, 2),
        sample=st.integers(0, 2),
        n_times=st.sampled_from([1, 1, 2, 9]),
    )
    def add(self, prompt, sampling, seed, sample, n_times):
        ids = self.engine.tokenizer.encode(prompt)
        for i in range(n_times):
            ticket = self.batch.add(ids, sampling, seed=seed, sample=sample + i)
            self.asked[ticket] = (tuple(ids), sampling, seed, sample + i)

    @precondition(lambda self: self.asked)
    @rule(data=st.data())
    def cancel(self, data):
        ticket = data.draw(st.sampled_from(sorted(self.asked)))
        self.batch.cancel(ticket)
        del self.asked[ticket]

    @rule(n_steps=st.sampled_from([1, 2, 10]))
    def step(self, n_steps):
        self.check(n_steps)

    def teardown(self):
        if hasattr(self, "batch"):
            self.check(10_000)
            assert not self.asked
            assert self.batch.n_live == self.batch.n_waiting == 0

    def check(self, n_steps):
        for ticket, found in _ended(self.batch, self.steps, n_steps):
            ids, sampling, seed, sample = text = self.asked.pop(ticket)
            if text not in self.known:
                self.known[text] = alone(self.engine, ids, sampling, seed=seed, sample=sample)
            assert as_exact(self.engine, found) == self.known[text]
        assert self.batch.n_live <= self.n_rows
        assert self.batch.n_live + self.batch.n_waiting == len(self.asked)


@pytest.mark.parametrize("family", ["llama", "gpt-neo"])
def test_texts_come_and_go_and_each_is_what_it_is_alone(make_engine, family):
    is_native = isinstance(make_engine(tiny_loaded()).runner, NativeRunner)
    loaded = tiny_loaded(family=family)

    class Machine(TextsComeAndGo):
        known: ClassVar[dict[object, Completion | TinyLLMError]] = {}

        def make_engine(self, **options):
            return make_engine(loaded, **options)

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=20 if is_native else 4, stateful_step_count=10, deadline=None
        ),
    )


@pytest.mark.parametrize("sampling", SETTINGS[:3], ids=str)
def test_a_text_is_the_same_in_a_batch_of_64_and_joining_late(make_engine, plain, sampling):
    engine = make_engine(plain, max_batch_size=64)
    prompts = [plain.tokenizer.encode(prompt) for prompt in PROMPTS]
    wanted = [alone(engine, prompt, sampling, seed=3, sample=k) for k, prompt in enumerate(prompts)]
    batch = engine.open_batch()
    others = [batch.add(prompts[i % 7], FREE, seed=5, sample=i) for i in range(57)]
    collect(batch, n_steps=2)
    tickets = [batch.add(prompt, sampling, seed=3, sample=k) for k, prompt in enumerate(prompts)]
    for ticket in others[::3]:
        batch.cancel(ticket)
    found = collect(batch)
    assert [found[ticket] for ticket in tickets] == wanted


def test_parts_draw_side_by_side_what_the_whole_draws(plain):
    engine = Engine(plain, max_batch_size=5)
    prompts = [plain.tokenizer.encode(prompt) for prompt in PROMPTS]
    seeded = FREE.model_copy(update={"seed": 5})
    expected = engine.complete(prompts, seeded, n=2)
    parts = engine.parts()

    with ThreadPoolExecutor() as pool:
        found = list(pool.map(lambda part: part.complete(prompts, seeded, n=2), parts))

    assert sum(part.max_batch_size for part in parts) == 5
    assert found == [expected] * len(parts)


def test_a_turn_reads_only_what_is_new(make_engine, plain):
    batch = make_engine(plain).open_batch()
    first = plain.tokenizer.encode("Once upon a time there was a fox")
    ticket = batch.add(first, FREE, seed=1)
    answer = collect(batch)[ticket].ids
    assert (batch.n_prompt_tokens, batch.n_reused_tokens) == (len(first), 0)
    second = [*first, *answer, *plain.tokenizer.encode(" and the moon")]
    batch.add(second, FREE, seed=2)
    collect(batch)
    known = len(first) + len(answer) - 1  # the last token of an answer is not read
    assert batch.n_reused_tokens == known
    assert batch.n_prompt_tokens == len(first) + len(second) - known


def test_samples_of_a_prompt_read_it_once(make_engine, plain):
    batch = make_engine(plain).open_batch()
    prompt = plain.tokenizer.encode("One day the fox found a map and")
    for sample in range(10):
        batch.add(prompt, FREE, seed=1, sample=sample)
    collect(batch, n_steps=1)
    assert batch.n_live == 10
    assert batch.n_prompt_tokens == len(prompt) + 9  # each reads the last token itself
    assert batch.n_reused_tokens == 9 * (len(prompt) - 1)


def test_two_conversations_in_turn_keep_what_they_have_read(make_engine, plain):
    batch = make_engine(plain).open_batch()
    talks = [plain.tokenizer.encode(text) for text in ("Once upon a time", "The moon was high")]
    for turn in range(3):
        for talk in talks:
            n_read = batch.n_prompt_tokens
            ticket = batch.add(talk, FREE, seed=turn)
            talk.extend(collect(batch)[ticket].ids)
            assert turn == 0 or batch.n_prompt_tokens - n_read <= 4
            talk.extend(plain.tokenizer.encode(" so"))


class Watched:
    """A runner that shows the rows it has opened."""

    def __init__(self, inner: Runner) -> None:
        self._inner = inner

    def open(self, n_rows: int, max_length: int) -> Decoding:
        self.decoding = self._inner.open(n_rows, max_length)
        return self.decoding


def test_rows_are_used_again(make_engine, plain):
    watched = Watched(make_engine(plain).runner)
    batch = Engine(plain, runner=watched, max_batch_size=6).open_batch()
    sizes = set()
    for round_ in range(4):
        for i in range(20):
            batch.add([5 + i, 6 + round_, 7], FREE, seed=i)
        assert len(collect(batch)) == 20
        sizes.add(len(watched.decoding.lengths))
    assert sizes == {6}


def test_one_text_at_a_time_takes_few_rows(make_engine, plain):
    watched = Watched(make_engine(plain).runner)
    batch = Engine(plain, runner=watched).open_batch()
    for i in range(30):
        batch.add([2 + i, 3, 4], FREE, seed=i)
        collect(batch)
    assert len(watched.decoding.lengths) <= 4


def test_texts_beyond_the_rows_wait_in_their_order(make_engine, plain):
    batch = make_engine(plain, max_batch_size=2).open_batch()
    tickets = [batch.add([9, 8, i], FREE, seed=i) for i in range(5)]
    assert (batch.n_live, batch.n_waiting) == (0, 5)
    begun: list[int] = []
    while batch.n_live or batch.n_waiting:
        for ticket, _ in batch.step():
            if ticket not in begun:
                begun.append(ticket)
        assert batch.n_live <= 2
    assert begun == tickets


def test_a_cancelled_text_leaves_at_once(make_engine, plain):
    batch = make_engine(plain, max_batch_size=1).open_batch()
    live, waiting, next_one = (batch.add([4, 5, 6], FREE, seed=i) for i in range(3))
    batch.step()
    batch.cancel(waiting)
    batch.cancel(live)
    assert (batch.n_live, batch.n_waiting) == (0, 1)
    assert set(collect(batch)) == {next_one}
    for ticket in (live, waiting, next_one, 99):  # ended or unknown: nothing to do
        batch.cancel(ticket)


@pytest.mark.parametrize("logprobs", [None, 1])
def test_an_output_that_is_not_a_number_ends_only_its_own_text(make_engine, logprobs):
    loaded = tiny_loaded()
    poison, prompt = 40, [7, 8, 9, 10, 11]
    with torch.no_grad():
        loaded.model.model.embed_tokens.weight[poison] = float("nan")
        loaded.model.config = loaded.model.config.model_copy(update={"tie_embeddings": False})
        loaded.model.lm_head = torch.nn.Linear(32, loaded.model.config.vocab_size, bias=False)
        torch.nn.init.normal_(loaded.model.lm_head.weight, generator=torch.Generator())
    engine = make_engine(loaded, max_batch_size=3)
    sampling = Sampling(temperature=1.0, max_new_tokens=20, logprobs=logprobs, ban=(f"#{poison}",))
    wanted = [alone(engine, prompt, sampling, seed=seed) for seed in range(3)]
    assert all(isinstance(text, Completion) for text in wanted)
    batch = engine.open_batch()
    bad = batch.add([*prompt[1:], poison, 3], sampling, seed=0)
    good = [batch.add(prompt, sampling, seed=seed) for seed in range(3)]
    found = collect(batch)
    assert isinstance(found[bad], CheckpointError)
    assert [as_exact(engine, found[ticket]) for ticket in good] == wanted
    again = [batch.add(prompt, sampling, seed=seed) for seed in range(3)]  # in the same rows
    found = collect(batch)
    assert [as_exact(engine, found[ticket]) for ticket in again] == wanted


def test_a_text_for_which_everything_is_banned_ends_alone(make_engine, plain):
    engine = make_engine(plain)
    everything = tuple(f"#{i}" for i in range(plain.model.config.vocab_size))
    batch = engine.open_batch()
    bad = batch.add([1, 2], FREE.model_copy(update={"ban": everything}), seed=1)
    good = batch.add([1, 2], FREE, seed=1)
    found = collect(batch)
    assert isinstance(found[bad], UsageError)
    assert found[good] == alone(engine, [1, 2], FREE, seed=1)


def test_what_cannot_be_drawn_is_refused_when_it_is_added(make_engine, plain):
    batch = make_engine(plain).open_batch()
    with pytest.raises(UsageError, match="96 tokens long"):
        batch.add([1] * 96, FREE, seed=1)
    with pytest.raises(UsageError):
        batch.add([1], FREE.model_copy(update={"ban": ("no such single token",)}), seed=1)
    assert batch.n_waiting == 0
    assert batch.step() == []


def test_odds_are_the_model_s_own(make_engine, plain):
    sampling = Sampling(temperature=0.5, top_k=3, max_new_tokens=5, logprobs=4)
    prompt = plain.tokenizer.encode("Once upon")
    batch = make_engine(plain).open_batch()
    ticket = batch.add(prompt, sampling, seed=4)
    completion = collect(batch)[ticket]
    ids = list(prompt)
    for odds, token_id in zip(completion.odds, completion.ids, strict=True):
        with torch.inference_mode():
            wanted = plain.model(torch.tensor([ids]))[0, -1].log_softmax(-1)
        assert odds.token_id == token_id
        assert odds.logprob == pytest.approx(float(wanted[token_id]), abs=1e-4)
        top = wanted.topk(4)
        assert [i for i, _ in odds.top] == top.indices.tolist()
        np.testing.assert_allclose([p for _, p in odds.top], top.values, atol=1e-4)
        ids.append(token_id)


def test_odds_change_no_text(make_engine, plain):
    engine = make_engine(plain)
    for sampling in SETTINGS[:5]:
        plainly = alone(engine, [1, 2, 3], sampling, seed=6)
        asked = sampling.model_copy(update={"logprobs": 3})
        assert alone(engine, [1, 2, 3], asked, seed=6).ids == plainly.ids
