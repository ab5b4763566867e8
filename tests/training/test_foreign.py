"""Adapters beside a model of any family: exact resume, a folder that peft opens, early refusals."""

import json
import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.cli.here import Here
from tests.foreign import save_other_model, transformers
from tests.training.small_runs import train, train_apart
from tests.training.test_distributed import TORCHRUN
from tests.training.test_resume import signal_at_step
from tinyllm.checkpoint import find_checkpoint
from tinyllm.checkpoint.description import overview
from tinyllm.config.base import load_config
from tinyllm.config.export import ExportConfig
from tinyllm.config.train import TrainConfig
from tinyllm.errors import CheckpointError, ConfigError, MissingPartError, TinyLLMError, UsageError
from tinyllm.export.workflow import run as export
from tinyllm.reporting import RecordingReporter, SilentReporter
from tinyllm.training.base import find_base
from tinyllm.training.prepare import find_beginning
from tinyllm.training.rows import find_rows
from tinyllm.training.run_folder import RunFolder
from tinyllm.training.workflow import rehearse, run

peft = pytest.importorskip("peft")
pytest.importorskip("bitsandbytes")

CPU = torch.device("cpu")
QUESTION, ANSWER = {"role": "user", "content": "Who?"}, {"role": "assistant", "content": "The fox."}
SHOUTED = (
    "{% for m in messages %}{% if m.role == 'user' %}{{ m.content | upper }}! {% else %}"
    "{{ m.content + eos_token }}{% endif %}{% endfor %}"
)


def write_tuning(folder: Path, **changes: object) -> None:
    """Write conversations, and the config of a training beside the model in `model`."""
    folder.mkdir(parents=True, exist_ok=True)
    questions = [{**QUESTION, "content": f"Who{' now' * (i % 3)}?"} for i in range(24)]
    lines = [json.dumps({"messages": [question, ANSWER]}) for question in questions]
    (folder / "talk.jsonl").write_text("\n".join(lines) + "\n")
    config: dict[str, object] = {
        "data": {"train": "talk.jsonl", "validation_fraction": 0.2},
        "model": {"hf": "model"},
        "lora": {"rank": 2, "alpha": 4},
        "batch": {"micro_batch_size": 2, "grad_accum_steps": 2, "context_length": 64},
        "optimizer": {"learning_rate": 0.02},
        "schedule": {"decay": "constant", "warmup_steps": 1},
        "device": "cpu",
        "precision": "float32",
        "max_steps": 6,
        "checkpoint": {"path": "out/model.safetensors", "every_steps": 3},
        "evaluation": {"every_steps": 3},
    }
    values = {key: value for key, value in {**config, **changes}.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(values))


def tune(folder: Path, **flags: object) -> list[str]:
    """Train in this process; return what was said."""
    reporter = RecordingReporter()
    run(load_config(TrainConfig, folder / "config.json", flags=flags), reporter)
    return reporter.notes


def losses(folder: Path) -> list[float]:
    """Return the training losses of a run, step by step."""
    rows = RunFolder(folder / "out/model-run").read_metrics()
    return [row["loss_nats"] for row in rows if "loss_nats" in row]


def same_adapters(one: Path, other: Path) -> bool:
    """Tell whether two trainings have learnt the same matrices, bit for bit."""
    a, b = (load_file(f / "out/model-adapter/adapter_model.safetensors") for f in (one, other))
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(
    ("family", "form"),
    [("gemma2", "nf4"), pytest.param("opt", "none", marks=pytest.mark.long)],
)
def test_two_sittings_are_one(family: str, form: str, tmp_path: Path) -> None:
    lora = {"rank": 2, "dropout": 0.1, "quantization": form}
    for name in ("whole", "parted"):
        write_tuning(tmp_path / name, lora=lora, model={"hf": "../model"})
    save_other_model(tmp_path / "model", family)
    tune(tmp_path / "whole")
    for steps in (2, 6):
        tune(tmp_path / "parted", max_steps=steps)
    assert same_adapters(tmp_path / "whole", tmp_path / "parted")
    assert losses(tmp_path / "whole") == losses(tmp_path / "parted")
    assert losses(tmp_path / "whole")[-1] < losses(tmp_path / "whole")[0]
    state = tmp_path / "whole/out/model-run/state/step-00000006/model.safetensors"
    assert all(".lora_" in name for name in load_file(state))

    config = tmp_path / "model/config.json"
    config.write_text(config.read_text() + " ")
    with pytest.raises(ConfigError, match="differently: base "):
        run(load_config(TrainConfig, tmp_path / "whole/config.json"), SilentReporter(), resume=True)


