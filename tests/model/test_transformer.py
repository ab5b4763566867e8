"""What the network promises whatever its weights: boundaries, caches, batches, precision."""

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from tests.model.shapes import SHAPES, VOCAB, build, small, tokens
from tinyllm.config.model import ModelConfig
from tinyllm.model.kv_cache import KVCache
from tinyllm.model.transformer import Transformer

CLOSE = {"atol": 2e-5, "rtol": 1e-5}
every_shape = pytest.mark.parametrize("config", SHAPES.values(), ids=SHAPES.keys())
shape_names = st.sampled_from(list(SHAPES))


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.set_grad_enabled(False):
        yield


@every_shape
def test_logits_are_float32_and_shaped(config: ModelConfig) -> None:
    model = build(config)
    logits = model(tokens(2, 7))
    assert logits.shape == (2, 7, VOCAB)
    assert logits.dtype == torch.float32
    hidden = model.hidden_states(tokens(2, 7))
    assert hidden.shape == (2, 7, config.hidden_size)
    assert_close(model.head(hidden), logits)


@every_shape
def test_a_token_sees_nothing_that_follows(config: ModelConfig) -> None:
    model, input_ids = build(config), tokens(1, 30)
    changed = input_ids.clone()
    changed[:, 17:] = (changed[:, 17:] + 1) % VOCAB
    before, after = model(input_ids), model(changed)
    assert_close(after[:, :17], before[:, :17], **CLOSE)
    assert (after[:, 17:] - before[:, 17:]).abs().max() > 0.1


def test_a_local_layer_sees_its_window_and_no_further() -> None:
    config = small(family="gpt-neo", n_layers=2, attention_window=5)
    model, input_ids = build(config), tokens(1, 20)
    attention = model.model.layers[0].self_attn
    attention.is_local = True  # both layers local: a token's reach is 2 x (5 - 1)
    changed = input_ids.clone()
    changed[:, 3] = (changed[:, 3] + 1) % VOCAB
    difference = (model(changed) - model(input_ids)).abs().amax(dim=(0, 2))  # (T,)
    assert bool((difference[3:12] > 1e-4).all())
    assert difference[12:].max() == 0


@settings(deadline=None, max_examples=25)
@given(
    name=shape_names,
    prompts=st.lists(st.integers(1, 20), min_size=1, max_size=4),
    more=st.lists(st.integers(1, 5), min_size=1, max_size=4),
)
def test_cached_equals_uncached_for_ragged_batches(
    name: str, prompts: list[int], more: list[int]
) -> None:
    """Rows of unequal length, padded on the right, then extended by unequal pieces."""
    config = SHAPES[name]
    model, rows = build(config), tokens(len(prompts), 48)
    with torch.no_grad():
        whole = model(rows)
        cache = KVCache.allocate(config, len(prompts), 48)
        done = torch.zeros(len(prompts), dtype=torch.int64)
        for piece in [prompts, *[[n] * len(prompts) for n in more]]:
            counts = torch.tensor(piece)
            width = int(counts.max())
            given_ids = torch.zeros(len(prompts), width, dtype=torch.int64)
            for row, n in enumerate(piece):
                given_ids[row, :n] = rows[row, done[row] : done[row] + n]
            logits = model(given_ids, cache=cache)
            for row, n in enumerate(piece):
                wanted = whole[row, done[row] : done[row] + n]
                assert_close(logits[row, :n], wanted, **CLOSE)
            cache.advance(counts if len(set(piece)) > 1 else piece[0])
            done += counts
            assert cache.lengths.tolist() == done.tolist()
            assert cache.longest == int(done.max())


@every_shape
def test_a_cache_may_hold_half_precision(config: ModelConfig) -> None:
    model, rows = build(config, std=0.05), tokens(2, 12)
    cache = KVCache.allocate(config, 2, 12, dtype=torch.bfloat16)
    model(rows[:, :6], cache=cache)
    cache.advance(6)
    assert_close(model(rows[:, 6:], cache=cache), model(rows)[:, 6:], atol=0.02, rtol=0.02)


@settings(deadline=None, max_examples=25)
@given(name=shape_names, lengths=st.lists(st.integers(1, 15), min_size=1, max_size=3))
def test_packed_documents_equal_separate_ones(name: str, lengths: list[int]) -> None:
    model = build(SHAPES[name])
    documents = [tokens(1, length, seed=i) for i, length in enumerate(lengths)]
    packed = torch.cat(documents, dim=1)
    ids = torch.repeat_interleave(torch.arange(len(lengths)) + 7, torch.tensor(lengths))
    with torch.no_grad():
        logits = model(packed, document_ids=ids.unsqueeze(0))
        wanted = torch.cat([model(document) for document in documents], dim=1)
    assert_close(logits, wanted, **CLOSE)


