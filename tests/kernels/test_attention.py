"""The attention kernel and its plain twin are the same mathematics."""

import math
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.model.shapes import SHAPES, tokens
from tests.model.shapes import build as build_model
from tinyllm.config.settings import settings
from tinyllm.kernels import attention, build
from tinyllm.model.places import apply_rope, widen

needs_compiler = pytest.mark.skipif(
    not build.available(), reason="needs a C++ compiler (Debian: g++)"
)
HEAD_DIMS = (4, 6, 16, 20, 48)
"""One that divides a vector, one that does not, one vector, a vector and a part, several."""


def plain(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    scale: float,
    starts: Tensor | None = None,
    rotation: tuple[Tensor, Tensor] | None = None,
    norm_weights: tuple[Tensor, Tensor] | None = None,
    eps: float = 0.0,
) -> Tensor:
    """Do what the kernel does, in plain operations."""
    if norm_weights is not None:
        q, k = (
            x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weight
            for x, weight in zip((q, k), norm_weights, strict=True)
        )
    if rotation is not None:
        wide = widen(*rotation)
        q, k = apply_rope(q, *wide), apply_rope(k, *wide)
    k, v = (x.repeat_interleave(q.shape[2] // x.shape[2], 2) for x in (k, v))
    steps = torch.arange(q.shape[1])
    sees = (steps <= steps.unsqueeze(1)).unsqueeze(0)  # (1, T, S)
    if starts is not None:
        sees = sees & (steps >= starts.unsqueeze(2))
    scores = torch.einsum("bthe,bshe->bhts", q, k) * scale
    shares = scores.masked_fill(~sees.unsqueeze(1), -math.inf).softmax(-1)
    return torch.einsum("bhts,bshe->bthe", shares, v)


def draw(
    seed: int, batch: int, time: int, n_heads: int, n_kv_heads: int, width: int, features: str
) -> tuple[list[Tensor], dict[str, Any]]:
    """Return q, k, v in float64 and what `features` names: starts, rotation, norms."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    operands = [normal(batch, time, n, width) for n in (n_heads, n_kv_heads, n_kv_heads)]
    options: dict[str, Any] = {"scale": 1 / math.sqrt(width)}
    if "starts" in features:
        wanted = torch.randint(0, time, (batch, time), generator=generator)
        options["starts"] = torch.minimum(wanted, torch.arange(time)).int()
    if "rotation" in features:
        angles = normal(1, time, 1, width // 2)
        options["rotation"] = (angles.cos(), angles.sin())
    if "norms" in features:
        options |= {"norm_weights": (1 + normal(width) / 4, 1 + normal(width) / 4), "eps": 1e-2}
    return operands, options


def pack(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.cat((q, k, v), dim=2).flatten(2)


def natively(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
    return attention.attend(pack(q, k, v), q.shape[2], k.shape[2], **options)


def with_gradients(
    attend: Any, operands: list[Tensor], options: dict[str, Any], grad_out: Tensor
) -> list[Tensor]:
    """Return what comes out, and the gradients of q, k, v and of the norms' weights."""
    weights = options.get("norm_weights", ())
    leaves = [x.detach().clone().requires_grad_() for x in (*operands, *weights)]
    if weights:
        options = {**options, "norm_weights": tuple(leaves[3:])}
    out = attend(*leaves[:3], **options)
    out.backward(grad_out.to(out.dtype))
    return [out.detach(), *(leaf.grad for leaf in leaves)]


def assert_alike(found: list[Tensor], wanted: list[Tensor], tolerance: float) -> None:
    for x, y in zip(found, wanted, strict=True):
        difference = (x.double() - y.double()).norm()
        assert difference <= tolerance * (y.double().norm() + math.sqrt(y.numel()))


shapes = st.tuples(
    st.integers(0, 2**20),
    st.integers(1, 3),
    st.one_of(st.sampled_from([1, 17, 32, 64]), st.integers(1, 90)),
    st.integers(1, 3),
    st.integers(1, 2),
    st.sampled_from(HEAD_DIMS),
    st.sampled_from(["", "starts", "rotation", "norms", "starts rotation norms"]),
)


@needs_compiler
@given(shapes)
def test_float32_agrees_with_plain_operations(shape: tuple[Any, ...]) -> None:
    seed, batch, time, shared, n_kv_heads, width, features = shape
    drawn = draw(seed, batch, time, shared * n_kv_heads, n_kv_heads, width, features)
    operands, options = drawn
    grad_out = torch.randn(operands[0].shape, generator=torch.Generator().manual_seed(seed))
    wanted = with_gradients(plain, operands, options, grad_out)
    single = [x.float() for x in operands]
    assert_alike(with_gradients(natively, single, options, grad_out), wanted, 1e-5)


@needs_compiler
@given(shapes)
def test_bfloat16_agrees_to_its_rounding(shape: tuple[Any, ...]) -> None:
    seed, batch, time, shared, n_kv_heads, width, features = shape
    drawn = draw(seed, batch, time, shared * n_kv_heads, n_kv_heads, width, features)
    operands, options = [x.bfloat16() for x in drawn[0]], drawn[1]
    grad_out = torch.randn(operands[0].shape, generator=torch.Generator().manual_seed(seed))
    grad_out = grad_out.bfloat16()
    wanted = with_gradients(plain, [x.double() for x in operands], options, grad_out)
    found = with_gradients(natively, operands, options, grad_out)
    assert found[0].dtype == torch.bfloat16
    assert_alike(found, wanted, 1e-2)


@needs_compiler
@pytest.mark.parametrize("width", [64, 80, 128, 256])
def test_wide_heads(width: int) -> None:
    operands, options = draw(0, 1, 35, 2, 1, width, "starts rotation norms")
    grad_out = torch.randn(operands[0].shape)
    wanted = with_gradients(plain, operands, options, grad_out)
    single = [x.float() for x in operands]
    assert_alike(with_gradients(natively, single, options, grad_out), wanted, 1e-5)


@needs_compiler
@pytest.mark.parametrize("features", ["", "starts", "rotation", "norms", "starts rotation norms"])
@pytest.mark.parametrize("shape", [(1, 5, 2, 2, 6), (2, 19, 4, 2, 4), (1, 3, 1, 1, 10)])
def test_gradients_agree_with_finite_differences(shape: tuple[int, ...], features: str) -> None:
    operands, options = draw(0, *shape, features)
    weights = options.pop("norm_weights", ())

    def attend(q: Tensor, k: Tensor, v: Tensor, *weights: Tensor) -> Tensor:
        return natively(q, k, v, **options, norm_weights=weights or None)

    leaves = [x.requires_grad_() for x in (*operands, *weights)]
    assert torch.autograd.gradcheck(attend, leaves, fast_mode=shape[1] > 5)


@needs_compiler
def test_any_strides_are_read_rightly() -> None:
    (q, k, v), options = draw(0, 2, 21, 4, 4, 16, "")
    turned = pack(*(x.float() for x in (q, k, v))).transpose(0, 1).contiguous().transpose(0, 1)
    assert_alike([attention.attend(turned, 4, 4, **options)], [plain(q, k, v, **options)], 1e-5)


@needs_compiler
def test_what_is_out_of_sight_has_no_effect_and_no_gradient() -> None:
    (q, k, v), options = draw(0, 1, 50, 1, 1, 16, "")
    starts = torch.where(torch.arange(50) < 20, 0, 20).int().unsqueeze(0)
    leaves = [x.float().requires_grad_() for x in (q, k, v)]
    out = natively(*leaves, **options, starts=starts)
    out[:, 20:40].sum().backward()
    for leaf in leaves:
        assert not leaf.grad[:, :20].any()  # an earlier document
        assert not leaf.grad[:, 40:].any()  # the future
    changed = [x.detach().clone() for x in leaves]
    for x in changed:
        x[:, :20] = x[:, 40:] = 1e4
    again = natively(*changed, **options, starts=starts)
    assert torch.equal(again[:, 20:40], out[:, 20:40])


@needs_compiler
def test_large_scores_and_nan() -> None:
    (q, k, v), options = draw(0, 1, 40, 1, 1, 16, "")
    q, k = q * 30, k * 30
    wanted = plain(q.float().double(), k.float().double(), v, **options)
    assert_alike([natively(q.float(), k.float(), v.float(), **options)], [wanted], 1e-4)
    k[0, 10, 0, 3] = math.nan
    found = natively(q.float(), k.float(), v.float(), **options)
    assert found[:, 10:].isnan().all()
    assert not found[:, :10].isnan().any()


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("width", [4, 20])
def test_heads_start_over_where_another_token_outshines_their_own(
    dtype: torch.dtype, width: int
) -> None:
    (q, k, v), options = draw(0, 1, 70, 1, 1, width, "")
    operands = [(q * 30).to(dtype), (k * 30).to(dtype), v.to(dtype)]
    wanted = with_gradients(plain, [x.double() for x in operands], options, v)
    assert_alike(with_gradients(natively, operands, options, v), wanted, 1e-4)
    operands[1][0, 10, 0, 3] = math.nan
    found = natively(*operands, **options)
    assert found[:, 10:].isnan().all()
    assert not found[:, :10].isnan().any()


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("width", [4, 16, 48])
def test_a_far_token_that_outshines_all_others_is_all_there_is(
    dtype: torch.dtype, width: int
) -> None:
    (_, _, v), options = draw(0, 1, 200, 1, 1, width, "")
    q, k, v = torch.full_like(v, 32), torch.zeros_like(v), v.to(dtype)
    k[:, 0] = 32
    found = natively(q.to(dtype), k.to(dtype), v, **options)
    assert torch.equal(found, v[:, :1].expand_as(v))


@needs_compiler
@pytest.mark.parametrize("width", [4, 8, 16, 32])
@pytest.mark.parametrize("size", [1e3, 1e5, 1e7])
def test_scores_too_large_for_their_differences_stay_numbers(width: int, size: float) -> None:
    operands, options = draw(9, 2, 33, 2, 2, width, "")
    same = (operands[0] * size).float()  # each token's own score is the largest, and rounded
    huge = [same, same, operands[2].float()]
    found = with_gradients(natively, huge, options, torch.ones(2, 33, 2, width))
    assert all(bool(x.isfinite().all()) for x in found)
    assert found[0].abs().max() <= huge[2].abs().max() * 1.001


@needs_compiler
def test_threads_change_no_bit() -> None:
    operands, options = draw(0, 3, 33, 4, 2, 16, "starts rotation norms")
    single, grad_out = [x.float() for x in operands], torch.randn(3, 33, 4, 16)
    found, n_threads = [], torch.get_num_threads()
    for n in (1, 3):
        torch.set_num_threads(n)
        found.append(with_gradients(natively, single, options, grad_out))
    torch.set_num_threads(n_threads)
    assert all(torch.equal(x, y) for x, y in zip(*found, strict=True))


@needs_compiler
@pytest.mark.parametrize("features", ["", "starts rotation norms"])
def test_the_operator_keeps_the_rules_of_torch(features: str) -> None:
    operands, options = draw(0, 2, 9, 2, 1, 16, features)
    qkv = pack(*(x.float() for x in operands)).requires_grad_()
    rotation = [x.squeeze(2).float() for x in options.get("rotation", ())] or [None, None]
    weights = [x.float().requires_grad_() for x in options.get("norm_weights", ())] or [None, None]
    arguments = (qkv, 2, 1, options.get("starts"), *rotation, *weights, 0.25, 1e-5)
    torch.library.opcheck(attention.attention, arguments)


@needs_compiler
@pytest.mark.long
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's compiler warns of itself
def test_torch_compile_sees_through_it() -> None:
    model, ids = build_model(SHAPES["llama-grouped-normed-untied"]), tokens(2, 40)
    document_ids = (torch.arange(40) // 13).expand(2, -1)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    found = []
    for network in (model, compiled):
        model.zero_grad()
        logits = network(ids, document_ids=document_ids)
        logits.logsumexp(-1).mean().backward()
        found.append([logits.detach(), *(x.grad.clone() for x in model.parameters())])
    for native, plainly in zip(*found, strict=True):
        torch.testing.assert_close(native, plainly, atol=1e-5, rtol=1e-4)


@needs_compiler
def test_shapes_that_do_not_fit_are_refused() -> None:
    q = torch.zeros(2, 5, 4, 16)
    for n_heads, n_kv_heads in ((4, 3), (5, 5)):
        with pytest.raises(ValueError, match="qkv must be"):
            attention.attend(pack(q, q, q), n_heads, n_kv_heads, scale=1.0)
    with pytest.raises(ValueError, match="starts must be"):
        natively(q, q, q, scale=1.0, starts=torch.zeros(2, 5))
    with pytest.raises(ValueError, match="rotation must be"):
        natively(q, q, q, scale=1.0, rotation=(torch.zeros(1, 5, 1, 4),) * 2)
    with pytest.raises(ValueError, match="norm_weights must be"):
        natively(q, q, q, scale=1.0, norm_weights=(torch.ones(8),) * 2)


@needs_compiler
@pytest.mark.parametrize("has_documents", [False, True])
@pytest.mark.parametrize("name", SHAPES)
def test_a_network_learns_the_same_without_it(
    name: str, has_documents: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids, n = tokens(2, 40), torch.arange(40)
    document_ids = torch.stack([n // 13, n // 25]) if has_documents else None
    found = []
    for switch in ("on", "off"):
        monkeypatch.setenv("TINYLLM_KERNELS", switch)
        settings.cache_clear()
        model = build_model(SHAPES[name])
        logits = model(ids, document_ids=document_ids)
        logits.logsumexp(-1).mean().backward()
        found.append([logits.detach(), *(x.grad for x in model.parameters())])
    monkeypatch.undo()
    settings.cache_clear()
    for native, plainly in zip(*found, strict=True):
        torch.testing.assert_close(native, plainly, atol=2e-5, rtol=2e-4)


@needs_compiler
@pytest.mark.long
@pytest.mark.parametrize("io", ["float", "Bf16"])
@pytest.mark.parametrize("width", [4, 6, 16, 48])
def test_sanitizers_find_nothing(width: int, io: str, tmp_path: Path) -> None:
    compiler = build.find_compiler()
    assert compiler is not None
    program = tmp_path / "program"
    source = Path(__file__).with_name("attention_under_sanitizers.cpp")
    defines = {"HEAD_DIM": width, "IO": io, "REAL": "float"}
    flags = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fopenmp")
    (tmp_path / "empty.cpp").write_text("int main() {}")
    for each, its_defines in ((tmp_path / "empty.cpp", {}), (source, defines)):
        command = build.compile_command(compiler, each, program, its_defines, flags)
        command.remove("-shared")
        failed = subprocess.run(command, check=False).returncode
        if failed and each != source:
            pytest.skip("needs the compiler's sanitizers (Debian: libasan, libubsan)")
        assert not failed
    subprocess.run([program], check=True, timeout=120)


def test_nothing_is_attended_natively_when_switched_off(kernels_off: None) -> None:
    assert not attention.can_attend("cpu", 16, torch.float32)
    with pytest.raises(RuntimeError, match="not available"):
        natively(*[torch.zeros(1, 2, 1, 16)] * 3, scale=1.0)


@needs_compiler
def test_only_what_the_kernel_knows_is_attended_natively() -> None:
    assert attention.can_attend("cpu", 16, torch.float32)
    assert not attention.can_attend("cuda", 16, torch.float32)
    assert not attention.can_attend("cpu", 257, torch.float32)
    assert not attention.can_attend("cpu", 16, torch.float16)
