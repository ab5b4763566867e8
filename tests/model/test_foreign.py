"""Any causal model of transformers behind the loop's call: its own loss, its documents apart."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.foreign import NOT_CAUSAL, OTHERS, PARTIAL, save_other_model
from tinyllm.checkpoint.foreign import read_foreign
from tinyllm.config.generation import Sampling
from tinyllm.config.lora import LoraConfig
from tinyllm.errors import CheckpointError, ConfigError
from tinyllm.model.foreign import ForeignNetwork, one_document_a_row
from tinyllm.model.foreign_opening import open_network
from tinyllm.model.lora import count_parameters

pytest.importorskip("peft")
SOON = ("gemma2", "cohere", "phi", "neox", "opt")
CPU = torch.device("cpu")
LENGTHS = ((9, 7), (4, 12))


def opened(
    folder: Path,
    *,
    packs: bool = False,
    recomputes: bool = False,
    targets: tuple[str, ...] | None = None,
) -> ForeignNetwork:
    """Open a folder with adapters of rank 4 that say nothing yet."""
    named = {} if targets is None else {"targets": targets}
    base = read_foreign(str(folder))
    return open_network(
        folder,
        base.shape,
        LoraConfig(rank=4, **named),
        torch.Generator().manual_seed(3),
        device=CPU,
        dtype=torch.float32,
        packs=packs,
        recomputes=recomputes,
    )


def rows(vocab_size: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return ids, targets (some left out) and documents of two packed rows."""
    generator = torch.Generator().manual_seed(5)
    ids = torch.randint(vocab_size, (2, 17), generator=generator)
    targets = ids[:, 1:].clone()
    targets[torch.rand(targets.shape, generator=generator) < 0.3] = -100
    owners = torch.tensor([[i for i, n in enumerate(row) for _ in range(n)] for row in LENGTHS])
    return ids[:, :-1], targets, owners


@pytest.mark.parametrize(
    "name",
    [name if name in SOON else pytest.param(name, marks=pytest.mark.long) for name in OTHERS],
)
def test_the_loss_is_that_of_transformers(name: str, tmp_path: Path) -> None:
    theirs = save_other_model(tmp_path, name)
    network = opened(tmp_path).train()
    ids, targets, owners = rows(network.config.vocab_size)

    def expected(lengths: tuple[tuple[int, ...], ...]) -> torch.Tensor:
        """Sum their loss over documents, each read alone; (B,)."""
        sums = torch.zeros(2)
        for i, row in enumerate(lengths):
            parts = zip(ids[i].split(row), targets[i].split(row), strict=True)
            for part, wanted in parts:
                logits = theirs(part[None]).logits[0]
                sums[i] += torch.nn.functional.cross_entropy(logits, wanted, reduction="sum")
        return sums

    with torch.no_grad():
        whole, apart = expected(((16,), (16,))), expected(LENGTHS)
        assert (whole - apart).abs().max() > 0.01
        for documents, sums in ((None, whole), (owners, apart)):
            found = network(ids, document_ids=documents, targets=targets)
            by_row = network(ids, document_ids=documents, targets=targets, by_row=True)
            torch.testing.assert_close(found, sums.sum(), atol=1e-3, rtol=1e-5)
            torch.testing.assert_close(by_row, sums, atol=1e-3, rtol=1e-5)
    does_more = name in ("gemma2", "phi", "cohere", "granite", "gptj")
    assert network.head_form == ("apart" if does_more else "plain")
    hidden = network.eval().hidden_states(ids).flatten(0, 1)
    torch.testing.assert_close(network.head(hidden), theirs(ids).logits.flatten(0, 1))
    assert network.knows_documents == (name not in ("opt", "falcon", "bloom"))


