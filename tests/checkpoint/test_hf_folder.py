"""Models in Hugging Face's form are read as they lie, and say what the reference says."""

from pathlib import Path

import pytest
import torch

from tests.foreign import MODELS, VOCAB, save_model
from tinyllm.checkpoint import load_checkpoint, read_checkpoint
from tinyllm.config.generation import Sampling
from tinyllm.generation.engine import Engine
from tinyllm.generation.opening import open_engine
from tinyllm.kernels.build import notice
from tinyllm.reporting import RecordingReporter

PROMPT = "Once upon a time there was a little fox"
GREEDY = Sampling(temperature=0, max_new_tokens=40)


@pytest.mark.parametrize("name", MODELS)
def test_a_foreign_model_gives_the_reference_logits_and_text(name: str, tmp_path: Path) -> None:
    model = save_model(tmp_path, name)
    ids = torch.randint(VOCAB, (2, 90), generator=torch.Generator().manual_seed(2))
    loaded = load_checkpoint(tmp_path)
    with torch.inference_mode():
        wanted, found = model(ids).logits, loaded.model(ids)
    assert wanted.std() > 0.1  # the comparison says something
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)

    prompt = loaded.tokenizer.encode(PROMPT)
    with torch.inference_mode():
        whole = model.generate(torch.tensor([prompt]), max_new_tokens=40, do_sample=False)[0]
    ours = Engine(read_checkpoint(tmp_path)).complete([prompt], GREEDY)[0]
    assert len(ours.ids) > 3
    assert list(ours.ids) == whole[len(prompt) :].tolist()


def test_a_shape_that_native_code_does_not_know_runs_in_pytorch_and_says_so(
    tmp_path: Path,
) -> None:
    if notice() is not None:
        pytest.skip("needs a C++ compiler (Debian: g++)")
    said = []
    for name in ("gpt2", "gpt2, gelu, untied"):
        save_model(tmp_path / name, name)
        reporter = RecordingReporter()
        open_engine(tmp_path / name, reporter)
        said.append(reporter.notes)
    assert said == [[], ["native code knows no network of this shape: PyTorch runs it"]]


def test_weights_in_half_precisions_and_several_files_are_read(tmp_path: Path) -> None:
    model = save_model(tmp_path / "whole", "qwen3")
    for dtype in (torch.bfloat16, torch.float16):
        half = model.to(dtype)
        half.save_pretrained(tmp_path / "whole", max_shard_size="20KB")
        assert len(list((tmp_path / "whole").glob("model-*.safetensors"))) > 2
        stored = read_checkpoint(tmp_path / "whole")
        for name, weight in half.state_dict().items():
            assert (stored.weights[name] == weight.float().numpy()).all()
        model = half.float()