@pytest.mark.long
@pytest.mark.parametrize(("family", "form"), [("neox", "nf4"), ("gemma2", "none")])
def test_a_killed_training_goes_on_to_the_same_bits(
    warm_tinyllm: Path, family: str, form: str, tmp_path: Path
) -> None:
    for name in ("whole", "killed"):
        lora = {"rank": 2, "dropout": 0.1, "quantization": form}
        write_tuning(tmp_path / name, lora=lora, model={"hf": "../model"})
    save_other_model(tmp_path / "model", family)
    done = train(tmp_path / "whole")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / "whole/out/model-adapter")
    killed = signal_at_step(warm_tinyllm, tmp_path / "killed", 5, signal.SIGKILL)
    assert killed.returncode == -signal.SIGKILL
    assert train(tmp_path / "killed").returncode == 0
    assert same_adapters(tmp_path / "whole", tmp_path / "killed")


def test_peft_and_our_adapters_learn_alike(tmp_path: Path) -> None:
    """Beside a family that is ours both ways are open: from one seed they are one training."""
    save_other_model(tmp_path / "model", "llama")
    for name, base in (("theirs", {"model": {"hf": "../model"}}), ("ours", {"model": None})):
        write_tuning(tmp_path / name, **base)
    path = tmp_path / "ours/config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "init_from": "../model"}))
    for name in ("theirs", "ours"):
        tune(tmp_path / name)
    found = [torch.tensor(losses(tmp_path / name)) for name in ("theirs", "ours")]
    torch.testing.assert_close(found[0], found[1], atol=1e-4, rtol=0)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # peft's own
def test_peft_opens_what_was_learnt_and_the_merge_says_the_same(tmp_path: Path) -> None:
    write_tuning(tmp_path, samples={"prompts": ["Who?"], "max_new_tokens": 4})
    save_other_model(tmp_path / "model", "neox")
    (tmp_path / "model/sentencepiece.bpe.model").write_bytes(b"pieces")
    notes = " ".join(tune(tmp_path))
    assert "parameters train" in notes
    assert "sample: Who?" in notes
    place = tmp_path / "out/model-adapter"
    assert (place / "sentencepiece.bpe.model").read_bytes() == b"pieces"
    assert (tmp_path / "out/model-run/best-adapter/adapter_model.safetensors").is_file()
    opened = peft.AutoPeftModelForCausalLM.from_pretrained(place).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(place)
    ids = tokenizer.apply_chat_template([QUESTION], return_tensors="pt", return_dict=True)
    config = ExportConfig(checkpoint=str(tmp_path / "out"), output=tmp_path / "merged")
    parity = export(config, SilentReporter()).parity
    assert parity is not None
    assert parity.same_text
    assert parity.max_logit_difference < 1e-4
    kinds = [overview(path)["kind"] for path in (place, tmp_path / "merged")]
    assert kinds == ["adapter", "foreign"]
    merged, base = (
        transformers.AutoModelForCausalLM.from_pretrained(tmp_path / name).eval()
        for name in ("merged", "model")
    )
    with torch.no_grad():
        said = [model(**ids).logits for model in (opened, merged, base)]
    torch.testing.assert_close(said[0], said[1], atol=1e-4, rtol=0)
    assert (said[0] - said[2]).abs().max() > 0.01
    with pytest.raises(CheckpointError, match="is an adapter"):
        find_checkpoint(str(tmp_path / "out"))
    config = ExportConfig(checkpoint=str(place), output=tmp_path / "x.gguf", format="gguf")
    with pytest.raises(UsageError, match="merged into a folder"):
        export(config, SilentReporter())
    config = load_config(TrainConfig, tmp_path / "config.json", flags={"max_steps": 2})
    run(config, SilentReporter(), fresh=True)
    assert (tmp_path / "out/model-run.1/model-adapter/adapter_config.json").is_file()


