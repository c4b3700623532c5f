"""Dividing images by cost."""

import io
import random

import pytest
from generated import pair, photo, save
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from refine.analysis.plan import plan_levels, work
from refine.api import load
from refine.data.dataset import PairDataset
from refine.data.discovery import find_pairs
from refine.inference.distributed.sampler import CostBalancedSampler, divide
from refine.inference.foresight import predicted_costs
from refine.io.decode import read_size
from refine.io.mask import MaskOptions


@given(st.lists(st.floats(0, 1e9), max_size=60), st.integers(1, 9))
def test_every_item_goes_to_one_part_and_parts_are_even(costs, parts):
    shares = divide(costs, parts)
    assert sorted(index for share in shares for index in share) == list(range(len(costs)))
    assert all(share == sorted(share) for share in shares) and shares == divide(costs, parts)
    loads = [sum(costs[index] for index in share) for share in shares]
    assert max(loads) - min(loads) <= max(costs, default=0) * (1 + 1e-9)


def test_longest_first():
    assert divide([1, 7, 2, 6, 5, 4], 2) == [[1, 2, 5], [0, 3, 4]]  # 7+4+2 and 6+5+1
    assert divide([0, 0, 0, 0], 2) == [[0, 2], [1, 3]]  # unknown costs divide evenly
    assert divide([], 3) == [[], [], []]


@pytest.fixture(scope="module")
def refiner(tiny):
    return load(*tiny, "refiner.steps=[3,5]")


def test_cost_counts_padded_pixels_and_passes(refiner):
    multiple = refiner.backbone.multiple_of
    assert (multiple, refiner.pyramid.sizes(64, 70)) == (4, ((16, 17), (32, 35), (64, 70)))

    def cost(size):
        return work(plan_levels(refiner, size))

    assert cost((64, 70)) == 16 * 20 * 1 + 32 * 36 * (2 + 2 * 3) + 64 * 72 * (2 + 2 * 5)
    assert cost((64, 70)) == cost((70, 64))
    assert cost((1, 1)) == 16 or refiner.backbone.minimum_side > 4


def test_the_pyramid_has_the_sizes_it_says(refiner):
    import torch

    for size in [(16, 16), (37, 90), (130, 64)]:
        levels = refiner.pyramid(torch.zeros(1, 3, *size), torch.zeros(1, 1, *size))
        assert tuple(level.size for level in levels) == refiner.pyramid.sizes(*size)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "TIFF", "BMP"])
def test_sizes_are_read_from_headers(format):
    file = io.BytesIO()
    Image.fromarray(photo(31, 17)).save(file, format)
    assert read_size(io.BytesIO(file.getvalue())) == (17, 31)
    if format in ("PNG", "BMP", "JPEG"):  # without any pixel
        assert read_size(io.BytesIO(file.getvalue()[: 700 if format == "JPEG" else 60])) == (17, 31)
    assert read_size(io.BytesIO(b"nothing")) == (0, 0)


def test_images_are_divided_by_size_and_unreadable_ones_cost_nothing(tmp_path, refiner):
    for number, side in enumerate([20, 100, 60, 80]):
        pair(tmp_path, f"im{number}", number, side, side)
    save(tmp_path / "bad_mask.png", photo())
    (tmp_path / "bad.png").write_bytes(b"no image")
    pairs = find_pairs(str(tmp_path), None, None, str(tmp_path / "out")).pairs

    def keys(count, side=None):
        costs = predicted_costs(PairDataset(pairs, MaskOptions(), "png", side), refiner)
        return [[pairs[index].key for index in CostBalancedSampler(costs, rank, count)] for rank in range(count)]

    assert keys(2) == [["im1"], ["bad", "im0", "im2", "im3"]]
    assert keys(1) == [[pair.key for pair in pairs]]
    assert keys(2, side=16) == [["bad", "im0", "im2"], ["im1", "im3"]]  # all are made one size
    assert keys(2, side=64) == [["bad", "im1", "im2"], ["im0", "im3"]]  # im0 and im2 will be refused
    assert sorted(map(len, keys(9))) == [0, 0, 0, 0, 1, 1, 1, 1, 1]


def test_two_hundred_images_of_mixed_size_over_eight_processes_are_balanced(refiner):
    generator = random.Random(0)
    sizes = [(generator.randint(200, 4000), generator.randint(200, 6000)) for _ in range(200)]
    costs = [work(plan_levels(refiner, size)) for size in sizes]
    samplers = [CostBalancedSampler(costs, rank, 8) for rank in range(8)]
    loads = [sum(costs[index] for index in sampler) for sampler in samplers]
    assert sorted(index for sampler in samplers for index in sampler) == list(range(200))
    assert max(loads) / (sum(loads) / 8) <= 1.05
