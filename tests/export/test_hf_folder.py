"""What is exported in Hugging Face's form loads there and says the same; what is read back, too."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.foreign import MODELS, VOCAB, save_model
from tests.small_disk import SmallDisk
from tests.tiny import tiny_tokenizer, write_tiny_checkpoint
from tinyllm.chat_template import JinjaTemplate, MarkerTemplate
from tinyllm.checkpoint import load_checkpoint, read_checkpoint
from tinyllm.config.export import ExportConfig
from tinyllm.config.generation import Sampling
from tinyllm.errors import DataError, UsageError
from tinyllm.export.chat_templates import as_jinja
from tinyllm.export.hf_folder import write_folder
from tinyllm.export.workflow import run
from tinyllm.generation.engine import Engine
from tinyllm.generation.prompting import prompt_ids
from tinyllm.records import Message
from tinyllm.reporting import SilentReporter
from tinyllm.tokenizer import Tokenizer

transformers = pytest.importorskip("transformers")

NASTY = [
    "",
    " ",
    "  two  spaces ",
    "\n\n\ttabs\r\nand lines",
    "naïve café — “quotes” … ’s",
    "👩‍👩‍👧‍👦 🏳️‍🌈 🇺🇳 e\u0301 \u200b\ufeff zero width",
    "مرحبا بالعالم שלום",
    "日本語 한국어 ไทย",
    "\U0001f600" * 20,
    "\x00\x01\x7f control",
    "<|endoftext|",
    "don't we'll I'M 12345 3.14",
]
TURNS = [
    Message("system", "You are a fox."),
    Message("user", 'Write a story with {braces} & "quotes".'),
    Message("assistant", "Once upon a time."),
    Message("user", "Go on.\n\n### Response:\n"),
]


def export(checkpoint: Path, folder: Path, **options: object) -> object:
    config = ExportConfig(checkpoint=str(checkpoint), output=folder, **options)
    return run(config, SilentReporter())


@pytest.mark.parametrize("name", MODELS)
def test_a_foreign_model_survives_the_way_there_and_back(name: str, tmp_path: Path) -> None:
    theirs = save_model(tmp_path / "theirs", name)
    write_folder(
        tmp_path / "ours", read_checkpoint(tmp_path / "theirs"), dtype=torch.float32, card="card"
    )
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours").eval()
    assert type(again) is type(theirs) or name == "mistral"
    ids = torch.randint(VOCAB, (2, 90), generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        torch.testing.assert_close(again(ids).logits, theirs(ids).logits, atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", ["llama", "gpt-neo"])
@pytest.mark.parametrize("chat", [False, True])
def test_our_model_says_the_same_there_and_stops(family: str, chat: bool, tmp_path: Path) -> None:
    path = write_tiny_checkpoint(tmp_path / "tiny.safetensors", family=family, chat=chat, seed=5)
    result = export(path, tmp_path / "out")
    assert result.parity.same_text
    assert result.parity.max_logit_difference < 1e-4
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    assert model.generation_config.eos_token_id == [tokenizer.eos_token_id]

    stored = read_checkpoint(path)
    prompt = prompt_ids(stored, "a little fox")
    ours = Engine(stored).complete([prompt], Sampling(temperature=0, max_new_tokens=30))[0]
    whole = model.generate(torch.tensor([prompt]), max_new_tokens=30, do_sample=False)[0]
    assert whole[len(prompt) :].tolist() == list(ours.ids)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tokenizer of a tiny model."""
    folder = tmp_path_factory.mktemp("exported")
    export(write_tiny_checkpoint(folder / "tiny.safetensors"), folder / "out", check=False)
    return folder / "out"


@cache
def tokenizers_of(folder: Path) -> tuple[Tokenizer, Any]:
    """Our tokenizer of a folder, and that of transformers."""
    return read_checkpoint(folder).tokenizer, transformers.AutoTokenizer.from_pretrained(folder)


def test_every_weight_and_record_comes_back(tmp_path: Path) -> None:
    training = {"config": {"name": "tale"}, "data": [], "step": 7}
    path = write_tiny_checkpoint(
        tmp_path / "tiny.safetensors",
        family="gpt-neo",
        chat=True,
        training=training,
        generation={"temperature": 0.5},
    )
    stored = read_checkpoint(path)
    write_folder(tmp_path / "out", stored, dtype=torch.float32, card="", shard_bytes=20_000)
    assert (tmp_path / "out" / "model.safetensors.index.json").is_file()
    again = read_checkpoint(tmp_path / "out")
    assert again.info.config == stored.info.config
    assert again.template == stored.template
    assert (again.info.training, again.info.generation) == (training, {"temperature": 0.5})
    for name, weight in stored.weights.items():
        assert (again.weights[name] == weight).all()
    export(tmp_path / "out", tmp_path / "again.safetensors", format="tinyllm")
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("kind", ["bpe", "char"])
def test_tokenizers_agree_on_nasty_text(kind: str, tmp_path: Path) -> None:
    path = write_tiny_checkpoint(tmp_path / "tiny.safetensors", kind=kind)
    export(path, tmp_path / "out", check=False)
    ours = read_checkpoint(tmp_path / "out").tokenizer
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    for text in NASTY:
        ids = theirs(text, add_special_tokens=True)["input_ids"]
        assert ours.encode(text) == ids
        if kind == "bpe":
            assert theirs.decode(ids) == ours.decode(ids) == text


