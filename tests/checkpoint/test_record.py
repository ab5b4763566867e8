"""A checkpoint is one file and complete; a broken one is refused in one sentence."""

import json
import pickle
import resource
import shutil
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.tiny import tiny_model, tiny_tokenizer
from tinyllm.chat_template import MarkerTemplate
from tinyllm.checkpoint import (
    CheckpointInfo,
    load_checkpoint,
    read_checkpoint,
    read_checkpoint_info,
    save_checkpoint,
)
from tinyllm.checkpoint.weights import (
    SHA256_KEY,
    are_as_written,
    open_weights,
    write_weights,
)
from tinyllm.config.model import ModelConfig
from tinyllm.errors import CheckpointError, DataError
from tinyllm.files import atomic_write
from tinyllm.model.transformer import Transformer

TRAINING = {"steps": 12, "losses": {"validation": 1.5}, "data": [{"name": "stories"}]}
_HEADER = struct.Struct("<Q")
_NOT_YET = "0" * 64
"""What stands in a header until the weights are written and hashed."""


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole checkpoint, not to be changed."""
    path = tmp_path_factory.mktemp("saved") / "model.safetensors"
    tokenizer = tiny_tokenizer()
    save_checkpoint(
        path,
        tiny_model(tokenizer),
        tokenizer,
        template=MarkerTemplate(),
        training=TRAINING,
        generation={"temperature": 0.7},
    )
    return path


def split(path: Path) -> tuple[dict[str, Any], bytes]:
    """Return a safetensors file's header and data."""
    raw = path.read_bytes()
    (length,) = _HEADER.unpack(raw[:8])
    return json.loads(raw[8 : 8 + length]), raw[8 + length :]


def join(path: Path, header: object, data: bytes) -> Path:
    encoded = json.dumps(header).encode()
    path.write_bytes(_HEADER.pack(len(encoded)) + encoded + data)
    return path


