"""Preference tuning: the loss of TRL's DPOTrainer, exact resume, what is measured and refused."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.tiny import tiny_model, tiny_tokenizer, write_tiny_checkpoint
from tests.training.small_runs import same_weights, train
from tests.training.test_resume import signal_at_step
from tinyllm.chat_template import DEFAULT_TEMPLATE
from tinyllm.config.base import load_config
from tinyllm.config.preference import PreferenceConfig
from tinyllm.config.train import TrainConfig
from tinyllm.data.loader import IGNORE
from tinyllm.data.preferences import Pairs, PairStream, Preference, hold_out, read_preferences
from tinyllm.errors import CheckpointError, DataError
from tinyllm.model.hf_config import to_hugging_face_config
from tinyllm.records import Message
from tinyllm.reporting import RecordingReporter, SilentReporter
from tinyllm.training import objective
from tinyllm.training.divergence import divergence, draw_tokens
from tinyllm.training.workflow import rehearse, run

WORDS = ["fox", "river", "map", "plant", "sun", "bird", "moon", "sea", "rain", "cloud"]


def preference(i: int) -> Preference:
    one, two = WORDS[i % 10], WORDS[(i // 10 + 3 * i + 1) % 10]
    return Preference(
        f"p{i}",
        (Message("user", f"Tell of {one} and {two}, {i}."),),
        f"The {one} met the {two}.",
        f"They were friends and they played, {two}.",
    )


def pairs_of(n: int, **options: Any) -> Pairs:
    chosen: dict[str, Any] = {"context_length": 96, "seed": 1, "shuffle": True, **options}
    rendered = [preference(i) for i in range(n)]
    return Pairs(rendered, tiny_tokenizer(), DEFAULT_TEMPLATE, **chosen)


def trained_one(family: str = "llama") -> tuple[Any, Any]:
    """Return a model, and the one that it started from."""
    reference = tiny_model(tiny_tokenizer(), family=family)
    model = tiny_model(tiny_tokenizer(), family=family)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.empty(parameter.shape).normal_(0, 0.02, generator=generator)
            parameter.add_(noise)
    return model, reference


@pytest.mark.filterwarnings("ignore")
def test_loss_and_gradients_are_those_of_trl(tmp_path: Path) -> None:
    trl = pytest.importorskip("trl")
    transformers = pytest.importorskip("transformers")
    model, reference = trained_one()
    pairs = pairs_of(6)
    pairs.reference = objective.likelihoods_of(reference, pairs.batches(4))
    batch = pairs.batch(range(6))
    tuned = objective.Preference(PreferenceConfig(beta=0.3))
    ours = tuned.loss(model, batch) / 6
    ours.backward()

    theirs, frozen = (
        transformers.AutoModelForCausalLM.from_config(
            transformers.AutoConfig.for_model(**to_hugging_face_config(model.config)),
            attn_implementation="eager",
        )
        for _ in range(2)
    )
    for network, source in ((theirs, model), (frozen, reference)):
        network.load_state_dict(source.state_dict(), strict=False)
        network.tie_weights()
    rows = []
    for i in range(6):
        one = pairs.batch([i])
        row: dict[str, list[int]] = {}
        for side, name in enumerate(("chosen", "rejected")):
            targets = one.targets[side]
            first = int((targets != objective.IGNORE).nonzero()[0])
            last = int((targets != objective.IGNORE).nonzero()[-1])
            row["prompt_ids"] = one.input_ids[side, : first + 1].tolist()
            row[f"{name}_ids"] = targets[first : last + 1].tolist()
        rows.append(row)
    from trl.trainer.dpo_trainer import DataCollatorForPreference, add_fused_lm_head

    add_fused_lm_head(theirs, outputs=("log_probs", "entropy", "mean_logits", "is_top1"))
    add_fused_lm_head(frozen)
    inputs = DataCollatorForPreference(pad_token_id=0)(rows)
    trainer = trl.DPOTrainer.__new__(trl.DPOTrainer)
    _arm(trainer, theirs, frozen, beta=0.3)
    loss = trainer._compute_loss(theirs, inputs, return_outputs=False)
    loss.backward()
    assert abs(float(loss.detach()) - float(ours.detach())) < 1e-5
    wanted = dict(theirs.named_parameters())
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        assert (parameter.grad - wanted[name].grad).abs().max() < 1e-5, name


def _arm(trainer: Any, model: torch.nn.Module, frozen: torch.nn.Module, beta: float) -> None:
    """Give a trainer what its loss reads, and nothing that would load data or write files."""
    import trl

    config = trl.DPOConfig(output_dir="unused", beta=beta, bf16=False, use_cpu=True)
    accelerator = type(
        "Accelerator",
        (),
        {
            "gather": staticmethod(lambda x: x),
            "gather_for_metrics": staticmethod(lambda x: x),
            "device": torch.device("cpu"),
        },
    )()
    for name, value in {
        "args": config,
        "beta": beta,
        "model": model,
        "ref_model": frozen,
        "accelerator": accelerator,
        "loss_types": config.loss_type
        if isinstance(config.loss_type, list)
        else [config.loss_type],
        "loss_weights": [1.0],
        "ld_alpha": None,
        "f_divergence_type": "reverse_kl",
        "f_alpha_divergence_coef": 0.5,
        "label_smoothing": 0.0,
        "use_weighting": False,
        "precompute_ref_logps": False,
        "aux_loss_enabled": False,
        "_metrics": {"train": _Bag(), "eval": _Bag()},
        "_is_vlm": False,
        "_total_train_tokens": 0,
        "_tp_size": 1,
    }.items():
        setattr(trainer, name, value)


class _Bag(dict[str, list[float]]):
    def __missing__(self, key: str) -> list[float]:
        self[key] = []
        return self[key]


@pytest.mark.parametrize("family", ["llama", "gpt-neo"])
def test_the_loss_is_as_written(family: str) -> None:
    model, reference = trained_one(family)
    pairs = pairs_of(5)
    pairs.reference = objective.likelihoods_of(reference, pairs.batches(2))
    tuned = objective.Preference(PreferenceConfig(beta=0.2, sft_weight=0.5))
    batch = pairs.batch(range(5))
    found = float(tuned.loss(model, batch).detach())
    expected = 0.0
    for i in range(5):
        logits = [
            [_log_likelihood(m, batch, i + 5 * side) for side in (0, 1)] for m in (model, reference)
        ]
        (c, r), (c_ref, r_ref) = logits
        margin = 0.2 * ((c - c_ref) - (r - r_ref))
        n_tokens = int((batch.targets[i] != objective.IGNORE).sum())
        expected += (
            float(-torch.nn.functional.logsigmoid(torch.tensor(margin))) - 0.5 * c / n_tokens
        )
    assert found == pytest.approx(expected, rel=1e-4)
    figures = dict(tuned.take_figures())
    assert 0 <= figures["preference_accuracy"] <= 5
    assert dict(tuned.take_figures())["chosen_shift"] == 0


def _log_likelihood(model: Any, batch: Any, row: int) -> float:
    with torch.no_grad():
        odds = model(batch.input_ids[row : row + 1]).log_softmax(-1)[0]
    targets = batch.targets[row]
    kept = (targets != objective.IGNORE).nonzero().flatten()
    return float(sum(odds[place, targets[place]] for place in kept))


def test_pairs_keep_their_order_and_prompts_their_side() -> None:
    pairs = pairs_of(20)
    stream = PairStream(pairs, 2)
    assert stream.n_rows == 40
    orders = [stream.documents(0, 20), stream.documents(20, 40)]
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(20))
    whole, parts = stream.batch(0, 8), [stream.batch(0, 3), stream.batch(3, 8)]
    assert whole.pairs is not None
    assert whole.pairs.tolist() == [
        n for p in parts if p.pairs is not None for n in p.pairs.tolist()
    ]
    twins = [preference(i) for i in range(40)] * 2
    kept, held_out = hold_out(twins, 0.3)
    assert len(kept) + len(held_out) == 80
    assert 10 <= len(held_out) <= 40
    assert not {p.prompt for p in kept} & {p.prompt for p in held_out}


def test_pairs_that_teach_nothing_are_left_out() -> None:
    same = Preference("s", (Message("user", "x"),), "one", "one")
    long = Preference("l", (Message("user", "x"),), "one", "sun " * 200)
    pairs = Pairs(
        [preference(1), same, long],
        tiny_tokenizer(),
        DEFAULT_TEMPLATE,
        context_length=96,
        seed=0,
        shuffle=False,
    )
    assert (pairs.counts.kept, pairs.counts.equal, pairs.counts.too_long) == (1, 1, 1)
    chosen, rejected = (int((row != IGNORE).sum()) for row in pairs.batch([0]).targets)
    assert pairs.mean_lengths == (chosen, rejected)


def test_layouts_of_pairs(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "Hi"}]
    rows = [
        {"prompt": "Hi", "chosen": "Yes.", "rejected": "No."},
        {
            "prompt": turns,
            "chosen": [{"role": "assistant", "content": "Yes."}],
            "rejected": [*turns, {"role": "assistant", "content": "No."}],
        },
    ]
    path = tmp_path / "p.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = list(read_preferences([str(path)], SilentReporter()))
    assert {(p.prompt, p.chosen, p.rejected) for p in found} == {
        ((Message("user", "Hi"),), "Yes.", "No.")
    }
    path.write_text(json.dumps(rows[0]) + '\n{"prompt": "Hi", "chosen": "Yes."}\n')
    with pytest.raises(DataError, match=r"p\.jsonl:2: this row holds no pair"):
        list(read_preferences([str(path)], SilentReporter()))


def test_divergence_is_the_kl_of_the_two_models() -> None:
    model, start = trained_one()
    batches = list(pairs_of(60).batches(20))
    with torch.no_grad():
        exact = [
            (p.exp() * (p - q)).sum(-1)[batch.targets != IGNORE]
            for batch in batches
            for p, q in [[m(batch.input_ids).log_softmax(-1) for m in (start, model)]]
        ]
    wanted = float(torch.cat(exact).mean())
    drawn = draw_tokens(start, batches, torch.Generator().manual_seed(3))
    assert divergence(model, batches, drawn) == pytest.approx(wanted, rel=0.1)
    assert divergence(start, batches, drawn) == pytest.approx(0, abs=1e-9)


def write_tuning(folder: Path, **changes: Any) -> None:
    """Write a base, pairs, a text, and the config of a preference tuning."""
    folder.mkdir(exist_ok=True)
    write_tiny_checkpoint(folder / "base.safetensors", chat=True)
    rows = [
        {"prompt": p.prompt[0].content, "chosen": p.chosen, "rejected": p.rejected}
        for p in map(preference, range(60))
    ]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "text.txt").write_text("The fox found a map by the river.\n<|endoftext|>\n" * 30)
    config = {
        "init_from": "base.safetensors",
        "data": {"train": "pairs.jsonl", "validation": "text.txt"},
        "preference": {"max_forgetting": None},
        "batch": {"micro_batch_size": 4, "grad_accum_steps": 2},
        "optimizer": {"learning_rate": 1e-3, "weight_decay": 0.0},
        "max_steps": 10,
        "checkpoint": {"path": "out/model.safetensors", "every_steps": 5},
        "evaluation": {"every_steps": 5, "max_tokens": 500},
        **changes,
    }
    (folder / "config.json").write_text(json.dumps(config))


def metrics(folder: Path) -> list[dict[str, Any]]:
    path = folder / "out/model-run/metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_preference_is_learnt_and_goes_on_to_the_same_bits(
    warm_tinyllm: Path, tmp_path: Path
) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    for folder in (whole, stopped):
        write_tuning(folder)
    done = train(whole)
    assert done.returncode == 0, done.stderr
    assert signal_at_step(warm_tinyllm, stopped, 4, signal.SIGTERM).returncode == 143
    done = train(stopped, "--resume")
    assert done.returncode == 0, done.stderr
    assert same_weights(whole, stopped)
    rows = metrics(whole)
    steps = [row for row in rows if "preference_margin" in row]
    assert steps[0]["loss"] == pytest.approx(0.6931, abs=1e-3)
    assert steps[0]["preference_margin"] == pytest.approx(0, abs=1e-3)
    assert steps[-1]["preference_margin"] > 0.01
    assert steps[-1]["preference_accuracy"] > 0.8
    assert "training loss" not in done.stderr  # it is none of tokens, as that of validation is
    measured = [row for row in rows if "validation_bits_per_byte" in row]
    assert [row["step"] for row in measured] == [0, 5, 10]
    assert "validation_preference_accuracy" in measured[-1]
    moved = [row["validation_kl_nats"] for row in measured[1:]]
    assert 0 < moved[0] < moved[1]
    kept = set(load_file(whole / "out/model-run/reference.safetensors"))
    assert kept == {"train", "held_out", "drawn_tokens", "drawn_log_p"}


def test_a_dry_run_forecasts_a_preference(tmp_path: Path) -> None:
    write_tuning(tmp_path, lora={"rank": 2})
    config = load_config(TrainConfig, tmp_path / "config.json")
    forecast = rehearse(config, RecordingReporter())
    assert (forecast.n_steps, forecast.rows_per_step, forecast.fits) == (10, 8, True)
    assert not any("tokens for each parameter" in warning for warning in forecast.warnings)
    assert not (tmp_path / "out").exists()


def test_a_run_that_lost_what_its_start_said_is_refused(tmp_path: Path) -> None:
    write_tuning(tmp_path, max_steps=5)
    config = load_config(TrainConfig, tmp_path / "config.json")
    run(config, SilentReporter())
    (tmp_path / "out/model-run/reference.safetensors").unlink()
    longer = config.model_copy(update={"max_steps": 6})
    with pytest.raises(CheckpointError, match=r"what the starting model says .* cannot be read"):
        run(longer, SilentReporter(), resume=True)
    assert run(longer, SilentReporter(), fresh=True).steps == 6


def test_forgetting_ends_the_training(tmp_path: Path) -> None:
    write_tuning(
        tmp_path,
        preference={"max_forgetting": 0.001},
        optimizer={"learning_rate": 0.3, "weight_decay": 0.0},
        max_steps=40,
    )
    done = train(tmp_path)
    assert done.returncode == 0, done.stderr
    report = (tmp_path / "out/model-run/report.md").read_text()
    assert "more than preference.max_forgetting 0.001" in report
    assert max(row["step"] for row in metrics(tmp_path)) == 5


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"init_from": None}, "`preference` needs `init_from`"),
        ({"data": {"train": "pairs.jsonl", "packing": "documents"}}, "says nothing of pairs"),
        ({"data": {"train": "text.txt"}}, "holds running text"),
        ({"batch": {"context_length": 4}}, "can be learnt from"),
    ],
)
def test_mistakes_are_one_sentence(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    write_tuning(tmp_path, **changes)
    done = train(tmp_path)
    assert done.returncode in (2, 3)
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_pairs_without_a_preference_are_refused(tmp_path: Path) -> None:
    write_tuning(tmp_path, preference=None)
    done = train(tmp_path)
    assert done.returncode == 2
    assert "holds pairs" in done.stderr
    assert '"preference": {}' in done.stderr
