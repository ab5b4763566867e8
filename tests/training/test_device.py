"""Choosing a device and a precision."""

from collections.abc import Iterator

import pytest
import torch

from tinyllm.device import choose_compute, choose_precision, keeps_float32_in_medium, quick_products
from tinyllm.errors import MissingPartError


def test_the_choice_names_its_reason() -> None:
    compute = choose_compute()
    assert compute.precision in compute.reason
    assert "(" in compute.reason


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_a_missing_device_is_refused_with_what_there_is() -> None:
    with pytest.raises(MissingPartError, match="no usable cuda") as caught:
        choose_compute("cuda")
    assert caught.value.hint is not None
    assert "cpu" in caught.value.hint


def test_fp16_needs_cuda() -> None:
    with pytest.raises(MissingPartError, match="fp16"):
        choose_precision(torch.device("cpu"), "fp16")


def test_measuring_the_precision_leaves_the_setting_alone() -> None:
    before = torch.get_float32_matmul_precision()
    keeps_float32_in_medium()
    assert torch.get_float32_matmul_precision() == before


@pytest.fixture
def medium() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    yield
    torch.set_float32_matmul_precision(before)


@pytest.mark.usefixtures("medium")
def test_small_products_go_without_preparation_and_large_ones_do_not() -> None:
    with quick_products(64 * 64):
        assert torch.get_float32_matmul_precision() == "highest"
    assert torch.get_float32_matmul_precision() == "medium"
    with quick_products(10**8):
        assert torch.get_float32_matmul_precision() == "medium"
    with pytest.raises(KeyError), quick_products(1):
        raise KeyError
    assert torch.get_float32_matmul_precision() == "medium"


def test_what_was_not_set_for_speed_is_left_alone() -> None:
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("high")
        with quick_products(1):
            assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)