def test_the_chat_template_is_the_same_string_and_the_same_ids(tmp_path: Path) -> None:
    path = write_tiny_checkpoint(tmp_path / "tiny.safetensors", chat=True)
    export(path, tmp_path / "out", check=False)
    stored = read_checkpoint(path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    messages = [{"role": m.role, "content": m.content} for m in TURNS]
    ids = theirs.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)
    assert ids["input_ids"] == stored.template.prompt_ids(TURNS, stored.tokenizer)
    text = theirs.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    jinja = JinjaTemplate(as_jinja(stored.template), {"eos_token": "<|endoftext|>"})
    assert jinja.text(TURNS, opens_answer=True) == text
    assert jinja.prompt_ids(TURNS, stored.tokenizer) == ids["input_ids"]


def test_a_template_with_awkward_markers_is_the_same_string() -> None:
    template = MarkerTemplate(
        system='{content}"\\n',
        user="{{ {content} }} {% x %}\n",
        assistant_header="\tTörtchen 🦊:\n",
    )
    tokenizer = tiny_tokenizer()
    jinja = JinjaTemplate(as_jinja(template), {"eos_token": "<|endoftext|>"})
    assert jinja.prompt_ids(TURNS, tokenizer) == template.prompt_ids(TURNS, tokenizer)


def test_an_export_replaces_an_export_and_nothing_else(tmp_path: Path) -> None:
    path = write_tiny_checkpoint(tmp_path / "tiny.safetensors")
    export(path, tmp_path / "out", check=False)
    stale = tmp_path / "out" / "model-00001-of-00002.safetensors"
    stale.write_text("old")
    export(path, tmp_path / "out", check=False, dtype="bfloat16")
    assert not stale.exists()
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "bfloat16"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(UsageError, match="other files"):
        export(path, tmp_path / "mine")
    assert (tmp_path / "mine" / "letter.txt").read_text() == "dear"
    (tmp_path / "out" / "letter.txt").write_text("dear")
    with pytest.raises(UsageError, match=r"letter\.txt"):
        export(path, tmp_path / "out")
    assert not list(tmp_path.glob(".*"))


def test_the_card_names_data_licences_and_scores(tmp_path: Path) -> None:
    manifest = {"name": "tales.txt", "documents": 12, "licence": ["CC-BY-4.0"]}
    training = {
        "config": {"name": "tale"},
        "data": [{"source": "x/tales.txt", "manifest": manifest}],
        "step": 1200,
        "validation": {"bits_per_byte": 0.75},
        "started_from": {"config": {}, "data": [{"source": "elsewhere.txt", "manifest": None}]},
    }
    path = write_tiny_checkpoint(tmp_path / "tiny.safetensors", training=training)
    export(path, tmp_path / "out", check=False, licence="Apache-2.0")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| tales.txt | 12 | CC-BY-4.0 |" in card
    assert "| elsewhere.txt | unknown | unknown |" in card
    assert "Of some data the licence is unknown." in card
    assert "| validation text | bits per byte | 0.7500 |" in card
    assert 'license: "apache-2.0"' in card


def test_the_network_of_an_export_can_be_trained_on(tmp_path: Path) -> None:
    path = write_tiny_checkpoint(tmp_path / "tiny.safetensors", family="gpt-neo")
    export(path, tmp_path / "out", check=False)
    loaded = load_checkpoint(tmp_path / "out")
    loss = loaded.model(torch.tensor([[1, 2, 3]]), targets=torch.tensor([[2, 3, 4]]))
    loss.backward()
    assert all(p.grad is not None for p in loaded.model.parameters())


@given(text=st.text())
def test_any_text_has_the_same_ids_there(text: str, exported: Path) -> None:
    ours, theirs = tokenizers_of(exported)
    ids = theirs(text)["input_ids"]
    if "<|endoftext|>" not in text:
        assert ours.encode(text) == ids
    assert ours.decode(ours.encode(text)) == text


@pytest.mark.parametrize(("file_format", "size"), [("hf", "100k"), ("gguf", "60k")])
def test_a_full_disk_leaves_nothing_behind(
    file_format: str, size: str, tmp_path: Path, small_disk: SmallDisk
) -> None:
    path = write_tiny_checkpoint(tmp_path / "tiny.safetensors")
    disk = small_disk(f"size={size}")
    with pytest.raises(DataError, match="cannot write"):
        export(path, disk / "out", check=False, format=file_format)
    assert not [found for found in disk.rglob("*") if found.is_file()]
