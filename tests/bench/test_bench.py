"""The bench command: every part runs on tiny shapes, and its last line is JSON."""

import json
from pathlib import Path

import pytest

from tests.cli.here import Here
from tests.tiny import write_tiny_checkpoint
from tinyllm.bench.ceilings import measure_ceilings, read_bandwidth
from tinyllm.bench.made_up import (
    characters,
    made_up_tokenizer,
    random_model,
    write_made_up_text,
    write_stories,
    zipf_ids,
)
from tinyllm.bench.timing import in_turn, median_ratio, median_seconds
from tinyllm.config.model import ModelConfig
from tinyllm.errors import ConfigError


@pytest.fixture
def here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Here:
    return Here(tmp_path, monkeypatch, capfd)


@pytest.fixture(autouse=True)
def small_ceilings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure ceilings on small matrices, so that tests take no time over them."""
    monkeypatch.setattr("tinyllm.bench.ceilings._PRODUCT_SIZE", 64)
    monkeypatch.setattr("tinyllm.bench.ceilings._LARGE_BYTES", 1 << 16)
    monkeypatch.setattr("tinyllm.bench.ceilings._READ_BYTES", 1 << 16)


def last_line(out: str) -> dict[str, object]:
    return json.loads(out.rstrip("\n").split("\n")[-1])


def test_training_a_made_up_text_gives_figures_and_keeps_nothing(here: Here, tmp_path: Path):
    outcome = here(
        *("bench", "train", "--vocab-size", "40", "--steps", "2", "--warmup-steps", "1"),
        *("--set", "model.hidden_size=16", "--set", "model.n_layers=1"),
        *("--set", "model.n_heads=2", "--set", "model.context_length=16"),
        *("--set", "batch.micro_batch_size=2", "--set", "model.family=gpt-neo"),
        *("--set", "compile=off"),
    )
    assert outcome.code == 0, outcome.err
    figures = last_line(outcome.out)
    assert figures["n_steps"] == 2
    assert figures["context_length"] == 16
    assert figures["tokens_per_second"] > 0
    assert 0 <= figures["data_wait_share"] < 1
    assert figures["ceiling_share"] == pytest.approx(
        figures["gflops_per_second"]
        / max(v for k, v in figures["ceilings"].items() if k.endswith("gflops_per_second"))
    )
    assert "tokens/s" in outcome.err
    assert list(tmp_path.iterdir()) == []


def test_training_takes_a_config_with_its_own_text(here: Here, tmp_path: Path):
    write_stories(tmp_path / "stories.txt", 20_000)
    config = {
        "data": {"train": "stories.txt"},
        "tokenizer": {"kind": "char"},
        "model": {"hidden_size": 16, "n_layers": 1, "n_heads": 2, "context_length": 16},
        "batch": {"micro_batch_size": 3},
        "max_steps": 5,
    }
    (tmp_path / "train.json").write_text(json.dumps(config))
    outcome = here("bench", "train", "--config", "train.json", "--steps", "1")
    assert outcome.code == 0, outcome.err
    assert last_line(outcome.out)["rows_per_step"] == 3
    assert not (tmp_path / "runs").exists()
    refused = here("bench", "train", "--config", "train.json", "--vocab-size", "50")
    assert refused.code == 2


@pytest.mark.parametrize("given", [True, False])
def test_generation_is_measured_with_a_checkpoint_or_without(
    here: Here, tmp_path: Path, given: bool
):
    if given:
        write_tiny_checkpoint(tmp_path / "tiny.safetensors")
        source = ["--checkpoint", "tiny.safetensors"]
    else:
        source = ["--preset", "llama-260k", "--set", "vocab_size=64"]
    outcome = here(
        *("bench", "infer", *source, "--rounds", "1", "--new-tokens", "4", "--batch-size", "3"),
        *("--dtype", "float32", "--dtype", "bfloat16"),
    )
    assert outcome.code == 0, outcome.err
    figures = last_line(outcome.out)
    assert [speed["dtype"] for speed in figures["speeds"]] == ["float32", "bfloat16"]
    for speed in figures["speeds"]:
        assert speed["decode_tokens_per_second"] > 0
        assert speed["batch_tokens_per_second"] > 0
        assert speed["first_token_seconds"] > 0
    assert figures["speeds"][0]["weight_bytes"] == 2 * figures["speeds"][1]["weight_bytes"]


def test_without_native_code_everything_but_int8_is_measured(here: Here, kernels_off: None):
    shape = ["--preset", "llama-260k", "--set", "vocab_size=64", "--rounds", "1"]
    outcome = here("bench", "infer", *shape, "--new-tokens", "3", "--batch-size", "2")
    assert outcome.code == 0, outcome.err
    assert last_line(outcome.out)["speeds"][0]["prefill_tokens_per_second"] > 0
    assert here("bench", "infer", *shape, "--dtype", "int8").code == 7
    shape = ["--set", "model.hidden_size=16", "--set", "model.n_layers=1"]
    shape += ["--set", "model.n_heads=2", "--set", "model.context_length=8"]
    outcome = here("bench", "train", *shape, "--vocab-size", "30", "--steps", "1")
    assert outcome.code == 0, outcome.err
    assert last_line(outcome.out)["tokens_per_second"] > 0


def test_generation_beyond_the_context_is_refused(here: Here):
    outcome = here("bench", "infer", "--preset", "llama-260k", "--new-tokens", "600")
    assert outcome.code == 2
    assert "512" in outcome.err


def test_data_is_measured_beside_the_library_and_cat(here: Here):
    outcome = here("bench", "data", "--megabytes", "0.05", "--rounds", "1")
    assert outcome.code == 0, outcome.err
    figures = last_line(outcome.out)
    assert figures["tokenize_ratio"] == pytest.approx(
        figures["tokenize_mb_per_second"] / figures["library_mb_per_second"]
    )
    assert figures["mix_mb_per_second"] > 0
    assert figures["loader_tokens_per_second"] > 0


def test_works_have_their_turn_in_every_round():
    order: list[str] = []
    works = {name: lambda name=name: order.append(name) for name in "ab"}
    seconds = in_turn(works, 2, warmup=1)
    assert order == ["a", "b"] * 3
    assert {name: len(times) for name, times in seconds.items()} == {"a": 2, "b": 2}


def test_a_ratio_is_taken_round_by_round():
    assert median_ratio([2.0, 30.0, 4.0], [1.0, 10.0, 1.0]) == 3.0
    assert median_seconds(lambda: None, 3) >= 0


def test_ceilings_are_positive():
    ceilings = measure_ceilings(rounds=1, size=32)
    assert ceilings.gflops_per_second >= ceilings.float32_gflops_per_second > 0
    assert read_bandwidth(1000, rounds=1) > 0


def test_a_made_up_text_has_exactly_the_vocabulary_asked_for(tmp_path: Path):
    write_made_up_text(tmp_path / "text.txt", 50, 500)
    text = (tmp_path / "text.txt").read_text(encoding="utf-8")
    tokenizer = made_up_tokenizer(50)
    assert tokenizer.vocab_size == 50
    assert len(text) == 500
    assert set(tokenizer.encode(text)) == set(range(2, 50))
    counts = [text.count(c) for c in characters(48)]
    assert counts[0] > counts[-1]
    with pytest.raises(ConfigError, match="ids at most"):
        characters(1_000_000)


def test_zipf_draws_stay_in_range():
    ids = zipf_ids(5, 1000, seed=1)
    assert ids.min() == 0
    assert ids.max() == 4


def test_stories_fill_the_size_asked_for(tmp_path: Path):
    write_stories(tmp_path / "stories.txt", 3_000)
    assert 3_000 <= (tmp_path / "stories.txt").stat().st_size < 6_000


def test_a_random_model_never_ends_its_text():
    config = ModelConfig(vocab_size=40, hidden_size=16, n_layers=1, n_heads=2, context_length=32)
    row = random_model(config).head_weight[0].detach()
    assert float(row.abs().max()) < 1e-3
