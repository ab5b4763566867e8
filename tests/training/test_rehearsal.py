"""The dry run: measured, whole, and gone without a trace."""

import contextlib
from pathlib import Path

import pytest

from tests.training.test_workflow import TINY, config_for
from tinyllm.checkpoint import load_checkpoint
from tinyllm.config.model import ModelConfig
from tinyllm.device import choose_compute
from tinyllm.errors import ConfigError
from tinyllm.model.advice import warnings_for
from tinyllm.model.sizing import count_parameters
from tinyllm.reporting import RecordingReporter
from tinyllm.training import memory
from tinyllm.training.forecast import Forecast
from tinyllm.training.rehearsal import Rehearsal
from tinyllm.training.run_folder import RunFolder
from tinyllm.training.start import Start
from tinyllm.training.workflow import rehearse, run


def rehearsal_of(text: Path, **flags: object) -> Rehearsal:
    path = text.parent / "draft" / "model.safetensors"
    return Rehearsal(
        config_for(text, **flags),
        RecordingReporter(),
        path,
        RunFolder.beside(path),
        choose_compute("cpu", "float32"),
        Start(None),
        "model",
        "",
    )


@pytest.fixture
def forecast(text: Path) -> Forecast:
    prompts = {"samples__prompts": ("the cat",), "samples__every_steps": 3}
    return rehearse(config_for(text, **prompts), RecordingReporter())


def test_nothing_but_the_cache_of_the_text_stays(text: Path, forecast: Forecast) -> None:
    assert sorted(p.name for p in text.parent.iterdir()) == [".tinyllm-cache", "text.txt"]


def test_the_forecast_is_what_the_training_then_is(text: Path, forecast: Forecast) -> None:
    prompts = {"samples__prompts": ("the cat",), "samples__every_steps": 3}
    result = run(config_for(text, **prompts), RecordingReporter())
    assert sum(forecast.parameters.values()) == result.n_parameters
    assert forecast.n_steps == result.steps
    assert forecast.trained_tokens == pytest.approx(result.trained_tokens, rel=0.1)
    assert forecast.peak_memory_bytes == pytest.approx(result.peak_memory_bytes, rel=0.2)
    size = result.checkpoint.stat().st_size
    assert forecast.checkpoint_bytes == pytest.approx(size, rel=0.05)
    state = result.run_folder / "state" / "step-00000006"
    written = sum(path.stat().st_size for path in state.iterdir())
    assert forecast.state_bytes == pytest.approx(written, rel=0.05)
    assert forecast.fits
    assert forecast.eta_seconds > 0


def test_the_parts_are_named_and_add_up(forecast: Forecast) -> None:
    assert set(forecast.parameters) == {"token embedding", "attention", "feed-forward", "norms"}
    said = "\n".join(forecast.lines())
    for words in (
        "parameters:",
        "per parameter",
        "tokens/s",
        "at the peak",
        "a checkpoint",
        "fits",
    ):
        assert words in said


def test_what_does_not_fit_is_told_with_the_size_that_does(
    text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find(candidates: list[int], *rest: object, **named: object) -> int:
        return candidates[-2]

    monkeypatch.setattr(memory, "largest_that_fits", find)
    forecast = rehearsal_of(text, batch__grad_accum_steps=2).forecast()
    assert not forecast.fits
    assert forecast.micro_batch_size == 2
    assert forecast.rows_per_step == 8
    assert "set micro_batch_size 2 and grad_accum_steps 4" in forecast.verdict


def test_a_network_larger_than_memory_is_not_even_built(text: Path) -> None:
    with pytest.raises(ConfigError, match="does not fit: weights, gradients and optimizer"):
        rehearsal_of(text).forecast(available_bytes=1000)


def test_adapters_need_no_room_for_gradients_of_all_weights(text: Path) -> None:
    base = run(config_for(text), RecordingReporter()).checkpoint
    built_here = dict.fromkeys(["tokenizer__kind", *(f"model__{key}" for key in TINY)])
    free = 2 * sum(p.nbytes for p in load_checkpoint(base).model.parameters())
    tuned = rehearsal_of(text, init_from=str(base), **built_here)
    with pytest.raises(ConfigError, match="weights, gradients and optimizer take"):
        tuned.forecast(available_bytes=free)
    adapted = rehearsal_of(text, init_from=str(base), **built_here, lora__rank=2)
    with contextlib.suppress(memory.OutOfMemory):  # what a row takes is measured, not forecast
        adapted.forecast(available_bytes=free)
    assert rehearsal_of(text, init_from=str(base), **built_here, lora__rank=2).forecast().fits


def test_not_one_row_is_told(text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "largest_that_fits", lambda *rest, **named: None)
    with pytest.raises(memory.OutOfMemory, match="not even one row"):
        rehearsal_of(text).forecast()


def test_the_clock_bounds_the_forecast(text: Path) -> None:
    forecast = rehearse(config_for(text, max_steps=None, max_minutes=0.5), RecordingReporter())
    assert forecast.eta_seconds == 30
    assert forecast.n_steps > 1
    assert forecast.trained_tokens > 0


def shape(**sizes: int) -> ModelConfig:
    return ModelConfig(**{"vocab_size": 1000, "hidden_size": 512, "n_layers": 8} | sizes)


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ({"n_layers": 48, "hidden_size": 64, "n_heads": 2}, "48 layers are many"),
        ({"n_layers": 1, "hidden_size": 4096, "n_heads": 32}, "1 layers are few"),
        ({"n_heads": 128}, "heads are only 4 wide"),
        ({"n_heads": 1}, "heads are 512 wide"),
        ({"n_heads": 8, "intermediate_size": 64}, "narrower"),
        ({"n_heads": 8, "hidden_size": 64, "vocab_size": 50_000}, "only look tokens up"),
    ],
)
def test_absurd_shapes_are_named(sizes: dict[str, int], said: str) -> None:
    assert any(said in warning for warning in warnings_for(shape(**sizes)))


def test_usual_shapes_are_left_in_peace() -> None:
    assert warnings_for(shape(n_heads=8)) == []
    gpt2 = shape(n_heads=12, hidden_size=768, n_layers=12, vocab_size=50_257)
    assert warnings_for(gpt2) == []
    assert count_parameters(gpt2).total > 1e8
