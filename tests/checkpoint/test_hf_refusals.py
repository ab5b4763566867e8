"""Folders made to mislead are refused in one sentence; nothing of them runs or fills the memory."""

import json
import os
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.foreign import save_model
from tinyllm.chat_template import JinjaTemplate
from tinyllm.checkpoint import read_checkpoint
from tinyllm.errors import CheckpointError, ConfigError, TinyLLMError, UsageError
from tinyllm.records import Message

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
_MOST_BYTES = 40_000_000


class Bomb:
    """What an attacker hopes that somebody unpickles."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("good")
    save_model(folder, "llama, tied, all heads")
    return folder


@pytest.fixture
def folder(good: Path, tmp_path: Path) -> Path:
    for file in good.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def configured(**values: object) -> Callable[[Path], None]:
    return described("config.json", values)


def tokenized(**values: object) -> Callable[[Path], None]:
    return described("tokenizer.json", values)


def described(name: str, values: dict[str, object]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / name
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return change


def weighted(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        weights = {name: x.copy() for name, x in load_file(folder / WEIGHTS).items()}
        change(weights)
        save_file(weights, folder / WEIGHTS)

    return apply


def written(name: str, content: bytes | str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        data = content.encode() if isinstance(content, str) else content
        (folder / name).write_bytes(data)

    return write


def header(values: object, n_bytes: int = 0) -> bytes:
    text = json.dumps(values).encode()
    return struct.pack("<Q", len(text)) + text + bytes(n_bytes)


def pickled(name: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        import pickle

        (folder / WEIGHTS).unlink()
        (folder / name).write_bytes(pickle.dumps(Bomb(folder / "exploded")))

    return write


def pointing(name: str) -> Callable[[Path], None]:
    return written(INDEX, json.dumps({"weight_map": {"model.norm.weight": name}}))


def set_nan(weights: dict[str, Any]) -> None:
    weights["model.norm.weight"][3] = np.nan


def set_shape(weights: dict[str, Any]) -> None:
    weights["model.norm.weight"] = np.zeros(7, np.float32)


def set_integers(weights: dict[str, Any]) -> None:
    weights["model.norm.weight"] = np.zeros(48, np.int64)


HUGE = {
    "model.norm.weight": {"dtype": "F32", "shape": [2_500_000_000], "data_offsets": [0, 10**10]}
}
TANGLED = {"rope_type": "yarn", "rope_theta": 10_000.0, "factor": 4.0}
ATTACKS: dict[str, tuple[Callable[[Path], None], str]] = {
    "pickle in disguise": (pickled(WEIGHTS), "pickle"),
    "pickle beside": (pickled("pytorch_model.bin"), "pickle"),
    "no weights": (lambda folder: (folder / WEIGHTS).unlink(), "holds no model.safetensors"),
    "header of 2^63 bytes": (written(WEIGHTS, struct.pack("<Q", 2**63) + b"{}"), "damaged|not a"),
    "header of 90 MB": (written(WEIGHTS, struct.pack("<Q", 90_000_000) + b"{" * 900), "damaged"),
    "10 GB in 1 kB": (written(WEIGHTS, header(HUGE, 1000)), "damaged"),
    "deep header": (written(WEIGHTS, header({}) + b"[" * 5000), "damaged|not a"),
    "path upwards": (pointing("../other.safetensors"), "no .safetensors file"),
    "whole path": (pointing("/etc/passwd"), "no .safetensors file"),
    "Windows path": (pointing("..\\other.safetensors"), "no .safetensors file"),
    "index of a pickle": (pointing("pytorch_model.bin"), "no .safetensors file"),
    "index of nothing": (pointing("gone.safetensors"), "gone.safetensors"),
    "index that is a list": (written(INDEX, "[]"), "JSON object"),
    "index without files": (written(INDEX, '{"weight_map": {}}'), "names no files"),
    "NaN": (weighted(set_nan), "not finite"),
    "wrong shape": (weighted(set_shape), "has shape"),
    "integers": (weighted(set_integers), "holds I64"),
    "a tensor missing": (weighted(lambda w: w.update(x=w.pop("model.norm.weight"))), "missing"),
    "a tensor too many": (
        weighted(lambda w: w.update(extra=np.zeros(1, np.float32))),
        "extra not expected",
    ),
    "a billion layers": (configured(num_hidden_layers=10**9), "shape is unusable"),
    "ten thousand layers": (configured(num_hidden_layers=10_000), "claims 10000 layers"),
    "a huge width": (configured(hidden_size=2**23, head_dim=8), "has shape"),
    "a width of text": (configured(hidden_size="48"), "unusable|wrong value"),
    "a width of nothing": (configured(hidden_size=None), "unusable|wrong value"),
    "no heads": (configured(num_attention_heads=0), "unusable|wrong value"),
    "no heads and no width of one": (
        configured(num_attention_heads=0, head_dim=None),
        "unusable|wrong value",
    ),
    "layers without end": (
        configured(
            model_type="gpt_neo",
            num_layers=10**12,
            num_heads=6,
            attention_types=[[["global", "local"], 10**12]],
        ),
        "unusable|in turn",
    ),
    "a type that is a list": (configured(model_type=["llama"]), "not known here"),
    "added tokens of nothing": (tokenized(added_tokens=None), "tokenizer"),
    "an added token without number": (tokenized(added_tokens=[{}]), "tokenizer"),
    "a processor that is a number": (tokenized(post_processor=-1), "tokenizer"),
    "an unknown type": (configured(model_type="mamba"), "not known here"),
    "an unknown rotation": (configured(rope_parameters=TANGLED), "yarn"),
    "quantised": (configured(quantization_config={"bits": 4}), "quantised"),
    "biases": (configured(attention_bias=True), "attention_bias"),
    "an unknown activation": (configured(hidden_act="relu"), "relu"),
    "config that is deep": (
        written("config.json", '{"model_type": ' + "[" * 100_000),
        "no checkpoint|nested",
    ),
    "no tokenizer": (lambda folder: (folder / "tokenizer.json").unlink(), "no tokenizer.json"),
    "a tokenizer of nothing": (written("tokenizer.json", "{}"), "not supported"),
    "a broken tokenizer": (
        written("tokenizer.json", '{"model": {"type": "BPE"}, "decoder": {"type": "ByteLevel"}}'),
        "tokenizer",
    ),
    "a small vocabulary": (configured(vocab_size=5), "has shape"),
    "a template of its own mind": (
        written("chat_template.jinja", "{% for %}"),
        "template is broken",
    ),
}


@pytest.mark.parametrize(("attack", "reason"), ATTACKS.values(), ids=ATTACKS.keys())
def test_it_is_refused(attack: Callable[[Path], None], reason: str, folder: Path) -> None:
    attack(folder)
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match=reason) as refused:
            read_checkpoint(folder)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < _MOST_BYTES
    assert "\n" not in refused.value.message
    assert len(refused.value.message) < 600
    assert not (folder / "exploded").exists()


def test_code_that_comes_with_a_model_is_not_run(folder: Path) -> None:
    (folder / "modeling_evil.py").write_text(f"open({str(folder / 'ran')!r}, 'w')")
    configured(auto_map={"AutoModelForCausalLM": "modeling_evil.Evil"})(folder)
    read_checkpoint(folder)
    assert not (folder / "ran").exists()


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages.__class__.__mro__ }}",
        "{{ ''.__class__.__base__.__subclasses__() }}",
        "{{ cycler.__init__.__globals__.os.system('true') }}",
        "{{ 'a' * 10000000000 }}",
        "{{ '%10000000000d' % 1 }}",
        "{{ 10 ** 1000000000 }}",
        "{{ [0] * 10000000000 }}",
        "{% for i in range(1000000000) %}x{% endfor %}",
        "{{ messages.append(1) }}",
        "{{ raise_exception('no') }}",
        "{{ undefined.deep }}",
    ],
)
def test_a_template_that_reaches_out_is_refused(source: str) -> None:
    template = JinjaTemplate.from_json({"jinja": source})
    with pytest.raises(UsageError) as refused:
        template.text([Message("user", "hello")], opens_answer=True)
    assert "\n" not in refused.value.message


def test_a_template_of_endless_source_is_refused() -> None:
    with pytest.raises(ConfigError, match="characters is refused"):
        JinjaTemplate.from_json({"jinja": "x" * 2_000_000})


def test_a_sparse_file_of_ten_gigabytes_is_not_read(folder: Path) -> None:
    with open(folder / "tokenizer.json", "r+b") as file:
        file.truncate(10**10)
    with pytest.raises(TinyLLMError, match="too much"):
        read_checkpoint(folder)
