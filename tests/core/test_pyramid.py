import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from refine.core.pyramid import Pyramid, downscale, downscale_mask, make_level, pad, shrink_mask


def test_downscale_is_gaussian_then_bilinear():
    kernel = torch.tensor([math.exp(-x * x / 2) for x in range(-2, 3)])
    kernel /= kernel.sum()
    image = torch.rand(1, 1, 12, 16)
    padded = torch.nn.functional.pad(image, (2, 2, 2, 2), mode="reflect")
    blurred = torch.nn.functional.conv2d(padded, (kernel[:, None] * kernel)[None, None])
    expected = blurred.unfold(2, 2, 2).unfold(3, 2, 2).mean((-1, -2))  # bilinear at exactly 2 is the mean of 2x2
    assert torch.allclose(downscale(image, (6, 8)), expected, atol=1e-6)


def test_any_contact_is_hole():
    """For even sizes a coarse pixel is hole iff a fine one in rows and columns 2i-2 .. 2i+3 is."""
    mask = torch.zeros(1, 1, 32, 32)
    mask[..., 16, 16] = 1
    coarse = downscale_mask(mask, (16, 16))
    rows = coarse[0, 0].any(1).nonzero().flatten().tolist()
    assert rows == [7, 8, 9]
    assert set(coarse.unique().tolist()) == {0.0, 1.0}


def test_shrunken_mask_of_ones_has_no_pinholes():
    """Bilinear weights of both-odd sizes give 0.99999994 in places; that is still all hole."""
    for height, width in ((101, 141), (77, 53), (33, 35)):
        assert shrink_mask(torch.ones(1, 1, height, width), (height // 2, width // 2)).all()


@pytest.mark.parametrize(
    ("side", "levels"), [(511, 1), (512, 1), (724, 1), (725, 2), (1024, 2), (1448, 2), (1449, 3), (2048, 3), (4096, 4)]
)
def test_number_of_levels_is_the_published_rule(side, levels):
    assert Pyramid(512).depth(side, side + 100) == levels
    assert Pyramid(512, max_levels=3).depth(side, side) == min(levels, 3)


def test_levels_run_coarse_to_fine_and_the_last_is_the_image():
    image, mask = torch.rand(1, 3, 101, 142), (torch.rand(1, 1, 101, 142) > 0.5).float()
    levels = Pyramid(25)(image, mask, multiple_of=8, minimum_side=16)
    assert [level.size for level in levels] == [(25, 35), (50, 71), (101, 142)]
    assert [tuple(level.image.shape[2:]) for level in levels] == [(32, 40), (56, 72), (104, 144)]
    assert torch.equal(levels[-1].crop(levels[-1].image), image)
    assert torch.equal(levels[-1].crop(levels[-1].mask), mask)


def test_other_factors():
    levels = Pyramid(20, factor=3)(torch.rand(1, 3, 180, 200), torch.ones(1, 1, 180, 200))
    assert [level.size for level in levels] == [(20, 22), (60, 66), (180, 200)]


@pytest.mark.parametrize("padding", ["symmetric", "reflect", "replicate"])
def test_padding_is_numpys(padding):
    image = torch.rand(1, 3, 5, 7)
    mode = {"replicate": "edge"}.get(padding, padding)
    expected = np.pad(image.numpy(), ((0, 0), (0, 0), (0, 3), (0, 1)), mode=mode)
    assert np.array_equal(pad(image, (8, 8), padding).numpy(), expected)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from(["symmetric", "reflect"]))
def test_any_size_can_be_padded(height, width, padding):
    image = torch.rand(1, 3, height, width)
    level = make_level(image, torch.ones(1, 1, height, width), 8, 16, padding)
    assert all(side % 8 == 0 and side >= 16 for side in level.image.shape[2:])
    assert torch.equal(level.crop(level.image), image)
    assert level.image.isfinite().all()


@pytest.mark.parametrize("arguments", [{"smallest_side": 0}, {"max_levels": 0}, {"factor": 1}, {"padding": "circular"}])
def test_bad_settings_are_refused_by_name(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        Pyramid(**{"smallest_side": 512, **arguments})
