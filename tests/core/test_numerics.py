"""Settings of the whole process for the time of a refinement."""

import os

import pytest
import torch
from toys import Shift, scene

from refine.core.numerics import WORKSPACE, numerics, repeatable
from refine.core.objective import MultiscaleL1
from refine.core.pyramid import Pyramid
from refine.core.refiner import Refiner


def tf32():
    """Of convolutions and of products."""
    return torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()


def process():
    return (
        *tf32(),
        torch.backends.cudnn.benchmark,
        torch.are_deterministic_algorithms_enabled(),
        torch.utils.deterministic.fill_uninitialized_memory,
        os.environ.get(WORKSPACE),
    )


@pytest.mark.parametrize("on", [True, False])
def test_tf32_is_switched_for_products_and_convolutions_and_put_back(on):
    before = process()
    with numerics(torch.device("cuda"), tf32=on):
        assert tf32() == ((True, "high") if on else (False, "highest"))
        with torch.backends.cudnn.flags(benchmark=False):  # as networks of users do
            pass
    assert process() == before


def test_what_the_program_allowed_products_is_put_back():
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        with numerics(torch.device("cuda"), tf32=False):
            pass
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("workspace", [None, ":16:8"])
def test_repeatable_kernels_are_taken_and_all_is_put_back_after_an_error(monkeypatch, workspace):
    monkeypatch.delenv(WORKSPACE, raising=False)
    if workspace:
        monkeypatch.setenv(WORKSPACE, workspace)
    before = process()
    with pytest.raises(KeyError), repeatable():
        assert process()[2:] == (False, True, False, workspace or ":4096:8")
        raise KeyError
    assert process() == before


def test_a_cpu_repeats_its_bytes_anyway_and_nothing_is_set():
    before = process()
    with numerics(torch.device("cpu"), tf32=True, deterministic=True):
        assert process() == before


def test_a_refinement_by_repeatable_kernels_is_the_same_on_a_cpu():
    """Where all kernels are; the loss takes the rules then, for the sake of CUDA."""
    made = Refiner(Shift(), Pyramid(32), MultiscaleL1(3, known_weight=1), steps=3, lr=0.05)
    expected = made(*scene())
    with repeatable():
        result = made(*scene())
    assert torch.equal(result.image, expected.image)
    assert torch.equal(result.levels[1].losses, expected.levels[1].losses)