def test_what_the_report_says_to_do_next_merges_the_adapter(here: Here, tmp_path: Path) -> None:
    write_tuning(tmp_path, max_steps=2)
    save_other_model(tmp_path / "model", "neox")
    tune(tmp_path)
    report = (tmp_path / "out/model-run/report.md").read_text("utf-8")
    program, *command = shlex.split(report.partition("## Next")[2].splitlines()[3])
    assert program == "tinyllm"
    assert here(*command).code == 0
    assert (tmp_path / "model-merged/config.json").is_file()


def test_only_answers_are_learnt_in_the_words_of_the_models_own_template(tmp_path: Path) -> None:
    write_tuning(tmp_path, data={"train": "talk.jsonl", "packing": "single"})
    save_other_model(tmp_path / "model", "phi")
    (tmp_path / "model/chat_template.jinja").write_text(SHOUTED)
    config = load_config(TrainConfig, tmp_path / "config.json")
    base = find_base(config, CPU, SilentReporter())
    beginning = find_beginning(config, None, SilentReporter(), base.foreign)
    rows = find_rows(config, beginning, SilentReporter())
    batch = rows.stream(1).batch(0, 1)
    ids, targets = batch.input_ids[0].tolist(), batch.targets[0].tolist()
    learnt = [target for target in targets if target != -100]
    assert beginning.tokenizer.decode(ids).startswith("WHO")
    assert beginning.tokenizer.decode(learnt[:-1]) == ANSWER["content"]
    assert learnt[-1] == beginning.tokenizer.end_of_text_id


def test_a_preference_is_learnt_beside_a_foreign_model(tmp_path: Path) -> None:
    pairs = [{"prompt": f"c{i}", "chosen": "a fox", "rejected": "the sun"} for i in range(12)]
    write_tuning(tmp_path, data={"train": "pairs.jsonl"}, preference={"beta": 0.2})
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)) + "\n")
    save_other_model(tmp_path / "model", "opt")
    tune(tmp_path)
    rows = list(RunFolder(tmp_path / "out/model-run").read_metrics())
    assert rows[-1]["validation_preference_margin"] > 0
    write_tuning(tmp_path, data={"train": "pairs.jsonl"})
    with pytest.raises(ConfigError, match="holds pairs") as refused:
        run(load_config(TrainConfig, tmp_path / "config.json"), SilentReporter(), fresh=True)
    assert 'beside "model"' in (refused.value.hint or "")


def test_a_rehearsal_leaves_nothing(tmp_path: Path) -> None:
    write_tuning(tmp_path)
    save_other_model(tmp_path / "model", "neox")
    forecast = rehearse(load_config(TrainConfig, tmp_path / "config.json"), SilentReporter())
    assert forecast.fits
    assert 0 < forecast.parameters["adapters"] < forecast.parameters["frozen"]
    assert not (tmp_path / "out").exists()


@pytest.mark.long
@pytest.mark.skipif(not torch.distributed.is_available(), reason="needs torch.distributed")
def test_two_processes_wait_for_no_adapter_that_text_does_not_reach(tmp_path: Path) -> None:
    write_tuning(tmp_path)
    save_other_model(tmp_path / "model", "bart")
    done = train_apart(tmp_path, program=(sys.executable, *TORCHRUN, "-m", "tinyllm"))
    assert done.returncode == 0, done.stderr
    assert len(losses(tmp_path)) == 6


def remove_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def leave_a_pickle(folder: Path) -> None:
    remove_weights(folder)
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04pickle")


def cut_weights_off(folder: Path) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:-9])


