"""`tinyllm models` and `tinyllm export` as people type them."""

import json

import pytest

from tests.cli.here import Here
from tests.cli.screen import Terminal
from tests.tiny import TEXT, write_tiny_checkpoint
from tinyllm.files import sha256_file


@pytest.fixture
def here(tmp_path, monkeypatch, capfd):
    training = {
        "config": {"name": "tale"},
        "step": 7,
        "trained_tokens": 4200,
        "data": [{"source": "t.txt", "manifest": {"name": "t.txt", "licence": ["CC0-1.0"]}}],
    }
    write_tiny_checkpoint(tmp_path / "tale.safetensors", chat=True, training=training)
    (tmp_path / "notes.txt").write_text("mine")
    return Here(tmp_path, monkeypatch, capfd)


def test_models_are_listed_with_size_and_licences(here, tmp_path):
    exported = here("export", "tale", "models/tale-hf", "--no-check")
    assert exported.code == 0, exported.err
    assert exported.out == "models/tale-hf\n"
    listed = json.loads(here("models", "list", "--json").out)
    assert {one["path"] for one in listed} == {"tale.safetensors", "models/tale-hf"}
    assert all(one["licences"] == ["CC0-1.0"] and one["kind"] == "chat" for one in listed)
    table = here("models", "list").out.splitlines()
    assert table[0].startswith("model")
    assert len(table) == 3


def test_the_list_fits_a_narrow_terminal(here, tmp_path):
    write_tiny_checkpoint(tmp_path / "runs" / "a-name-longer-than-others.safetensors")
    terminal = Terminal("models", "list", folder=tmp_path, state=tmp_path, columns=60)
    assert terminal.end() == 0
    shown = [line for line in terminal.lines() if line]
    assert shown[0] == "model"
    assert shown[-2].endswith("safetensors")
    assert max(map(len, shown)) <= 60


def test_a_folder_without_models_says_so(tmp_path, monkeypatch, capfd):
    listed = Here(tmp_path, monkeypatch, capfd)("models", "list")
    assert (listed.code, listed.out) == (0, "")
    assert "there are no models" in listed.err


def test_a_model_is_described(here):
    text = here("models", "inspect", "tale").out
    for words in ("tale.safetensors (chat", "4.2k tokens", "t.txt: CC0-1.0", "ends with <|endof"):
        assert words in text
    values = json.loads(here("models", "inspect", "tale", "--json").out)
    assert values["parameters"]["total"] == sum(values["parameters"].values()) / 2
    assert values["licences"] == ["CC0-1.0"]


def test_a_training_without_a_name_is_told_without_one(here, tmp_path):
    record = {"config": {"name": None}, "step": 8, "trained_tokens": 4200}
    write_tiny_checkpoint(tmp_path / "plain.safetensors", training=record)
    shown = here("models", "inspect", "plain").out
    assert ["training", "8", "steps,", "4.2k", "tokens"] in [x.split() for x in shown.splitlines()]


def test_a_model_is_verified(here, tmp_path):
    path = tmp_path / "tale.safetensors"
    digest = sha256_file(path)
    good = here("models", "verify", "tale", "--sha256", digest)
    assert good.code == 0, good.err
    assert digest in good.out
    assert "good  weights in tale.safetensors: as they were written" in good.out
    wrong = here("models", "verify", "tale", "--sha256", "0" * 64)
    assert wrong.code == 4
    assert "was expected" in wrong.err
    content = bytearray(path.read_bytes())
    content[-9] ^= 1  # a whole file, of finite numbers
    path.write_bytes(content)
    damaged = here("models", "verify", "tale")
    assert damaged.code == 4
    assert "BAD   weights in tale.safetensors: not those that were written" in damaged.out
    path.write_bytes(content[:-8])
    torn = here("models", "verify", "tale.safetensors")
    assert torn.code == 4
    assert "cut off or damaged" in torn.err
    assert torn.out == ""


def test_an_export_prints_how_far_it_is_from_the_checkpoint(here):
    exported = here("export", "tale", "out", "--format", "gguf", "--dtype", "q8_0")
    assert exported.code == 0, exported.err
    assert exported.out.splitlines()[0] == "out/tale-q8_0.gguf"
    assert "nats per token" in exported.out
    result = json.loads(here("export", "tale", "f.gguf", "--format", "gguf", "--json").out)
    assert result["parity"]["same_text"] is True
    assert result["parity"]["max_logit_difference"] < 1e-4


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("tale",), 2, "`output` is required"),
        (("nobody", "out"), 4, "no checkpoint named nobody"),
        (("tale", "out", "--dtype", "q8_0"), 2, "needs `format` gguf"),
        (("tale", "out", "--format", "onnx"), 2, "format"),
        (("tale", "tale.safetensors"), 2, "is the checkpoint itself"),
        (("tale", "tale.safetensors", "--format", "tinyllm"), 2, "is the checkpoint itself"),
        (("tale", "notes.txt"), 2, "is a file"),
        (("tale", "tale.safetensors/x"), 3, "cannot write"),
        (("tale", "."), 2, "other files"),
        (("tale", "out", "--push", "nobody"), 2, "push"),
    ],
)
def test_mistakes_are_named(here, arguments, code, message):
    failed = here("export", *arguments)
    assert failed.code == code, failed.err
    assert message in failed.err
    assert failed.out == ""
    assert "Traceback" not in failed.err


def test_the_card_holds_the_scores_of_this_very_checkpoint(here, tmp_path):
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    measured = here("eval-loss", "-c", "tale", "--data", "text.txt", "--output", "tale-eval/loss")
    assert measured.code == 0, measured.err
    assert here("export", "tale", "out", "--no-check").code == 0
    assert "| loss | bits per byte |" in (tmp_path / "out" / "README.md").read_text()
    write_tiny_checkpoint(tmp_path / "tale.safetensors", seed=9)
    assert here("export", "tale", "out", "--no-check").code == 0
    assert "None were measured." in (tmp_path / "out" / "README.md").read_text()


def test_an_exported_model_speaks_by_its_folder(here):
    assert here("export", "tale", "out", "--no-check").code == 0
    asked = ("--prompt", "a little fox", "--temperature", "0", "--max-new-tokens", "12")
    spoken = here("infer", "-c", "out", *asked)
    assert spoken.code == 0, spoken.err
    assert spoken.out == here("infer", "-c", "tale", *asked).out
