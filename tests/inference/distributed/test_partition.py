"""Dividing work by cost, and accounting for it."""

import io

import pytest
from generated import pair, photo, save
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from refine.api import load
from refine.data.discovery import find_pairs
from refine.data.pairs import Failure
from refine.inference.distributed.partition import cost, divide, merge_reports, partition_pairs, select_pairs
from refine.inference.run_folder import RunFolder
from refine.io.decode import read_size


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
    assert cost(refiner, (64, 70)) == 16 * 20 * 1 + 32 * 36 * (2 + 2 * 3) + 64 * 72 * (2 + 2 * 5)
    assert cost(refiner, (64, 70)) == cost(refiner, (70, 64))
    assert cost(refiner, (1, 1)) == 16 or refiner.backbone.minimum_side > 4


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


def test_jobs_are_shared_by_size_and_bad_ones_cost_nothing(tmp_path, refiner):
    for number, side in enumerate([20, 100, 60, 80]):
        pair(tmp_path, f"im{number}", number, side, side)
    save(tmp_path / "bad_mask.png", photo())
    (tmp_path / "bad.png").write_bytes(b"no image")
    jobs, _ = find_pairs(str(tmp_path), None, None, str(tmp_path / "out"))
    assert partition_pairs(jobs, refiner, 2) == [["im1"], ["bad", "im0", "im2", "im3"]]
    assert partition_pairs(jobs, refiner, 1) == [[job.key for job in jobs]]
    assert partition_pairs(jobs, refiner, 2, side=64) == [["bad", "im1", "im3"], ["im0", "im2"]]  # made to one size
    assert len(partition_pairs(jobs, refiner, 9)) == 9
    assert [job.key for job in select_pairs(["im2", "im0"], jobs)] == ["im2", "im0"]
    with pytest.raises(ValueError, match="does not find 'elsewhere' in the input; all must see the same files"):
        select_pairs(["elsewhere"], jobs)


def test_the_dead_are_accounted_for(tmp_path):
    records = RunFolder(tmp_path, {"a": 1})
    records.open()
    other = RunFolder(tmp_path, {"a": 1}, rank=2)  # died after one of its two
    other.finish("c.png", "inputs", b"c", {"key": "c"})
    other._append({"output": "d.png", "configuration": records.configuration, "inputs": "", "sha256": "0"})
    told = {
        1: {"finished": {"b.png": "hash"}, "failures": [("x", "cannot be read", "")], "stopped": 0},
        3: {"error": "RuntimeError: ours"},
        4: {"finished": {}, "failures": [], "stopped": 143},
    }
    shares = [["a"], ["b", "x"], ["c", "d"], ["e"], ["f"]]
    merge_reports(told, records, shares, "png", early=False)
    assert set(records.finished) == {"b.png", "c.png"}
    assert records.failures == [
        Failure("x", "cannot be read"),
        Failure("d", "has no result: process 2 died"),
        Failure("e", "has no result: process 3 failed (RuntimeError: ours)"),
        Failure("f", "has no result: process 4 was stopped (status 143)"),
    ]
    records.failures = []
    merge_reports(told, records, shares, "png", early=True)  # after Ctrl-C what is left is left
    assert records.failures == [Failure("x", "cannot be read")]
