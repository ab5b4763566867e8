import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from tests.tiny import tiny_model, tiny_tokenizer
from tinyllm.config.lora import LoraConfig
from tinyllm.errors import CheckpointError, ConfigError
from tinyllm.model.hf_config import to_hugging_face_config
from tinyllm.model.lora import (
    LoraLinear,
    adapter_layout,
    add_lora,
    count_parameters,
    merge_adapter,
    merged_weights,
    plain_state,
    save_adapter,
    scales_of,
)
from tinyllm.model.transformer import Transformer

FAMILIES = ["llama", "gpt-neo"]
IDS = torch.randint(0, 300, (3, 40), generator=torch.Generator().manual_seed(1))


def adapted(
    family: str, config: LoraConfig, *, trained: bool, hidden_size: int = 32
) -> tuple[Transformer, Transformer]:
    """Return a plain network, and the same one with adapters that have learnt something."""
    tokenizer = tiny_tokenizer()
    plain, model = (tiny_model(tokenizer, family=family, hidden_size=hidden_size) for _ in range(2))
    add_lora(model, config, torch.Generator().manual_seed(3))
    if trained:
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.endswith("lora_B.weight"):
                    parameter.normal_(0.0, 0.3, generator=torch.Generator().manual_seed(len(name)))
    return plain, model.eval()


@pytest.mark.parametrize("family", FAMILIES)
def test_adapters_add_nothing_at_first(family: str) -> None:
    plain, model = adapted(family, LoraConfig(rank=4, dropout=0.5), trained=False)
    with torch.no_grad():
        ours, theirs = model(IDS), plain(IDS)
    # the native feed-forward of gpt-neo adds its bias in another order
    assert (ours - theirs).abs().max() <= (1e-5 if family == "gpt-neo" else 0.0)


@pytest.mark.parametrize("family", FAMILIES)
def test_only_adapters_learn(family: str) -> None:
    _, model = adapted(family, LoraConfig(rank=4), trained=True)
    model.train()
    model(IDS[:, :-1], targets=IDS[:, 1:]).backward()
    for name, parameter in model.named_parameters():
        is_adapter = "lora_" in name
        assert parameter.requires_grad == is_adapter
        assert (parameter.grad is not None and bool(parameter.grad.any())) == is_adapter, name
    n_trained, n_all = count_parameters(model)
    assert 0 < n_trained < n_all


@pytest.mark.parametrize("family", FAMILIES)
def test_merged_says_the_same(family: str) -> None:
    plain, model = adapted(family, LoraConfig(rank=4, alpha=8), trained=True)
    with torch.no_grad():
        before = model(IDS)
        assert (before - plain(IDS)).abs().max() > 0.1
        merged = merged_weights(dict(model.state_dict()), scales_of(model))
        assert merged.keys() == plain.state_dict().keys()
        plain.load_state_dict(merged)
        assert (plain(IDS) - before).abs().max() < 1e-4 * before.abs().max()


def test_dropout_is_off_when_nothing_is_trained() -> None:
    _, model = adapted("llama", LoraConfig(rank=4, dropout=0.5), trained=True)
    assert torch.equal(model(IDS), model(IDS))
    model.train()
    assert not torch.equal(model(IDS), model(IDS))


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
@pytest.mark.parametrize("family", FAMILIES)
def test_peft_loads_an_adapter_and_says_the_same(family: str, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    transformers = pytest.importorskip("transformers")
    config = LoraConfig(rank=4, alpha=6)
    plain, model = adapted(family, config, trained=True)
    layout = adapter_layout(plain.config)
    assert layout is not None
    save_adapter(tmp_path, dict(model.named_parameters()), config, layout, "base", "0" * 64)
    theirs = transformers.AutoModelForCausalLM.from_config(
        transformers.AutoConfig.for_model(**to_hugging_face_config(plain.config)),
        attn_implementation="eager",
    )
    _copy_weights(plain, theirs)
    with torch.no_grad():
        assert (theirs.eval()(IDS).logits - plain(IDS)).abs().max() < 1e-3
        loaded = peft.PeftModel.from_pretrained(theirs, tmp_path).eval()
        assert (loaded(IDS).logits - model(IDS)).abs().max() < 1e-3
    merge_adapter(plain, tmp_path)
    with torch.no_grad():
        assert (plain(IDS) - model(IDS)).abs().max() < 1e-3


def _copy_weights(ours: Transformer, theirs: nn.Module) -> None:
    from tinyllm.model.hf_weights import place_of

    layout = adapter_layout(ours.config)
    assert layout is not None
    weights = {place_of(name, layout).name: weight for name, weight in ours.state_dict().items()}
    missing, odd = theirs.load_state_dict(weights, strict=False)
    assert not odd
    assert not [name for name in missing if name != "lm_head.weight" and ".attn.bias" not in name]
    theirs.tie_weights()  # type: ignore[operator]


def test_targets_have_to_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="names gate_proj"):
        adapted("gpt-neo", LoraConfig(targets=("q_proj", "gate_proj")), trained=False)
    _, model = adapted("gpt-neo", LoraConfig(targets=("q_proj",)), trained=False)
    assert sorted(scales_of(model)) == [f"model.layers.{i}.self_attn.q_proj" for i in range(2)]


