"""Arithmetic of shapes against the built networks and published tables."""

import runpy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from tests.conftest import ROOT
from tests.model.shapes import SHAPES, small, tokens
from tinyllm.config.model import ModelConfig, ModelSpec, model_presets
from tinyllm.model.kv_cache import KVCache
from tinyllm.model.presets import resolve_model
from tinyllm.model.sizing import (
    checkpoint_bytes,
    count_parameters,
    forward_flops_per_token,
    kv_cache_bytes,
    parted,
    training_flops_per_token,
    training_memory,
)
from tinyllm.model.transformer import Transformer


def built(config: ModelConfig) -> Transformer:
    with torch.device("meta"):
        return Transformer(config)


@pytest.mark.parametrize("name", model_presets())
def test_presets_count_as_they_are_built(name: str) -> None:
    config = resolve_model(ModelSpec(preset=name), 10_000)
    real = sum(parameter.numel() for parameter in built(config).parameters())
    assert count_parameters(config).total == real


@settings(deadline=None, max_examples=50)
@given(
    family=st.sampled_from(["llama", "gpt-neo"]),
    n_layers=st.integers(1, 4),
    n_kv_heads=st.integers(1, 3),
    group=st.integers(1, 3),
    head_dim=st.integers(1, 8),
    intermediate_size=st.integers(1, 50),
    vocab_size=st.integers(1, 90),
    context_length=st.integers(1, 70),
    tie_embeddings=st.booleans(),
    qk_norm=st.booleans(),
)
def test_any_shape_counts_as_it_is_built(
    family: str, n_kv_heads: int, group: int, head_dim: int, qk_norm: bool, **shape: object
) -> None:
    is_neo = family == "gpt-neo"
    n_heads = n_kv_heads if is_neo else n_kv_heads * group
    config = small(
        family=family,
        hidden_size=n_heads * head_dim * 2,
        n_heads=n_heads,
        n_kv_heads=n_kv_heads,
        qk_norm=qk_norm and not is_neo,
        **shape,
    )
    counted = count_parameters(config)
    parameters = dict(built(config).named_parameters())
    assert counted.total == sum(p.numel() for p in parameters.values())
    tables = ("embed_tokens", "embed_positions", "lm_head")
    assert counted.embedding == sum(
        p.numel() for name, p in parameters.items() if any(table in name for table in tables)
    )


@pytest.mark.parametrize(
    ("name", "total_millions", "non_embedding_millions"),
    [
        ("tinystories-1m", 1.07, 0.40),
        ("tinystories-3m", 2.93, 1.59),
        ("tinystories-8m", 9.01, 6.32),
        ("tinystories-28m", 30.6, 25.2),
        ("tinystories-33m", 36.4, 28.3),
        ("tinystories-1layer", 23.4, 12.6),
        ("tinystories-2layer", 36.0, 25.2),
    ],
)
def test_tinystories_shapes_have_their_known_sizes(
    name: str, total_millions: float, non_embedding_millions: float
) -> None:
    """At a vocabulary of 10,000 and a context of 512."""
    counted = count_parameters(resolve_model(ModelSpec(preset=name), 10_000))
    assert counted.total / 1e6 == pytest.approx(total_millions, abs=0.051, rel=2e-3)
    assert counted.non_embedding / 1e6 == pytest.approx(non_embedding_millions, abs=0.051)


@pytest.mark.parametrize(
    ("name", "vocab_size", "total"),
    [
        ("llama-260k", 512, 260_032),
        ("llama-15m", 32_000, 15_191_712),
        ("llama-42m", 32_000, 41_689_600),
        ("llama-110m", 32_000, 109_529_856),
    ],
)
def test_llama_shapes_have_their_known_sizes(name: str, vocab_size: int, total: int) -> None:
    assert count_parameters(resolve_model(ModelSpec(preset=name), vocab_size)).total == total