def with_about(saved: Path, path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """Copy a checkpoint with its description changed."""
    header, data = split(saved)
    about = json.loads(header["__metadata__"]["tinyllm"])
    change(about)
    header["__metadata__"]["tinyllm"] = json.dumps(about)
    return join(path, header, data)


def with_weights(
    saved: Path, path: Path, change: Callable[[dict[str, torch.Tensor]], object]
) -> Path:
    """Copy a checkpoint with its weights changed."""
    metadata = split(saved)[0]["__metadata__"]
    weights = safetensors.torch.load_file(saved)
    change(weights)
    path.write_bytes(safetensors.torch.save(weights, metadata))
    return path


@pytest.mark.parametrize("family", ["llama", "gpt-neo"])
@pytest.mark.parametrize("kind", ["bpe", "char"])
@pytest.mark.parametrize("template", [None, MarkerTemplate(user="Q: {content}\n")])
def test_what_was_saved_is_loaded(
    tmp_path: Path, family: str, kind: str, template: MarkerTemplate | None
) -> None:
    tokenizer = tiny_tokenizer(kind)
    model = tiny_model(tokenizer, family=family)
    path = tmp_path / "deep" / "er" / "model.safetensors"
    save_checkpoint(
        path, model, tokenizer, template=template, training=TRAINING, generation={"top_k": 5}
    )
    loaded = load_checkpoint(path)
    assert loaded.tokenizer.fingerprint == tokenizer.fingerprint
    assert loaded.template == template
    info = CheckpointInfo(
        path, model.config, "chat" if template else "base", TRAINING, {"top_k": 5}
    )
    assert loaded.info == info == read_checkpoint_info(path)
    assert not loaded.model.training
    for name, weight in model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], weight)
    input_ids = torch.arange(9).unsqueeze(0)
    assert torch.equal(loaded.model(input_ids), model(input_ids))
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_loading_leaves_the_compiler_out(saved: Path) -> None:
    """Drawing values on torch's meta device would import it, and cost more than a second."""
    script = (
        "import sys; from tinyllm.checkpoint import load_checkpoint; load_checkpoint(sys.argv[1]);"
        "sys.exit('torch._inductor' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script, str(saved)], check=True)


def test_reading_imports_no_torch(saved: Path) -> None:
    script = (
        "import sys; from tinyllm.checkpoint import read_checkpoint;"
        "dict(read_checkpoint(sys.argv[1]).weights); sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script, str(saved)], check=True)


def test_weights_of_float32_are_views_that_never_reach_the_file(saved: Path) -> None:
    before = saved.read_bytes()
    stored = read_checkpoint(saved)
    for name, weight in stored.weights.items():
        assert not weight.flags.owndata
        assert weight.dtype == np.float32
        assert weight.shape == stored.weights.shapes[name]
        weight += 1
    assert saved.read_bytes() == before


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    for name in ("a", "b"):
        save_checkpoint(
            tmp_path / name, tiny_model(tokenizer), tokenizer, template=None, training=TRAINING
        )
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_the_library_reads_the_file_and_a_tied_head_is_there_once(saved: Path) -> None:
    weights = safetensors.torch.load_file(saved)
    assert "model.embed_tokens.weight" in weights
    assert "lm_head.weight" not in weights
    assert all(weight.dtype == torch.float32 for weight in weights.values())


def test_the_hash_is_of_these_weights_whatever_hash_was_given(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    given = {"notes": _NOT_YET, SHA256_KEY: "of other weights"}
    with atomic_write(path) as file:
        write_weights(file, {"a": torch.ones(3)}, given, torch.float32)
    assert are_as_written(path)
    assert split(path)[0]["__metadata__"]["notes"] == _NOT_YET


def test_weights_that_go_away_while_they_are_checked_are_one_sentence(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(shutil.copy(saved, tmp_path))

    def open_and_remove(path: Path) -> Any:
        opened = open_weights(path)
        path.unlink()
        return opened

    monkeypatch.setattr("tinyllm.checkpoint.weights.open_weights", open_and_remove)
    with pytest.raises(CheckpointError, match=r"cannot read .*: it does not exist"):
        are_as_written(path)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_stored_and_loads_as_float32(tmp_path: Path, dtype: torch.dtype) -> None:
    tokenizer = tiny_tokenizer()
    model, path = tiny_model(tokenizer), tmp_path / "half.safetensors"
    save_checkpoint(path, model, tokenizer, template=None, training={}, dtype=dtype)
    assert {w.dtype for w in safetensors.torch.load_file(path).values()} == {dtype}
    loaded = load_checkpoint(path).model.state_dict()
    for name, weight in model.state_dict().items():
        assert torch.equal(loaded[name], weight.to(dtype).float())


def test_a_loaded_model_can_be_trained_on(saved: Path) -> None:
    model = load_checkpoint(saved).model.train()
    model(torch.arange(9).unsqueeze(0)).square().mean().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_saving_over_a_loaded_file_leaves_the_model_alone(saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(saved.read_bytes())
    loaded = load_checkpoint(path)
    before = {name: weight.clone() for name, weight in loaded.model.state_dict().items()}
    other = Transformer(loaded.model.config)
    save_checkpoint(path, other, loaded.tokenizer, template=None, training={})
    for name, weight in loaded.model.state_dict().items():
        assert torch.equal(weight, before[name])


def test_a_save_that_fails_leaves_the_previous_file(saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(saved.read_bytes())
    loaded = load_checkpoint(path)
    with pytest.raises(TypeError):
        save_checkpoint(
            path, loaded.model, loaded.tokenizer, template=None, training={"not JSON": object()}
        )
    with pytest.raises(DataError):
        save_checkpoint(
            path / "below a file", loaded.model, loaded.tokenizer, template=None, training={}
        )
    assert path.read_bytes() == saved.read_bytes()
    assert list(tmp_path.iterdir()) == [path]


def test_a_disk_that_refuses_in_mid_save_leaves_the_previous_file(
    saved: Path, tmp_path: Path
) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(saved.read_bytes())
    loaded = load_checkpoint(path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size // 2, hard))
    try:
        with pytest.raises(DataError, match="cannot write"):
            save_checkpoint(path, loaded.model, loaded.tokenizer, template=None, training={})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == saved.read_bytes()
    assert list(tmp_path.iterdir()) == [path]


def refusal(path: Path) -> str:
    """Return the sentence with which a checkpoint is refused; there must be a hint."""
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    assert caught.value.hint
    assert caught.value.exit_code == 4
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 500 + len(str(path))
    return caught.value.message


class Explosive:
    """Writes a file when unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("form", ["pickle", "torch", "renamed"])
def test_pickles_are_never_opened(tmp_path: Path, form: str) -> None:
    mark = tmp_path / "exploded"
    path = tmp_path / ("model.safetensors" if form == "renamed" else "model.pt")
    if form == "pickle":
        path.write_bytes(pickle.dumps(Explosive(mark)))
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", pickle.dumps(Explosive(mark)))
    assert "is a pickle" in refusal(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a .safetensors file"),
        (b"short", "not a .safetensors file"),
        (b"Once upon a time there was a text file.\n" * 9, "not a .safetensors file"),
        (b"GGUF\x03\0\0\0" * 9, "is a GGUF file"),
        (_HEADER.pack(10**10) + b"{" * 50, "cut off or damaged"),
        (_HEADER.pack(5) + b"{nope", "cut off or damaged"),
    ],
)
def test_other_files_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    assert message in refusal(path)


@pytest.mark.parametrize("share", [0.001, 0.3, 0.9, 0.9999])
def test_a_truncated_file_is_said_to_be_cut_off(saved: Path, tmp_path: Path, share: float) -> None:
    path, whole = tmp_path / "model.safetensors", saved.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    assert "cut off or damaged" in refusal(path)


def test_a_header_that_claims_gigabytes_is_not_believed(tmp_path: Path, saved: Path) -> None:
    header, data = split(saved)
    claim = {"dtype": "F32", "shape": [10**5, 25_000], "data_offsets": [0, 10**10]}
    path = join(tmp_path / "a.safetensors", {**header, "model.norm.weight": claim}, data)
    assert "cut off or damaged" in refusal(path)
    path = join(tmp_path / "b.safetensors", {"w": claim}, b"")
    assert "cut off or damaged" in refusal(path)


def test_a_description_that_claims_gigabytes_is_not_believed(tmp_path: Path, saved: Path) -> None:
    path = tmp_path / "model.safetensors"
    with_about(saved, path, lambda about: about["model"].update(n_layers=9_999))
    assert "claims 9999 layers, and holds 20 tensors" in refusal(path)
    with_about(saved, path, lambda about: about["model"].update(hidden_size=1 << 20))
    assert "has shape" in refusal(path)
    with_about(saved, path, lambda about: about["model"].update(hidden_size=1 << 60))
    assert "model.hidden_size: " in refusal(path)


def test_weights_of_another_program_are_named(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file({"w": torch.ones(3)}, path, {"format": "pt"})
    assert "holds weights, and nothing of how tinyllm would use them" in refusal(path)
    safetensors.torch.save_file({"w": torch.ones(3)}, path)
    assert "holds weights, and nothing of how tinyllm would use them" in refusal(path)


NORM = "model.norm.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop(NORM), f"{NORM} missing"),
        (lambda w: w.update(extra=torch.ones(1)), "extra not expected"),
        (lambda w: w.update({NORM: torch.ones(31)}), rf"{NORM} has shape (31,), wanted (32,)"),
        (lambda w: w.update({NORM: torch.ones(32, dtype=torch.int32)}), f"{NORM} holds I32"),
        (lambda w: w[NORM].fill_(torch.nan), f"{NORM} hold numbers that are not finite"),
        (lambda w: w[NORM][3:4].fill_(torch.inf), f"{NORM} hold numbers that are not finite"),
        (lambda w: w.clear(), "layers, and holds 0 tensors"),
    ],
)
def test_weights_that_do_not_fit_are_named(
    saved: Path, tmp_path: Path, change: Callable[[dict[str, torch.Tensor]], object], message: str
) -> None:
    assert message in refusal(with_weights(saved, tmp_path / "model.safetensors", change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("model"), "description is broken: KeyError: 'model'"),
        (lambda a: a.update(model=[1]), "description is broken: model: "),
        (lambda a: a["model"].pop("hidden_size"), "model.hidden_size: Field required"),
        (lambda a: a["model"].update(n_heads=5), "not divisible by n_heads 5"),
        (lambda a: a["model"].update(new_field=5), "model.new_field: "),
        (lambda a: a.update(format_version=2), "has format version 2, and this tinyllm reads 1"),
        (lambda a: a.update(kind="mixture"), "description is broken"),
        (lambda a: a.update(training=3), "description is broken"),
        (lambda a: a.pop("tokenizer"), "'tokenizer' is missing"),
        (lambda a: a.update(tokenizer={"model": 3}), "description is broken"),
        (lambda a: a.update(tokenizer=None), "description is broken"),
        (lambda a: a.update(chat_template={"user": 3}), "description is broken"),
        (
            lambda a: a.update(tokenizer=json.loads(tiny_tokenizer("char").to_json())),
            "its tokenizer has",
        ),
    ],
)
def test_a_broken_description_is_named(
    saved: Path, tmp_path: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    assert message in refusal(with_about(saved, tmp_path / "model.safetensors", change))


@pytest.mark.parametrize("text", ["", "[", "3", "null", "[]", "[" * 100_000, "9" * 10_000])
def test_a_description_that_is_no_object_is_refused(saved: Path, tmp_path: Path, text: str) -> None:
    header, data = split(saved)
    header["__metadata__"]["tinyllm"] = text
    assert "description is broken" in refusal(join(tmp_path / "a.safetensors", header, data))


@settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_damage_is_noticed_or_harmless(
    saved: Path, tmp_path: Path, data: st.DataObject
) -> None:
    """Bytes of the header changed at random: a CheckpointError or a working model, nothing else."""
    raw = bytearray(saved.read_bytes())
    n_header = 8 + _HEADER.unpack(raw[:8])[0]
    for place in data.draw(st.lists(st.integers(0, n_header - 1), min_size=1, max_size=3)):
        raw[place] = data.draw(st.integers(0, 255))
    path = tmp_path / "damaged.safetensors"
    path.write_bytes(raw)
    try:
        model = load_checkpoint(path).model
    except CheckpointError:
        return
    assert isinstance(model.config, ModelConfig)