def test_adapters_of_others_are_refused(tmp_path: Path) -> None:
    config = LoraConfig(rank=4)
    plain, model = adapted("llama", config, trained=True)
    save_adapter(tmp_path, dict(model.named_parameters()), config, "llama", "base", "")
    other = tiny_model(tiny_tokenizer(), hidden_size=64)
    with pytest.raises(CheckpointError, match="does not fit this network"):
        merge_adapter(other, tmp_path)
    description = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps({**description, "use_dora": True}))
    with pytest.raises(CheckpointError, match="holds more than LoRA"):
        merge_adapter(plain, tmp_path)
    for odd in ({**description, "r": "4"}, {**description, "lora_alpha": None}, [description]):
        (tmp_path / "adapter_config.json").write_text(json.dumps(odd))
        with pytest.raises(CheckpointError, match=r"gives no rank|does not describe"):
            merge_adapter(plain, tmp_path)
    (tmp_path / "adapter_config.json").write_text(json.dumps(description))
    weights = tmp_path / "adapter_model.safetensors"
    matrices = load_file(weights)
    first = next(name for name in matrices if name.endswith("lora_A.weight"))
    for odd_matrix in (matrices[first][:2], matrices[first][0]):
        save_file({**matrices, first: odd_matrix.clone()}, weights)
        with pytest.raises(CheckpointError, match="does not fit this network"):
            merge_adapter(plain, tmp_path)
    weights.write_bytes(b"\x80\x04pickle")
    with pytest.raises(CheckpointError, match="cannot be read"):
        merge_adapter(plain, tmp_path)


@pytest.mark.parametrize("family", FAMILIES)
def test_four_bits_beside_adapters(family: str) -> None:
    pytest.importorskip("bitsandbytes")
    config = LoraConfig(rank=4, quantization="nf4")
    plain, model = adapted(family, config, trained=True, hidden_size=64)
    model.train()
    loss = model(IDS[:, :-1], targets=IDS[:, 1:])
    loss.backward()
    for name, parameter in model.named_parameters():
        is_adapter = "lora_" in name
        assert (parameter.grad is not None and bool(parameter.grad.any())) == is_adapter, name
    gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    with torch.no_grad():
        model.eval()(IDS)
    model.train().zero_grad()
    model(IDS[:, :-1], targets=IDS[:, 1:]).backward()  # answering leaves the layers as they are
    assert all(torch.equal(model.get_parameter(n).grad, g) for n, g in gradients.items())
    linear = next(m for m in model.modules() if isinstance(m, LoraLinear)).base_layer
    assert linear.weight.numel() * linear.weight.element_size() * 2 == linear.out_features * (
        linear.in_features
    )
    assert count_parameters(model)[1] - count_parameters(model)[0] == count_parameters(plain)[1]
    before = model(IDS).detach()
    with torch.no_grad():
        _, whole = adapted(family, LoraConfig(rank=4), trained=True, hidden_size=64)
        error = (before - whole(IDS)).abs().mean()
        assert 0 < error < 0.5 * before.abs().mean()
        plain.load_state_dict(merged_weights(plain_state(model), scales_of(model)))
        assert (plain(IDS) - before).abs().max() < 1e-3 * before.abs().max()
