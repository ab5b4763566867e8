"""A file for llama.cpp holds the same network and the same tokenizer; llama.cpp itself says so."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.checkpoint.test_hf_language import bpe, saved, sentencepiece
from tests.export.test_hf_folder import NASTY, TURNS
from tests.foreign import save_model
from tests.tiny import TEXT, tiny_tokenizer, write_tiny_checkpoint
from tinyllm.checkpoint import read_checkpoint, save_checkpoint
from tinyllm.config.export import ExportConfig
from tinyllm.config.generation import Sampling
from tinyllm.config.model import ModelConfig
from tinyllm.errors import CheckpointError
from tinyllm.export.chat_templates import as_jinja
from tinyllm.export.gguf_file import read_gguf
from tinyllm.export.gguf_tensors import context_of
from tinyllm.export.parity import Parity, compare
from tinyllm.export.workflow import run
from tinyllm.generation.engine import Engine
from tinyllm.generation.prompting import prompt_ids
from tinyllm.reporting import RecordingReporter, SilentReporter

FOREIGN = ["llama", "llama, wide heads", "llama, rope llama3", "llama, rope linear", "qwen2"]
FOREIGN += ["qwen3", "qwen3, tied", "gpt2", "gpt-neo"]


def export(checkpoint: Path, output: Path, **options: object) -> Parity | None:
    config = ExportConfig(checkpoint=str(checkpoint), output=output, format="gguf", **options)
    return run(config, SilentReporter()).parity


@pytest.mark.parametrize("name", FOREIGN)
def test_every_tensor_comes_back(name: str, tmp_path: Path) -> None:
    save_model(tmp_path / "model", name)
    stored = read_checkpoint(tmp_path / "model")
    export(tmp_path / "model", tmp_path / "model.gguf", check=False)
    again = read_gguf(tmp_path / "model.gguf", stored.info.config)
    assert again.keys() == stored.weights.keys()
    for weight_name, weight in stored.weights.items():
        n = len(again[weight_name])  # positions beyond one window are left out
        np.testing.assert_allclose(again[weight_name], weight[:n], rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "q8_0"])
def test_the_comparison_tells_what_a_precision_costs(dtype: str, tmp_path: Path) -> None:
    path = write_tiny_checkpoint(tmp_path / "tiny.safetensors", chat=True)
    parity = export(path, tmp_path / "out", dtype=dtype)
    assert parity is not None
    assert parity.n_tokens > 20
    if dtype == "float32":
        assert parity.same_text
        assert parity.max_logit_difference < 1e-5
    else:
        assert 1e-4 < parity.max_logit_difference < 5
    short = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}.get(dtype, dtype)
    assert (tmp_path / "out" / f"tiny-{short}.gguf").is_file()


def test_the_modelfile_holds_template_and_end(tmp_path: Path) -> None:
    path = write_tiny_checkpoint(
        tmp_path / "tiny.safetensors", chat=True, generation={"temperature": 0.5}
    )
    export(path, tmp_path / "tiny.gguf", check=False)
    text = (tmp_path / "Modelfile").read_text()
    assert text.startswith("FROM ./tiny.gguf\n")
    assert "### Instruction:\n{{ .Content }}\n\n" in text
    assert 'PARAMETER stop "<|endoftext|>"' in text
    assert "PARAMETER temperature 0.5" in text


def test_local_layers_shorten_the_context(tmp_path: Path) -> None:
    path = write_tiny_checkpoint(tmp_path / "tiny.safetensors", family="gpt-neo")
    config = ExportConfig(checkpoint=str(path), output=tmp_path / "tiny.gguf", format="gguf")
    reporter = RecordingReporter()
    result = run(config, reporter)
    assert any("8 of 96 tokens" in note for note in reporter.notes)
    assert result.parity is not None
    assert result.parity.same_text


def test_a_tokenizer_of_another_rule_is_refused(tmp_path: Path) -> None:
    save_model(tmp_path / "model", "llama")
    layout = json.loads((tmp_path / "model" / "tokenizer.json").read_text())
    layout["pre_tokenizer"]["add_prefix_space"] = True
    (tmp_path / "model" / "tokenizer.json").write_text(json.dumps(layout))
    with pytest.raises(CheckpointError, match="no rule that cuts texts"):
        export(tmp_path / "model", tmp_path / "model.gguf")
    assert not (tmp_path / "model.gguf").exists()


def wide_checkpoint(path: Path, **shape: object) -> Path:
    """Save a model whose rows are multiples of 32, as q8_0 wants them."""
    from tinyllm.model.transformer import Transformer

    tokenizer = tiny_tokenizer()
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size, hidden_size=64, n_layers=3, n_heads=4, **shape
    )
    model = Transformer(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(6)
    save_checkpoint(path, model, tokenizer, template=None, training={})
    return path


@pytest.mark.long
class TestInLlamaCpp:
    """The same greedy text and logits in llama.cpp (`pip install llama-cpp-python`)."""

    def open(self, path: Path, n_ctx: int) -> "object":
        llama_cpp = pytest.importorskip(
            "llama_cpp", reason="needs llama.cpp (pip install llama-cpp-python)"
        )
        return llama_cpp.Llama(
            model_path=str(path),
            n_ctx=n_ctx,
            n_threads=1,
            logits_all=True,
            verbose=False,
            type_k=0,  # keys and values in float32
            type_v=0,
            flash_attn=False,
        )

    def parity(self, checkpoint: Path, file: Path) -> Parity:
        stored = read_checkpoint(checkpoint)
        context = context_of(stored.info.config)
        llama = self.open(file, context)

        def read(ids: list[int]) -> torch.Tensor:
            llama.reset()
            llama.eval(ids)
            return torch.from_numpy(np.array(llama.scores[: len(ids)], np.float32))

        return compare(stored, read, "llama.cpp", context_length=context)

    @pytest.mark.parametrize("name", FOREIGN)
    def test_foreign_shapes(self, name: str, tmp_path: Path) -> None:
        save_model(tmp_path / "model", name)
        export(tmp_path / "model", tmp_path / "model.gguf", check=False)
        parity = self.parity(tmp_path / "model", tmp_path / "model.gguf")
        print(name, parity)
        assert parity.same_text
        # llama.cpp's GELU is a table of float16
        assert parity.max_logit_difference < (0.05 if name.startswith("gpt") else 1e-3)

    @pytest.mark.parametrize("shape", [{}, {"qk_norm": True, "n_kv_heads": 2}])
    def test_precisions(self, shape: dict[str, object], tmp_path: Path) -> None:
        path = wide_checkpoint(tmp_path / "wide.safetensors", **shape)
        for dtype, most in (("float32", 1e-3), ("float16", 0.2), ("q8_0", 2.0)):
            export(path, tmp_path / f"{dtype}.gguf", dtype=dtype, check=False)
            parity = self.parity(path, tmp_path / f"{dtype}.gguf")
            print(dtype, parity)
            assert parity.max_logit_difference < most
            assert parity.mean_kl_nats < 0.01
            assert parity.same_text or dtype != "float32"

    @pytest.mark.parametrize("rule", ["llama3", "qwen", "smollm", "gpt2", "sentencepiece", "char"])
    def test_tokenizers(self, rule: str, tmp_path: Path) -> None:
        if rule == "char":
            path = write_tiny_checkpoint(tmp_path / "tiny.safetensors", kind="char")
        else:
            path = tmp_path / "model"
            model = save_model(path, "llama")
            model.resize_token_embeddings(600, mean_resizing=False)
            model.save_pretrained(path)
            saved(path, sentencepiece() if rule == "sentencepiece" else bpe(rule))
        tokenizer = read_checkpoint(path).tokenizer
        export(path, tmp_path / "model.gguf", check=False)
        llama = self.open(tmp_path / "model.gguf", 96)
        texts = [TEXT.replace("\n", " "), "naïve 🌍: a"] if rule == "char" else [*NASTY, TEXT]
        for text in texts:
            if text and "\x00" not in text:
                found = llama.tokenize(text.encode(), add_bos=True, special=False)
                assert found == tokenizer.encode_prompt(text), text
                assert llama.detokenize(found).decode().lstrip(" ") == text.lstrip(" ")

    def test_tokenizer_and_chat(self, tmp_path: Path) -> None:
        path = write_tiny_checkpoint(tmp_path / "tiny.safetensors", chat=True)
        stored = read_checkpoint(path)
        export(path, tmp_path / "tiny.gguf", check=False)
        llama = self.open(tmp_path / "tiny.gguf", 96)
        for text in NASTY:
            if text and "\x00" not in text:
                found = llama.tokenize(text.encode(), add_bos=False, special=True)
                assert found == stored.tokenizer.encode(text), text
        assert llama.metadata["tokenizer.chat_template"] == as_jinja(stored.template)
        prompt = prompt_ids(stored, TURNS[1].content)
        ours = Engine(stored).complete([prompt], Sampling(temperature=0, max_new_tokens=20))[0]
        answer = llama.create_chat_completion(
            [{"role": "user", "content": TURNS[1].content}], temperature=0, max_tokens=20
        )
        text = stored.tokenizer.decode(ours.ids)
        assert answer["choices"][0]["message"]["content"] == text


def test_a_file_of_that_name_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"ends in \.gguf"):
        ExportConfig(output=tmp_path / "model.gguf")