@pytest.mark.parametrize("config", SHAPES.values(), ids=SHAPES.keys())
def test_products_count_as_the_reference_counts_them(config: ModelConfig) -> None:
    """torch's own counter, attention apart: it counts all pairs where ours counts visible ones."""
    model, n_tokens = Transformer(config), 40
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model(tokens(1, n_tokens))
    counts = counter.get_flop_counts()["Global"]
    products = sum(
        n for op, n in counts.items() if "attention" not in str(op) and "bmm" not in str(op)
    )
    one = forward_flops_per_token(config, 1) - 4 * config.hidden_size * config.n_layers
    assert products == pytest.approx(n_tokens * one)


def test_attention_counts_visible_pairs() -> None:
    config = small(family="gpt-neo", attention_window=5, n_layers=3)
    grown = forward_flops_per_token(config, 8) - forward_flops_per_token(config, 1)
    mean_global = sum(range(1, 9)) / 8
    mean_local = (1 + 2 + 3 + 4 + 5 * 4) / 8
    pairs = 2 * (mean_global - 1) + 1 * (mean_local - 1)  # two global layers, one local
    assert grown == pytest.approx(4 * config.hidden_size * pairs)
    assert training_flops_per_token(config, 8) == 3 * forward_flops_per_token(config, 8)


def test_cache_bytes_are_those_allocated() -> None:
    config = small(n_kv_heads=2)
    cache = KVCache.allocate(config, 3, 20, dtype=torch.bfloat16)
    assert kv_cache_bytes(config, 3, 20, 2) == cache.keys.nbytes + cache.values.nbytes


def test_training_memory_grows_with_rows_and_names_its_parts() -> None:
    config = resolve_model(ModelSpec(preset="llama-1m"), 4096)
    one, four = training_memory(config, 4, 512), training_memory(config, 16, 512)
    assert one.weights == four.weights == checkpoint_bytes(config)
    assert four.activations == 4 * one.activations
    d_hidden = 4 * 512 * config.hidden_size * 4
    assert four.logits == one.logits + 3 * d_hidden  # the logits themselves come in chunks
    assert one.total == (one.weights + one.gradients + one.optimizer + one.activations + one.logits)
    muon = training_memory(config, 1, 512, optimizer="muon")
    assert one.weights < muon.optimizer < one.optimizer


@pytest.mark.parametrize("name", ["llama-260k", "llama-1m", "tinystories-1m", "tinystories-8m"])
def test_estimated_activations_are_what_the_backward_pass_keeps(
    name: str, kernels_off: None
) -> None:
    config = resolve_model(ModelSpec(preset=name), 53)
    model, kept = Transformer(config), {}
    parameters = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model.hidden_states(tokens(1, config.context_length))
    estimate = training_memory(config, 1, config.context_length).activations
    assert estimate == pytest.approx(sum(kept.values()), rel=0.2)


def test_sizes_read_as_total_embedding_and_the_rest() -> None:
    counted = count_parameters(resolve_model(ModelSpec(preset="tinystories-1m"), 10_000))
    assert str(counted) == "1.07M parameters (672.8k embedding, 398.5k non-embedding)"


def test_parting_divides_what_is_kept_and_borrows_little() -> None:
    config = resolve_model(ModelSpec(preset="llama-42m"), 4096)
    whole = training_memory(config, 1, 512)
    quarter = parted(whole, config, 4, weight_bytes=4)
    assert quarter.state == pytest.approx(whole.state / 4, rel=1e-6)
    assert (quarter.activations, quarter.logits) == (whole.activations, whole.logits)
    assert 0 < quarter.gathered < whole.weights + whole.gradients
    assert parted(whole, config, 1, weight_bytes=4) == whole


def test_the_tables_of_the_scaling_page_are_what_the_arithmetic_gives() -> None:
    printed = runpy.run_path(str(ROOT / "benchmarks" / "scaling_tables.py"))
    page = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
    assert printed["memory_table"]() in page
    assert printed["time_table"]() in page
