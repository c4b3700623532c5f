import cv2
import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from refine.core.erosion import circle, dilate_box, erode, erode_adaptively
from refine.core.pyramid import shrink_mask


def test_circle_is_opencvs_ellipse():
    for diameter in (1, 3, 5, 7, 15, 31):
        expected = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (diameter, diameter))
        assert np.array_equal(circle(diameter).numpy(), expected)
    assert circle(15).sum() == 169  # specs of the published code


def test_erosion_leaves_the_border_alone():
    mask = torch.zeros(1, 1, 40, 40)
    mask[..., :20, :] = 1  # touches three sides
    eroded = erode(mask, 15)
    assert eroded[..., :13, :].all()
    assert not eroded[..., 13:, :].any()


def test_dilation_by_a_square():
    mask = torch.zeros(1, 1, 9, 9)
    mask[..., 1, 6] = 1
    grown = torch.zeros(9, 9)
    grown[:4, 4:] = 1
    assert torch.equal(dilate_box(mask, 2)[0, 0], grown)


SIDES, DIAMETERS = st.integers(17, 70), st.sampled_from((0, 1, 3, 7, 15))


@given(SIDES, SIDES, DIAMETERS, st.data())
@settings(max_examples=40, deadline=None)
def test_a_wide_hole_is_eroded_as_always(height, width, diameter, data):
    """Rectangles, also at the border of the image, of at least twice the circle at the coarse size."""
    size, wide = (height // 2, width // 2), 4 * diameter + 4
    mask = torch.zeros(1, 1, height, width)
    top, left = data.draw(st.integers(0, max(0, height - wide))), data.draw(st.integers(0, max(0, width - wide)))
    mask[..., top : top + wide, left : left + wide] = 1
    expected = erode(shrink_mask(mask, size), diameter)
    assert expected.any()
    assert torch.equal(erode_adaptively(mask, size, diameter), expected)


@given(SIDES, SIDES, DIAMETERS, st.sampled_from((2, 3)), st.data())
@settings(max_examples=40, deadline=None)
def test_each_hole_however_thin_keeps_a_pixel_near_by(height, width, diameter, ratio, data):
    mask = torch.zeros(1, 1, height, width)
    for _ in range(data.draw(st.integers(1, 4))):  # lines and dots of 1 to 6 px, also at the border
        y, x = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
        thickness, length = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 40))
        mask[..., y : y + thickness, x : x + length] = 1
    size = (height // ratio, width // ratio)
    kept, touched = erode_adaptively(mask, size, diameter), torch.nn.functional.adaptive_max_pool2d(mask, size)
    assert set(kept.unique().tolist()) <= {0.0, 1.0}
    assert not (kept > touched).any()  # nothing outside the hole
    assert not (touched > dilate_box(kept, max(1, diameter))).any()
    assert not (erode(shrink_mask(mask, size), diameter) > kept).any()  # only adds


def test_thin_parts_are_eroded_by_the_circle_that_fits():
    """A bar of 6 px at the coarse size: 15 and 7 px do not fit, 3 px does and leaves the 4 rows in its middle."""
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., 20:32, :] = 1
    kept = erode_adaptively(mask, (32, 32), 15)
    assert kept[0, 0].any(1).nonzero().flatten().tolist() == [11, 12, 13, 14]
    assert kept[0, 0, 11:15].all()
    line = torch.zeros(1, 1, 64, 64)
    line[..., 21, :] = 1  # half a coarse pixel: what touches the hole is taken
    assert erode_adaptively(line, (32, 32), 15)[0, 0].any(1).nonzero().flatten().tolist() == [10]
    assert not erode_adaptively(torch.zeros(1, 1, 64, 64), (32, 32), 15).any()


def test_erosion_of_one_or_none_is_nothing():
    mask = (torch.rand(1, 1, 9, 9) > 0.5).float()
    assert torch.equal(erode(mask, 0), mask)
    assert torch.equal(erode(mask, 1), mask)
