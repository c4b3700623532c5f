import math

import pytest
import torch

from refine.core.objective import MultiscaleL1, masked_mean, scaled_erosion
from refine.core.pyramid import downscale, make_level


def level_with(mask, image=None):
    image = torch.rand(mask.shape[0], 3, *mask.shape[2:]) if image is None else image
    return make_level(image, mask, 8)


def test_masked_mean_by_hand():
    values = torch.tensor([[[[1.0, 2.0], [3.0, math.nan]]]])
    mask = torch.tensor([[[[True, True], [True, False]]]])
    assert masked_mean(values, mask).tolist() == [2.0]
    assert masked_mean(values, torch.zeros_like(mask)).tolist() == [0.0]


@pytest.mark.parametrize(
    ("native", "erosion"), [(512, 15), (256, 7), (128, 3), (64, 1), (32, 1), (640, 19), (None, 15)]
)
def test_erosion_scales_to_the_nearest_odd_size(native, erosion):
    assert scaled_erosion(15, native) == erosion


def test_loss_is_l1_to_the_guide_inside_the_eroded_hole():
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., 8:56, 8:56] = 1
    level = level_with(mask)
    prediction, guide = torch.rand(1, 3, 64, 64), torch.rand(1, 3, 32, 32)
    comparison = MultiscaleL1(erosion=3).prepare(level, guide)
    inside = torch.zeros(1, 1, 32, 32, dtype=torch.bool)
    inside[..., 5:27, 5:27] = True  # the hole is 4..27 at this resolution, less 1 px
    expected = (downscale(prediction, (32, 32)) - guide).abs()[inside.expand(1, 3, -1, -1)].mean()
    assert comparison.loss(prediction).item() == pytest.approx(expected.item(), abs=1e-6)
    assert comparison.guided_fraction.item() == pytest.approx(22**2 / 24**2)


def test_known_pixels_count_over_the_padded_level():
    mask = torch.zeros(1, 1, 61, 61)
    mask[..., 20:40, 20:40] = 1
    level = level_with(mask)
    prediction = level.image + 0.25
    guide = downscale(level.crop(prediction), (30, 30))
    loss = MultiscaleL1(erosion=3, known_weight=2).prepare(level, guide).loss(prediction)
    assert loss.item() == pytest.approx(0.5, abs=1e-6)  # 2 * 0.25, and the guide agrees


def test_a_hole_too_thin_for_the_erosion_has_nothing_to_compare():
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., 30:34, :] = 1
    level, guide = level_with(mask), torch.rand(1, 3, 32, 32)
    paper = MultiscaleL1(15).prepare(level, guide)
    assert not paper.has_pixels.any()
    assert paper.loss(level.image).tolist() == [0.0]
    reference = MultiscaleL1(15, known_weight=1).prepare(level, guide)
    assert reference.has_pixels.all()
    assert reference.loss(level.image + 0.5).item() == pytest.approx(0.5)


def test_an_adaptive_erosion_compares_thin_holes_too():
    mask = torch.zeros(2, 1, 64, 64)
    mask[0, :, 30:34, :] = 1
    mask[1, :, 8:56, 8:56] = 1
    level, guide = level_with(mask), torch.rand(2, 3, 32, 32)
    fixed, adaptive = MultiscaleL1(15).prepare(level, guide), MultiscaleL1(15, adaptive=True).prepare(level, guide)
    assert (fixed.has_pixels.tolist(), adaptive.has_pixels.tolist()) == ([False, True], [True, True])
    assert adaptive.guided_fraction[0] == 1  # 2 px at this resolution: only a circle of 1 px fits
    assert adaptive.guided_fraction[1] == fixed.guided_fraction[1]
    thin = (downscale(level.image, (32, 32)) - guide).abs()[0, :, 15:17].mean()
    losses = adaptive.loss(level.image), fixed.loss(level.image)
    assert losses[0][0].item() == pytest.approx(thin.item(), abs=1e-6)
    assert losses[0][1] == losses[1][1]


def test_thin_parts_are_left_out_and_wide_ones_compared_as_ever():
    wide, both = torch.zeros(1, 1, 64, 64), torch.zeros(1, 1, 64, 64)
    wide[..., 8:40, 8:40] = 1
    both[..., 8:40, 8:40] = 1
    both[..., 50:56, 4:60] = 1  # a stroke of 6 px
    guide, prediction = torch.rand(1, 3, 32, 32), torch.rand(1, 3, 64, 64)
    alone = MultiscaleL1(3).prepare(level_with(wide), guide)
    comparison = MultiscaleL1(3, narrowest=12).prepare(level_with(both), guide)
    assert (
        comparison.loss(prediction)
        == alone.loss(prediction)
        != MultiscaleL1(3).prepare(level_with(both), guide).loss(prediction)
    )
    assert torch.equal(comparison.refined, wide)  # to its rim
    assert MultiscaleL1(3, narrowest=4).prepare(level_with(both), guide).refined[..., 50:56, 4:60].all()
    stroke = MultiscaleL1(3, narrowest=12).prepare(level_with(both - wide), guide)
    assert not stroke.has_pixels.any() and not stroke.refined.any()


def test_a_full_hole_has_no_known_term():
    level = level_with(torch.ones(1, 1, 64, 64))
    guide = torch.full((1, 3, 32, 32), 0.5)
    loss = MultiscaleL1(15, known_weight=1).prepare(level, guide).loss(torch.zeros(1, 3, 64, 64))
    assert loss.item() == pytest.approx(0.5)


def test_each_image_of_a_batch_has_a_loss_of_its_own():
    mask = torch.zeros(2, 1, 64, 64)
    mask[0, :, 8:56, 8:56] = 1
    comparison = MultiscaleL1(3).prepare(level_with(mask), torch.zeros(2, 3, 32, 32))
    assert comparison.has_pixels.tolist() == [True, False]
    assert comparison.loss(torch.ones(2, 3, 64, 64)).tolist() == pytest.approx([1.0, 0.0], abs=1e-6)


@pytest.mark.parametrize(
    "arguments",
    [{"erosion": 14}, {"erosion": -1}, {"known_weight": -1}, {"narrowest": 0}, {"narrowest": 32, "adaptive": True}],
)
def test_bad_settings_are_refused_by_name(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        MultiscaleL1(**arguments)
