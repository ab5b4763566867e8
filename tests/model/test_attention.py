"""Both ways of mixing give the same values and gradients."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional
from torch.testing import assert_close

from tinyllm.model import attention
from tinyllm.model.attention import attend


def draw(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator).requires_grad_()


@settings(deadline=None, max_examples=40)
@given(
    n_rows=st.integers(1, 3),
    n_groups=st.integers(1, 3),
    n_shared=st.integers(1, 3),
    n_queries=st.integers(1, 40),
    n_past=st.integers(0, 20),
    head_dim=st.integers(1, 9),
)
def test_mixing_equals_the_fused_operator_in_float64(
    n_rows: int, n_groups: int, n_shared: int, n_queries: int, n_past: int, head_dim: int
) -> None:
    n_keys = n_past + n_queries
    q = draw(0, n_rows, n_groups * n_shared, n_queries, head_dim)
    k = draw(1, n_rows, n_groups, n_keys, head_dim)
    v = draw(2, n_rows, n_groups, n_keys, head_dim)
    steps = torch.arange(n_keys)
    mask = (steps[n_past:].unsqueeze(1) >= steps).expand(n_rows, 1, -1, -1)
    wanted = functional.scaled_dot_product_attention(
        q.double(), k.double(), v.double(), attn_mask=mask, scale=0.7, enable_gqa=True
    )
    found = attend(q, k, v, mask, scale=0.7)
    assert_close(found, wanted.float(), atol=1e-5, rtol=1e-5)
    upstream = draw(3, *found.shape).detach()
    wanted_gradients = torch.autograd.grad(wanted, (q, k, v), upstream.double())
    found_gradients = torch.autograd.grad(found, (q, k, v), upstream)
    assert_close(found_gradients, wanted_gradients, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("n_tokens", [attention._WRITTEN_OUT[-1], attention._WRITTEN_OUT[-1] + 1])
@pytest.mark.parametrize("n_groups", [1, 4])
def test_no_mask_means_all_that_came_before(n_tokens: int, n_groups: int) -> None:
    q, k, v = (draw(i, 2, n, n_tokens, 8) for i, n in enumerate((4, n_groups, n_groups)))
    mask = torch.ones(1, 1, n_tokens, n_tokens, dtype=torch.bool).tril()
    found = attend(q, k, v, None, scale=0.3)
    assert_close(found, attend(q, k, v, mask, scale=0.3), atol=1e-5, rtol=1e-5)
    assert_close(found[:, :, :50], attend(*(x[:, :, :50] for x in (q, k, v)), None, scale=0.3))


@pytest.mark.parametrize("n_keys", [1, 2, 70])
@pytest.mark.parametrize("n_groups", [1, 4])
def test_a_lone_query_without_a_mask_looks_at_all_keys(n_keys: int, n_groups: int) -> None:
    q, k, v = (draw(i, 2, n, n_keys, 8) for i, n in enumerate((4, n_groups, n_groups)))
    found = attend(q[:, :, -1:], k, v, None, scale=0.3)
    assert_close(found, attend(q, k, v, None, scale=0.3)[:, :, -1:], atol=1e-5, rtol=1e-5)


def test_half_precision_comes_back_in_half_precision() -> None:
    q, k, v = (draw(i, 1, 2, 5, 8).detach().bfloat16() for i in range(3))
    found = attend(q, k, v, None, scale=0.3)
    assert found.dtype == torch.bfloat16
    assert_close(
        found.float(),
        attend(q.float(), k.float(), v.float(), None, scale=0.3),
        atol=0.02,
        rtol=0.02,
    )