def say(**values: object) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

    return write


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (remove_weights, "holds no model.safetensors"),
        (leave_a_pickle, "as a pickle"),
        (cut_weights_off, "cut off or damaged"),
        (say(model_type="mine", auto_map={"AutoModel": "m.M"}), "code of its own"),
        (say(model_type="mine"), "knows no causal model"),
        (say(model_type="clip"), "knows no causal model"),
        (say(quantization_config={"bits": 4}), "quantized already"),
        (say(hidden_size="wide"), "not read by transformers"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "tokenizer.json"),
    ],
)
def test_an_unfit_model_is_refused_before_any_data_is_read(
    change: Callable[[Path], None], said: str, tmp_path: Path
) -> None:
    write_tuning(tmp_path, data={"train": "nowhere.jsonl"})
    save_other_model(tmp_path / "model", "neox")
    change(tmp_path / "model")
    with pytest.raises(CheckpointError, match=said):
        tune(tmp_path)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"model": {"hf": "none"}}, CheckpointError, "there is no checkpoint"),
        ({"model": {"hf": "talk.jsonl"}}, CheckpointError, "no folder of a model"),
        ({"lora": {"targets": ["q_proj"]}}, ConfigError, "q_proj, which this gpt_neox"),
        ({"lora": {"targets": ["embed_out"]}}, ConfigError, "embed_out, which this gpt_neox"),
        ({"lora": None}, ConfigError, "stays frozen"),
        ({"lora": {"merge_first": "x"}}, ConfigError, "needs `init_from`"),
        ({"distributed": {"strategy": "fsdp"}}, ConfigError, "ddp, not fsdp"),
        ({"model": {"hf": "model", "n_layers": 2}}, ConfigError, "comes from `hf`"),
        ({"tokenizer": {"kind": "char"}}, ConfigError, "comes from `model.hf`"),
        ({"compile": "on"}, ConfigError, "not compiled"),
        ({"init_from": "model"}, ConfigError, "comes from `init_from`"),
        ({"model": None, "init_from": "none"}, CheckpointError, "there is no checkpoint"),
    ],
)
def test_what_does_not_fit_is_refused_before_any_data_is_read(
    changes: dict[str, object], error: type[TinyLLMError], said: str, tmp_path: Path
) -> None:
    write_tuning(tmp_path, **{"data": {"train": "nowhere.jsonl"}, **changes})
    save_other_model(tmp_path / "model", "neox")
    with pytest.raises(error, match=said):
        tune(tmp_path)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("package", ["transformers", "peft", "bitsandbytes"])
def test_a_missing_package_is_named_first(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lora = {"rank": 2, "quantization": "nf4"}
    write_tuning(tmp_path, data={"train": "nowhere.jsonl"}, lora=lora)
    save_other_model(tmp_path / "model", "neox")
    config = load_config(TrainConfig, tmp_path / "config.json")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPartError, match=package) as refused:
        find_base(config, CPU, SilentReporter())
    assert "tinyllm[hf]" in (refused.value.hint or "")


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="needs a device that is not here")
def test_plain_adapters_stand_in_where_four_bits_are_not_to_be_had(tmp_path: Path) -> None:
    write_tuning(tmp_path, lora={"rank": 2, "quantization": "nf4"})
    save_other_model(tmp_path / "model", "neox")
    reporter = RecordingReporter()
    base = find_base(
        load_config(TrainConfig, tmp_path / "config.json"), torch.device("mps"), reporter
    )
    assert not base.packs
    assert "cannot hold weights in 4 bits on mps" in reporter.warnings[0]


def test_missing_weights_are_not_made_up(tmp_path: Path) -> None:
    write_tuning(tmp_path)
    save_other_model(tmp_path / "model", "neox")
    path = tmp_path / "model/model.safetensors"
    weights = load_file(path)
    gone = sorted(weights)[-1]
    save_file({n: w for n, w in weights.items() if n != gone}, path, {"format": "pt"})
    with pytest.raises(CheckpointError, match="lacks 1 weights"):
        tune(tmp_path)