@pytest.mark.parametrize("name", ["gemma2", "neox", "opt"])
def test_four_bits_keep_their_gradients_after_a_measurement(name: str, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    save_other_model(tmp_path, name)
    plain, network = opened(tmp_path), opened(tmp_path, packs=True)
    assert count_parameters(network) == count_parameters(plain)
    ids, targets, _ = rows(network.config.vocab_size)

    def gradients() -> dict[str, torch.Tensor]:
        network.train().zero_grad()
        network(ids, targets=targets).backward()
        return {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}

    before = gradients()
    assert before.keys() == {n for n, p in network.named_parameters() if "lora_" in n}
    network.eval()
    with torch.no_grad():
        network(ids, targets=targets)
    after = gradients()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(bool(g.any()) == ("lora_B" in name) for name, g in before.items())


def test_recomputing_gives_the_same_gradients(tmp_path: Path) -> None:
    save_other_model(tmp_path, "gemma2")
    found = []
    for recomputes in (False, True):
        network = opened(tmp_path, recomputes=recomputes).train()
        ids, targets, owners = rows(network.config.vocab_size)
        network(ids, targets=targets, document_ids=owners).backward()
        found.append([p.grad for p in network.parameters() if p.requires_grad])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_documents_become_rows_of_their_length() -> None:
    ids = torch.tensor([[5, 6, 7, 0, 0], [1, 2, 3, 4, 9]])
    owners = torch.tensor([[3, 3, 4, -1, -1], [8, 8, 8, 8, 8]])
    apart, targets, rows = next(one_document_a_row(ids, ids + 10, owners))
    assert apart.tolist() == [[1, 2, 3, 4, 9], [5, 6, 0, 0, 0]]
    assert targets.tolist()[1] == [15, 16, -100, -100, -100]
    assert rows.tolist() == [1, 0]
    nothing = list(one_document_a_row(ids, torch.full_like(ids, -100), owners))
    assert [x.tolist() for x in nothing[0]] == [[[0]], [[-100]], [0]]


@given(st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=12), min_size=1, max_size=4))
def test_rows_of_documents_hold_no_more_than_the_packed_ones(lengths: list[list[int]]) -> None:
    longest = max(map(sum, lengths))
    owners = torch.full((len(lengths), longest), -1)
    for i, row in enumerate(lengths):
        owners[i, : sum(row)] = torch.repeat_interleave(torch.arange(len(row)), torch.tensor(row))
    ids = torch.arange(owners.numel()).view(owners.shape)
    groups = list(one_document_a_row(ids, ids.clone(), owners))
    assert all(group.numel() <= owners.numel() for group, _, _ in groups)
    kept = [targets[targets != -100] for _, targets, _ in groups]
    assert torch.equal(torch.cat(kept).sort().values, ids[owners >= 0])
    for _, targets, rows in groups:
        found = targets.where(targets >= 0, rows[:, None] * longest) // longest
        assert torch.equal(found, rows[:, None].expand_as(found))


@pytest.mark.parametrize("name", NOT_CAUSAL)
def test_a_network_that_reads_backwards_too_is_refused(name: str, tmp_path: Path) -> None:
    save_other_model(tmp_path, name)
    with pytest.raises(CheckpointError, match="is not causal"):
        opened(tmp_path)


@pytest.mark.parametrize("name", [name for name in PARTIAL if name != "mamba"])
def test_every_adapter_stands_where_text_passes(name: str, tmp_path: Path) -> None:
    save_other_model(tmp_path, name)
    network = opened(tmp_path).train()
    ids, targets, _ = rows(network.config.vocab_size)
    network(ids, targets=targets).backward()
    learning = {n: p for n, p in network.named_parameters() if p.requires_grad and "lora_B" in n}
    assert len(learning) >= 6
    assert all(p.grad is not None and bool(p.grad.any()) for p in learning.values())
    assert not any("vision" in n or "encoder_attn" in n for n in learning)


def test_layers_are_named_as_the_user_says_and_found_where_text_passes(tmp_path: Path) -> None:
    save_other_model(tmp_path, "bart")
    network = opened(tmp_path, targets=("q_proj", "fc1"))
    beside = [n for n, p in network.named_parameters() if p.requires_grad and "lora_A" in n]
    assert len(beside) == 2
    assert not any("encoder_attn" in n for n in beside)


def test_a_layer_that_text_does_not_pass_is_refused(tmp_path: Path) -> None:
    save_other_model(tmp_path, "mamba")
    assert opened(tmp_path, targets=("in_proj", "x_proj")).knows_documents is False
    with pytest.raises(ConfigError, match="passes dt_proj of this mamba network") as refused:
        opened(tmp_path, targets=("in_proj", "dt_proj"))
    assert refused.value.hint == "Those that may be named are in_proj, out_proj, x_proj."


def test_what_peft_refuses_is_said_in_one_sentence(tmp_path: Path) -> None:
    save_other_model(tmp_path, "mamba")
    with pytest.raises(ConfigError, match="peft adds no adapters to this mamba network") as refused:
        opened(tmp_path)
    assert refused.value.hint == "lora.targets may name fewer of these: in_proj, out_proj, x_proj."


def test_samples_are_drawn_as_our_settings_say_and_not_the_models(tmp_path: Path) -> None:
    theirs = save_other_model(tmp_path, "neox")
    ids, end = [5, 6, 7], theirs.config.eos_token_id

    def said(top_p: float, temperature: float) -> list[int]:
        sampling = Sampling(temperature=temperature, top_p=top_p, max_new_tokens=24, seed=3)
        return opened(tmp_path).continue_ids(ids, sampling, [end])

    whole, likeliest, narrow = said(1.0, 1.0), said(1.0, 0.0), said(1e-6, 1.0)
    assert narrow == likeliest != whole
    expected = list(ids)
    while len(expected) < len(ids) + 24 and expected[-1] != end:
        expected.append(int(theirs(torch.tensor([expected])).logits[0, -1].argmax()))
    assert likeliest == [i for i in expected[len(ids) :] if i != end]
    own = {
        "top_p": 1e-6,
        "repetition_penalty": 9.0,
        "no_repeat_ngram_size": 1,
        "suppress_tokens": likeliest[:2],
    }
    (tmp_path / "generation_config.json").write_text(json.dumps(own))
    assert said(1.0, 1.0) == whole
    assert said(1.0, 0.0) == likeliest
