"""Rows of many runs are compared image by image."""

import numpy as np
import polars as pl
import pytest
from finished import planted, write_study

from refine.studies.spec import read_study
from refine.studies.statistics import compare, costs, gain, read_rows


def test_which_way_is_better():
    assert gain("psnr_hole_torchmetrics", np.array(2.0)) == 2
    for score in ("l1_hole_refine", "known_l1_refine", "guide_l1_hole_refine", "lpips"):
        assert gain(score, np.array(2.0)) == -2
    assert gain("sharpness_hole_refine", np.array(1.25)) == gain("sharpness_hole_refine", np.array(0.75)) == -0.25
    assert gain("seam_refine", np.array(0.5)) == gain("seam_refine", np.array(-0.5)) == -0.5


@pytest.fixture
def two_arms(tmp_path):
    folder = write_study(tmp_path / "q", "{question: '?', arms: {a: [refiner.steps=1]}, scores: [psnr]}")
    return read_study(folder)


def test_only_the_same_images_and_masks_are_compared(tmp_path, two_arms):
    jobs = [
        planted(tmp_path / "plain", {"x": {"psnr": 1}, "y": {"psnr": 2}, "z": {"psnr": 3}, "w": {"psnr": 9}}),
        planted(
            tmp_path / "a", {"x": {"psnr": 2}, "y": {"psnr": 2}, "z": {"psnr": 9, "inputs": "other"}, "v": {"psnr": 9}}
        ),
    ]
    compared = compare(two_arms, read_rows(two_arms, jobs))
    (row,) = compared.filter((pl.col("arm") == "a") & (pl.col("reference") == "plain")).iter_rows(named=True)
    assert (row["n"], row["mean"], row["reference_mean"], row["difference"], row["wins"]) == (2, 2, 1.5, 0.5, 0.75)
    assert row["unpaired"] == 4  # z twice, v, w
    (alone,) = compared.filter((pl.col("arm") == "a") & (pl.col("reference") == "upscaled")).iter_rows(named=True)
    assert alone["n"] == 0 and np.isnan(alone["difference"])


def test_what_has_no_score_is_left_out(tmp_path, two_arms):
    jobs = [
        planted(tmp_path / "plain", {"x": {"psnr": 1}, "y": {"psnr": float("nan")}}),
        planted(
            tmp_path / "a", {"x": {"psnr": 4, "guided": "0.1 0.5"}, "y": {"psnr": 2, "guided": "0.7"}}, seconds=3.0
        ),
    ]
    rows = read_rows(two_arms, jobs)
    assert compare(two_arms, rows).filter(pl.col("arm") == "a")["n"].to_list() == [1, 0]
    cost = costs(two_arms, rows)
    assert cost.select("arm", "seconds", "peak_memory_mib").rows() == [("plain", 1, 5), ("a", 3, 5)]
    assert cost["guided"].to_list() == [None, pytest.approx(0.6)]  # of the last level
