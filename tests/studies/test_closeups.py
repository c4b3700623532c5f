"""The part of an example that is shown near by, and the colors of its differences."""

import numpy as np
import pytest
import torch

from refine.studies.closeups import closeup, common_scale, difference_map

PLAIN = torch.full((1, 3, 200, 300), 0.5)


def test_the_largest_hole_is_cut_out_with_a_margin():
    mask = torch.zeros(1, 1, 200, 300)
    mask[..., 20:120, 40:100] = 1
    mask[..., 150:160, 200:210] = 1
    near = closeup(PLAIN + 0.1 * mask, PLAIN, PLAIN, mask)
    assert near.box == (34, 10, 106, 130) and near.size == (300, 200)
    assert set(near.pictures) == {"plain", "arm", "truth"} and near.pictures["arm"].size == (72, 120)
    assert near.differences.shape == (120, 72) and near.differences.max() == pytest.approx(0.1, abs=1e-6)
    small = closeup(PLAIN, PLAIN, None, torch.nn.functional.pad(torch.ones(1, 1, 4, 4), (0, 296, 0, 196)))
    assert small.box == (0, 0, 48, 48) and set(small.pictures) == {"plain", "arm"}


def test_of_a_hole_that_fills_the_image_the_part_is_shown_that_differs_most():
    refined = PLAIN.clone()
    refined[..., 110:190, 210:290] += 0.2
    near = closeup(refined, PLAIN, None, torch.ones(1, 1, 200, 300))
    left, top, right, bottom = near.box
    assert (right - left, bottom - top) == (100, 100)
    assert left <= 210 and right >= 290 and top <= 110 and bottom >= 190


def test_without_a_mask_what_differs_is_shown_and_other_sizes_are_not():
    refined = PLAIN.clone()
    refined[..., 50:100, 50:100] += 0.2
    assert closeup(refined, PLAIN, None, None).box == (45, 45, 105, 105)
    assert closeup(refined[..., :100, :], PLAIN, None, None) is None


def test_one_scale_for_all_maps():
    low, high = (closeup(PLAIN + value / 255, PLAIN, None, torch.ones(1, 1, 200, 300)) for value in (3, 20))
    assert (common_scale([low]), common_scale([low, high]), common_scale([])) == (8, 32, 8)
    dark, half, bright = (np.asarray(difference_map(np.full((2, 2), v / 255), 32))[0, 0] for v in (0, 16, 40))
    assert dark.sum() < 10 < half.sum() < bright.sum() and bright.sum() > 600
