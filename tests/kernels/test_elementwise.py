"""Norms and activations in native code: the plain mathematics, in one pass."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from tests.model.shapes import SHAPES, build, tokens
from tinyllm.kernels import elementwise
from tinyllm.kernels.build import available

pytestmark = pytest.mark.skipif(not available(), reason="needs a C++ compiler (Debian: g++)")
EPS = 1e-5
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2**-7}
PAIRS = [
    (torch.float32, torch.float32),
    (torch.float32, torch.bfloat16),
    (torch.bfloat16, torch.bfloat16),
]
WIDTHS = st.integers(2, 70)


def drawn(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()


def plain_norm(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if bias is not None:
        return functional.layer_norm(x, x.shape[-1:], weight, bias, EPS)
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + EPS) * weight


def plain_gelu(x: Tensor, bias: Tensor) -> Tensor:
    return functional.gelu(x + bias, approximate="tanh")


def plain_swiglu(gate: Tensor, up: Tensor) -> Tensor:
    return functional.silu(gate) * up


def require_close(found: Tensor, wanted: Tensor, dtype: torch.dtype) -> None:
    """Compare with what float64 gives, at the rounding of the dtype."""
    size = max(1.0, float(wanted.detach().abs().max())) if wanted.numel() else 1.0
    torch.testing.assert_close(
        found.double(), wanted.double(), rtol=0.0, atol=4 * TOLERANCE[dtype] * size
    )


def require_same_mathematics(
    native: Callable[..., Tensor], plain: Callable[..., Tensor], inputs: list[Tensor]
) -> None:
    out, dtype = native(*inputs), inputs[0].dtype
    wide = [x.detach().double().requires_grad_() for x in inputs]
    wanted = plain(*wide)
    require_close(out, wanted, dtype)
    ascent = torch.randn_like(out)
    found = torch.autograd.grad(out, inputs, ascent)
    right = torch.autograd.grad(wanted, wide, ascent.double())
    for one, other in zip(found, right, strict=True):
        require_close(one, other, dtype)


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("pair", PAIRS)
@given(width=WIDTHS, rows=st.integers(1, 9), seed=st.integers(0, 100))
def test_sum_and_norm_are_those_of_the_plain_operations(
    pair: tuple[torch.dtype, torch.dtype], centred: bool, width: int, rows: int, seed: int
) -> None:
    stream_dtype, dtype = pair
    x = drawn(2, rows, width, dtype=stream_dtype, seed=seed)
    delta = drawn(2, rows, width, dtype=dtype, seed=seed + 1)
    weight = drawn(width, dtype=torch.float32, seed=seed + 2)
    bias = drawn(width, dtype=torch.float32, seed=seed + 3) if centred else None
    total, normed = elementwise.add_norm(x, delta, weight, bias, EPS)
    assert (total.dtype, normed.dtype) == (stream_dtype, dtype)
    leaves = [x, delta, weight, *([] if bias is None else [bias])]
    wide = [t.detach().double().requires_grad_() for t in leaves]
    wide_total = (wide[0] + wide[1]).to(stream_dtype).double()
    assume(
        not centred or float(wide_total.detach().std(-1, correction=0).min()) > 0.3
    )  # else ill-posed
    wide_normed = plain_norm(wide_total, wide[2], wide[3] if centred else None)
    require_close(total, wide_total, stream_dtype)
    require_close(normed, wide_normed, dtype)
    d_total, d_normed = torch.randn_like(total), torch.randn_like(normed)
    found = torch.autograd.grad((total, normed), leaves, (d_total, d_normed))
    right = torch.autograd.grad(
        (wide_total, wide_normed), wide, (d_total.double(), d_normed.double())
    )
    for one, other, leaf in zip(found, right, leaves, strict=True):
        assert one.dtype == leaf.dtype
        require_close(one, other, dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@given(width=WIDTHS, rows=st.integers(1, 9), seed=st.integers(0, 100))
def test_activations_are_those_of_the_plain_operations(
    dtype: torch.dtype, width: int, rows: int, seed: int
) -> None:
    x = drawn(rows, width, dtype=dtype, seed=seed)
    other = drawn(rows, width, dtype=dtype, seed=seed + 1)
    bias = drawn(width, dtype=torch.float32, seed=seed + 2)
    require_same_mathematics(elementwise.gelu, plain_gelu, [x, bias])
    require_same_mathematics(elementwise.swiglu, plain_swiglu, [x, other])


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("with_delta", [True, False])
def test_gradients_of_the_norm_are_the_derivative(centred: bool, with_delta: bool) -> None:
    weight, bias = drawn(7, seed=2), drawn(7, seed=3)
    inputs = [drawn(3, 7), weight, *([bias] if centred else []), *([drawn(3, 7)] * with_delta)]

    def work(x: Tensor, weight: Tensor, *rest: Tensor) -> tuple[Tensor, Tensor]:
        delta = rest[-1] if with_delta else None
        return elementwise.add_norm(x, delta, weight, rest[0] if centred else None, EPS)

    assert torch.autograd.gradcheck(work, inputs)


def test_gradients_of_the_activations_are_the_derivative() -> None:
    assert torch.autograd.gradcheck(elementwise.gelu, [drawn(3, 19), drawn(19, seed=1)])
    assert torch.autograd.gradcheck(elementwise.swiglu, [drawn(3, 19), drawn(3, 19, seed=1)])


def test_activations_in_bfloat16_err_by_little_more_than_its_rounding() -> None:
    x = torch.linspace(-8, 8, 4096).bfloat16().reshape(64, 64).requires_grad_()
    wide = x.detach().double().requires_grad_()
    cubic = 2 * (2 / torch.pi) ** 0.5 * (wide + 0.044715 * wide**3)
    bias, ones = torch.zeros(64), torch.ones(64, 64, dtype=torch.bfloat16)
    for found, wanted in (
        (elementwise.gelu(x, bias), wide * torch.sigmoid(cubic)),
        (elementwise.swiglu(x, ones), wide * torch.sigmoid(wide)),
    ):
        torch.testing.assert_close(found.double(), wanted, rtol=2**-8 + 3e-4, atol=1e-12)
        slope = torch.autograd.grad(found.sum(), x)[0]
        right = torch.autograd.grad(wanted.sum(), wide, retain_graph=True)[0]
        torch.testing.assert_close(slope.double(), right, rtol=2**-8 + 3e-4, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("value", [-1e4, -90.0, 90.0, 1e4])
def test_far_from_zero_activations_neither_overflow_nor_drift(
    value: float, dtype: torch.dtype
) -> None:
    x = torch.full((1, 20), value, dtype=dtype, requires_grad=True)
    require_same_mathematics(elementwise.gelu, plain_gelu, [x, torch.zeros(20, requires_grad=True)])
    ones = torch.ones(1, 20, dtype=dtype, requires_grad=True)
    require_same_mathematics(elementwise.swiglu, plain_swiglu, [x, ones])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_not_a_number_stays_none(dtype: torch.dtype) -> None:
    x = torch.full((1, 20), float("nan"), dtype=dtype)
    vector = torch.ones(20)
    assert elementwise.gelu(x, vector).isnan().all()
    assert elementwise.swiglu(x, torch.ones_like(x)).isnan().all()
    assert elementwise.add_norm(x, x, vector, vector, EPS)[1].isnan().all()


@pytest.mark.parametrize("name", SHAPES)
def test_the_network_is_the_same_with_and_without(name: str) -> None:
    model, rows = build(SHAPES[name]), tokens(2, 17)
    results = []
    for is_native in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            if not is_native:
                patch.setattr(elementwise, "serves", lambda *_: False)
            model.zero_grad()
            with torch.enable_grad():
                loss = model(rows, targets=rows)
                loss.backward()
        grads = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        results.append((loss.detach(), grads))
    (loss, gradients), (plain_loss, plain_gradients) = results
    torch.testing.assert_close(loss, plain_loss, rtol=1e-5, atol=0.0)
    for key, gradient in plain_gradients.items():
        assert (gradients[key] - gradient).norm() <= 1e-4 * gradient.norm() + 1e-5, key


def test_a_second_derivative_is_refused_rather_than_wrong() -> None:
    x, up = drawn(3, 7), drawn(3, 7, seed=1)
    out = elementwise.swiglu(x, up).square().sum()
    (slope,) = torch.autograd.grad(out, x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()