@every_shape
def test_batch_size_changes_no_logit(config: ModelConfig) -> None:
    model, rows = build(config), tokens(9, 31)
    together = model(rows)
    alone = torch.cat([model(rows[i : i + 1]) for i in range(9)])
    assert_close(together, alone, **CLOSE)
    assert_close(model(torch.cat([rows, tokens(9, 17, seed=5)], dim=1))[:, :31], together, **CLOSE)


def test_weights_depend_on_the_generator_alone() -> None:
    config = small()
    torch.manual_seed(1)
    one = Transformer(config)
    state = torch.get_rng_state()
    two = Transformer(config)
    assert torch.equal(torch.get_rng_state(), state)
    two.init_weights(torch.Generator().manual_seed(3))
    assert not torch.equal(one.head_weight, two.head_weight)
    one.init_weights(torch.Generator().manual_seed(3))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


@every_shape
def test_initial_weights_follow_the_table(config: ModelConfig) -> None:
    wide = config.model_copy(update={"hidden_size": 256, "intermediate_size": 512})
    for name, parameter in Transformer(wide).named_parameters():
        if parameter.ndim == 1:
            assert bool((parameter == (0.0 if name.endswith("bias") else 1.0)).all()), name
        else:
            is_output = name.endswith(("o_proj.weight", "down_proj.weight"))
            wanted = 0.02 / (2 * wide.n_layers) ** 0.5 if is_output else 0.02
            assert float(parameter.std()) == pytest.approx(wanted, rel=0.05), name


@every_shape
def test_autocast_keeps_the_stream_and_logits_float32(config: ModelConfig) -> None:
    model, rows = build(config, std=0.05), tokens(2, 20)
    streams: list[torch.Tensor] = []
    model.model.layers[-1].register_forward_hook(lambda _layer, _args, out: streams.append(out[0]))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(rows)
    assert {stream.dtype for stream in streams} == {torch.float32}
    assert logits.dtype == torch.float32
    assert_close(logits, model(rows), atol=0.05, rtol=0.05)


@every_shape
def test_half_precision_weights_give_nearly_the_same_logits(config: ModelConfig) -> None:
    model, rows = build(config, std=0.05), tokens(2, 20)
    wanted = model(rows)
    logits = model.bfloat16()(rows)
    assert logits.dtype == torch.float32
    assert_close(logits, wanted, atol=0.05, rtol=0.05)


@every_shape
def test_every_parameter_learns(config: ModelConfig) -> None:
    model, rows = build(config), tokens(2, 48)
    with torch.enable_grad():
        model.train()(rows).square().mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_dropout_acts_in_training_only() -> None:
    model, rows = build(small(dropout=0.5)), tokens(1, 10)
    assert torch.equal(model(rows), model(rows))
    model.train()
    assert not torch.equal(model(rows), model(rows))


def test_a_tied_head_is_one_parameter() -> None:
    names = dict(Transformer(small()).named_parameters())
    assert "lm_head.weight" not in names
    assert "lm_head.weight" in dict(Transformer(small(tie_embeddings=False)).named_parameters())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m(tokens(1, 49)), "49 tokens exceed context_length 48"),
        (lambda m: m(tokens(5)), r"input_ids must be \(B, T\), found shape \(5,\)"),
        (
            lambda m: m(tokens(1, 5), document_ids=tokens(1, 4)),
            r"document_ids \(1, 4\) must have shape \(1, 5\)",
        ),
        (
            lambda m: m(tokens(1, 5), cache=KVCache.allocate(m.config, 1, 4)),
            "0 \\+ 5 tokens exceed the cache's 4",
        ),
        (lambda m: KVCache.allocate(m.config, 1, 49), "49 tokens exceed context_length 48"),
    ],
)
def test_wrong_shapes_are_named(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(build(small()))  # type: ignore[operator]


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's compiler warns of itself
@every_shape
def test_compiled_equals_plain(config: ModelConfig) -> None:
    model, rows = build(config), tokens(2, 48)
    assert_close(torch.compile(model)(rows), model(rows), **CLOSE)
