"""The fused loss: the same number and gradients as the plain one, whatever the chunks."""

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from tinyllm.kernels import cross_entropy
from tinyllm.kernels.build import available
from tinyllm.kernels.cross_entropy import linear_cross_entropy

IGNORE = -100


@pytest.fixture(params=["native", "plain"], autouse=True)
def _kernels(request: pytest.FixtureRequest) -> Iterator[None]:
    if request.param == "native":
        if not available():
            pytest.skip("needs a C++ compiler (Debian: g++)")
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cross_entropy, "serves", lambda _: False)
        yield


def made(
    n: int, width: int, classes: int, dtype: torch.dtype, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(n, width, generator=generator, dtype=torch.float64).to(dtype)
    weight = torch.randn(classes, width, generator=generator, dtype=torch.float64)
    targets = torch.randint(classes, (n,), generator=generator)
    targets[torch.rand(n, generator=generator) < 0.3] = IGNORE
    weight = weight if dtype == torch.float64 else weight.float()
    return hidden.requires_grad_(), weight.requires_grad_(), targets


def plain(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    logits = hidden.double() @ weight.double().T
    return functional.cross_entropy(logits, targets, ignore_index=IGNORE, reduction="sum")


shapes = st.tuples(st.integers(1, 40), st.integers(1, 24), st.integers(2, 70))


@given(shape=shapes, rows=st.integers(1, 17), seed=st.integers(0, 1000))
def test_float32_loss_and_gradients_are_those_of_the_whole_matrix(
    shape: tuple[int, int, int], rows: int, seed: int
) -> None:
    n, width, classes = shape
    hidden, weight, targets = made(n, width, classes, torch.float32, seed)
    loss = linear_cross_entropy(hidden, weight, targets, IGNORE, rows)
    wanted = plain(hidden, weight, targets)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), wanted, rtol=1e-5, atol=1e-5)
    found = torch.autograd.grad(loss * 0.5, (hidden, weight))
    right = torch.autograd.grad(wanted * 0.5, (hidden, weight))
    for one, other in zip(found, right, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@given(shape=shapes, seed=st.integers(0, 1000))
def test_bfloat16_products_err_by_their_rounding(shape: tuple[int, int, int], seed: int) -> None:
    n, width, classes = shape
    hidden, weight, targets = made(n, width, classes, torch.bfloat16, seed)
    loss = linear_cross_entropy(hidden, weight, targets, IGNORE, 7)
    wanted = plain(hidden, weight, targets)
    n_learnt = max(1, int((targets != IGNORE).sum()))
    largest = float((hidden.detach().double() @ weight.detach().double().T).abs().max())
    error = float(loss.detach()) - float(wanted.detach())
    assert abs(error) / n_learnt <= 2**-6 * (1 + largest)
    found = torch.autograd.grad(loss, (hidden, weight))
    right = torch.autograd.grad(wanted, (hidden, weight))
    assert [g.dtype for g in found] == [torch.bfloat16, torch.float32]
    for one, other, factor in zip(found, right, (weight, hidden), strict=True):
        distance = (one.double() - other.double()).norm()
        terms = n_learnt**0.5 * factor.detach().double().norm()  # which may cancel in the sum
        assert distance <= 2**-7 * (1 + largest) * terms


def test_the_size_of_the_chunks_changes_only_rounding() -> None:
    hidden, weight, targets = made(300, 16, 1000, torch.float32)
    results = []
    for rows in (1, 64, 300, 1000):
        loss = linear_cross_entropy(hidden, weight, targets, IGNORE, rows)
        results.append((loss, *torch.autograd.grad(loss, (hidden, weight))))
    for found in results[1:]:
        for one, other in zip(found, results[0], strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_gradients_are_the_derivative() -> None:
    hidden, weight, targets = made(9, 5, 37, torch.float64)
    assert torch.autograd.gradcheck(
        lambda h, w: linear_cross_entropy(h, w, targets, IGNORE, 4), (hidden, weight)
    )


def test_ignored_rows_get_no_gradient_and_change_nothing() -> None:
    hidden, weight, targets = made(40, 8, 30, torch.float32)
    loss = linear_cross_entropy(hidden, weight, targets, IGNORE)
    (gradient,) = torch.autograd.grad(loss, hidden)
    kept = targets != IGNORE
    assert not gradient[~kept].any()
    assert gradient[kept].any()
    alone = linear_cross_entropy(hidden[kept], weight, targets[kept], IGNORE)
    torch.testing.assert_close(alone, loss, rtol=1e-6, atol=0.0)


def test_nothing_to_learn_is_a_loss_of_zero() -> None:
    hidden, weight, targets = made(4, 8, 30, torch.float32)
    loss = linear_cross_entropy(hidden, weight, torch.full_like(targets, IGNORE), IGNORE)
    gradients = torch.autograd.grad(loss, (hidden, weight))
    assert float(loss.detach()) == 0.0
    assert not any(g.any() for g in gradients)


@pytest.mark.parametrize("name", ["hidden", "weight"])
def test_what_is_frozen_costs_no_gradient_and_changes_none(name: str) -> None:
    hidden, weight, targets = made(20, 8, 30, torch.float32)
    learnt = weight if name == "hidden" else hidden
    (wanted,) = torch.autograd.grad(linear_cross_entropy(hidden, weight, targets, IGNORE), learnt)
    (hidden if name == "hidden" else weight).requires_grad_(False)
    kept: list[Tensor] = []

    def keep(x: Tensor) -> Tensor:
        kept.append(x)
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        loss = linear_cross_entropy(hidden, weight, targets, IGNORE)
    assert [x.shape for x in kept if x.numel()] == [learnt.shape]
    assert torch.equal(torch.autograd.grad(loss, learnt)[0], wanted)


def test_products_have_few_shapes_however_many_rows_are_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hidden, weight, targets = made(300, 8, 30, torch.float32)
    shapes = set()
    product = torch.mm

    def noted(x: Tensor, y: Tensor, *, out: Tensor) -> Tensor:
        shapes.add((x.shape, y.shape))
        return product(x, y, out=out)

    monkeypatch.setattr(torch, "mm", noted)
    for n in range(1, 300):
        some = torch.where(torch.arange(300) < n, targets.clamp(min=0), IGNORE)
        torch.autograd.grad(linear_cross_entropy(hidden, weight, some, IGNORE, 64), hidden)
    assert len(shapes) == 16  # eight numbers of rows, forwards and backwards


def test_without_gradients_only_the_loss_is_made() -> None:
    hidden, weight, targets = made(20, 8, 30, torch.float32)
    with torch.no_grad():
        loss = linear_cross_entropy(hidden, weight, targets, IGNORE)
    assert not loss.requires_grad
    torch.testing.assert_close(loss.double(), plain(hidden, weight, targets), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_is_not_hidden(bad: float) -> None:
    hidden, weight, targets = made(20, 8, 30, torch.float32)
    targets[3] = 1
    with torch.no_grad():
        hidden[3, 0] = bad
    assert not linear_cross_entropy(hidden, weight, targets, IGNORE).isfinite()


def test_large_logits_neither_overflow_nor_vanish() -> None:
    hidden, weight, targets = made(20, 8, 30, torch.float32)
    loss = linear_cross_entropy(hidden * 100, weight, targets, IGNORE)
    torch.testing.assert_close(
        loss.double(), plain(hidden * 100, weight, targets), rtol=1e-5, atol=0.0
    )


@pytest.mark.parametrize("wrong", [30, -1])
def test_a_target_that_is_no_class_is_refused(wrong: int) -> None:
    hidden, weight, targets = made(20, 8, 30, torch.float32)
    targets[0] = wrong
    with pytest.raises(IndexError, match=f"target {wrong} is none of the 30 classes"):
        linear_cross_entropy(hidden, weight, targets, IGNORE)


def test_shapes_that_do_not_fit_are_refused() -> None:
    hidden, weight, targets = made(20, 8, 30, torch.float32)
    with pytest.raises(ValueError, match="do not fit"):
        linear_cross_entropy(hidden, weight, targets[1:], IGNORE)


def test_the_operator_is_registered_as_the_compiler_expects() -> None:
    hidden, weight, targets = made(20, 8, 30, torch.float32)
    torch.library.opcheck(
        torch.ops.tinyllm.linear_cross_entropy,
        (hidden, weight, targets, IGNORE, 8, True, True),
        test_utils=("test_schema", "test_autograd_registration", "test_faketensor"),
    )


def test_float16_gradients_do_not_vanish_before_they_are_scaled() -> None:
    hidden, weight, targets = made(20, 8, 3000, torch.float16)
    small = weight.detach() * 1e-3
    loss = linear_cross_entropy(hidden, small, targets, IGNORE)
    (gradient,) = torch.autograd.grad(loss * 2.0**12, hidden)
    wide = hidden.detach().double().requires_grad_()
    (wanted,) = torch.autograd.grad(plain(wide, small, targets) * 2.0**12, wide)
    assert gradient.dtype == torch.float16
    torch.testing.assert_close(gradient.double(), wanted, rtol=0.02, atol=0.02)
