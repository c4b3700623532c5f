"""Scores of one image: numbers worked out by hand, torchmetrics, and the vectors of LaMa's evaluation."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torchmetrics.functional.image import (
    multiscale_structural_similarity_index_measure,
    structural_similarity_index_measure,
)

from refine.core.types import LevelResult, Refinement
from refine.metrics.image import (
    guide_l1,
    known_l1,
    l1,
    ms_ssim,
    psnr,
    scores,
    scores_without_truth,
    sharpness,
    ssim,
    ssim_lama,
)
from refine.metrics.seam import seam

FIXTURES = Path(__file__).parents[3] / "shared" / "fixtures" / "lama"
needs_fixtures = pytest.mark.skipif(not FIXTURES.is_dir(), reason="needs the reference vectors of the original code")
PAIRWISE = (l1, psnr, ssim, ssim_lama, ms_ssim, sharpness)


def constant(value, side=8):
    return torch.full((1, 3, side, side), float(value))


def hole(side=8, rows=slice(2, 6), columns=slice(3, 7)):
    mask = torch.zeros(1, 1, side, side)
    mask[..., rows, columns] = 1
    return mask


def noisy(seed, *shape):
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(*shape, generator=generator)
    return image, (image + 0.1 * torch.randn(*shape, generator=generator)).clamp(0, 1)


@pytest.fixture(scope="module")
def published():
    numbers = json.loads((FIXTURES / "pub_metrics_masks.json").read_text())
    return numbers, np.load(FIXTURES / "pub_metrics_masks.npz")


@pytest.mark.parity
@needs_fixtures
def test_ssim_is_that_of_lamas_evaluation(published):
    numbers, arrays = published
    image, truth = (
        torch.from_numpy(arrays[f"ssim_{name}_u8"]).permute(0, 3, 1, 2).float() / 255 for name in ("a", "b")
    )
    np.testing.assert_allclose(ssim_lama(image, truth), numbers["ssim"], rtol=0, atol=1e-6)


def test_constant_images_give_the_numbers_of_the_formulas():
    """Without structure SSIM is its luminance term, and MS-SSIM that of the coarsest scale."""
    image, truth, mask = constant(0.5, 192), constant(0.4, 192), hole(192)
    luminance = (2 * 0.5 * 0.4 + 0.01**2) / (0.5**2 + 0.4**2 + 0.01**2)
    for where in (None, mask):
        assert l1(image, truth, where).item() == pytest.approx(0.1, abs=1e-6)
        assert psnr(image, truth, where).item() == pytest.approx(20, abs=1e-4)
        assert ssim(image, truth, where).item() == pytest.approx(luminance, abs=1e-4)
        wide = hole(192, slice(40, 90), slice(20, 100)) if where is not None else None
        assert ms_ssim(image, truth, wide).item() == pytest.approx(luminance**0.1333, abs=1e-4)
    assert ssim_lama(image, truth, hole(192, slice(20, 30), slice(20, 30))).item() == pytest.approx(luminance, abs=1e-6)


def test_hole_scores_see_the_hole_only():
    """4x4 of 8x8 pixels are hole and wrong by 0.2."""
    truth, mask = constant(0.5), hole()
    image = truth + 0.2 * mask
    assert l1(image, truth).item() == pytest.approx(0.2 / 4)
    assert l1(image, truth, mask).item() == pytest.approx(0.2)
    assert psnr(image, truth, mask).item() == pytest.approx(-10 * math.log10(0.04), abs=1e-4)
    assert psnr(image, truth).item() == pytest.approx(-10 * math.log10(0.04 / 4), abs=1e-4)


@pytest.mark.parametrize("score", PAIRWISE)
def test_what_is_far_from_the_hole_does_not_matter(score):
    truth, image = noisy(0, 1, 3, 256, 256)
    mask = hole(256, slice(10, 20), slice(10, 20))
    before = score(image, truth, mask)
    image[..., 180:, 180:] = 0
    image[..., 200, 100] = torch.nan  # not even what is no number
    assert torch.equal(score(image, truth, mask), before)
    image[..., 10:20, 10:20] = 0.5
    assert not torch.equal(score(image, truth, mask), before)


@pytest.mark.parametrize("score", PAIRWISE)
def test_batch_equals_its_images(score):
    truth, image = noisy(1, 3, 3, 176, 180)
    mask = (noisy(2, 3, 1, 176, 180)[0] > 0.7).float()
    mask[2, :, 40:100, 30:120] = 1
    for where in (None, mask):
        alone = [
            score(image[i : i + 1], truth[i : i + 1], mask[i : i + 1] if where is mask else None) for i in range(3)
        ]
        together = score(image, truth, where)
        assert together.shape == (3,) and together.isfinite().all()
        assert torch.equal(together, torch.cat(alone))


def test_own_map_is_the_one_of_torchmetrics():
    """A hole of everything gives what torchmetrics gives, except for the rim it cuts off in MS-SSIM."""
    truth, image = noisy(3, 1, 3, 200, 190)
    everything = torch.ones(1, 1, 200, 190)
    expected = structural_similarity_index_measure(image, truth, data_range=1.0)
    assert ssim(image, truth).item() == pytest.approx(expected.item(), abs=1e-6)
    assert ssim(image, truth, everything).item() == pytest.approx(expected.item(), abs=1e-5)
    expected = multiscale_structural_similarity_index_measure(image, truth, data_range=1.0)
    assert ms_ssim(image, truth).item() == pytest.approx(expected.item(), abs=1e-6)
    assert ms_ssim(image, truth, everything).item() == pytest.approx(expected.item(), abs=3e-3)


@pytest.mark.parametrize("height", [6, 10, 63, 64, 65, 69, 70, 128, 131])
def test_strips_make_no_difference(height):
    """The map is made in strips of 64 rows, of which each sees 5 rows of its neighbors."""
    truth, image = noisy(10, 1, 3, height, 20)
    expected = structural_similarity_index_measure(image.double(), truth.double(), data_range=1.0)
    assert ssim(image, truth).item() == pytest.approx(expected.item(), abs=1e-7)


def test_scales_are_those_of_torchmetrics_in_float64():
    truth, image = noisy(11, 1, 3, 177, 300)
    expected = multiscale_structural_similarity_index_measure(image.double(), truth.double(), data_range=1.0)
    assert ms_ssim(image, truth).item() == pytest.approx(expected.item(), abs=1e-6)


@pytest.mark.parametrize("contrast", [1, 0.01, 0.001])
def test_in_the_hole_it_is_torchmetrics_own_map_in_float64(contrast):
    """Also where the image is nearly flat; in float32 the map is then wrong by up to 5e-4."""
    truth, image = (0.9 - contrast / 2 + contrast * part for part in noisy(9, 1, 3, 40, 30))
    mask = hole(40, slice(5, 30), slice(0, 12))[..., :30]
    _, full = structural_similarity_index_measure(
        image.double(), truth.double(), data_range=1.0, return_full_image=True, reduction="none"
    )
    assert ssim(image, truth, mask).item() == pytest.approx(
        full[mask.bool().expand(full.shape)].mean().item(), abs=1e-6
    )


def test_lama_pads_with_zeros():
    """At the corner of an all-white image against an all-gray one the window sees the known part of the Gaussian."""
    offsets = np.arange(-5, 6)
    window = np.exp(-(offsets**2) / 4.5)
    share = (window[5:].sum() / window.sum()) ** 2  # of the window that lies inside
    mean, other = share, share / 2
    variances = (share - mean**2) + (share / 4 - other**2)
    covariance = share / 2 - mean * other
    expected = (2 * mean * other + 1e-4) * (2 * covariance + 9e-4)
    expected /= (mean**2 + other**2 + 1e-4) * (variances + 9e-4)
    corner = hole(16, slice(0, 1), slice(0, 1))
    assert ssim_lama(constant(1, 16), constant(0.5, 16), corner).item() == pytest.approx(expected, abs=1e-6)


def test_perfect_result():
    truth = noisy(4, 1, 3, 176, 176)[0]
    found = {
        name: value.item() for name, value in scores(truth, truth, hole(176, slice(30, 90), slice(30, 90))).items()
    }
    assert all(math.isinf(value) for name, value in found.items() if name.startswith("psnr"))
    assert all(value == 0 for name, value in found.items() if name.startswith("l1"))
    similar = [value for name, value in found.items() if "ssim" in name or "sharpness" in name]
    assert similar == pytest.approx([1] * 6, abs=1e-6)


def test_sharpness_of_ramps():
    """A ramp half as steep is half as sharp, whatever its direction; the seam at the hole's rim does not count."""
    ramp = torch.linspace(0, 1, 8).expand(1, 3, 8, 8)
    mask = hole()
    assert sharpness(0.5 * ramp, ramp, mask).item() == pytest.approx(0.5)
    assert sharpness(0.5 * ramp.mT, ramp, mask).item() == pytest.approx(0.5)
    assert sharpness(torch.where(mask > 0, 0.9, ramp), ramp, mask).item() == 0
    diagonal = (ramp + ramp.mT) / 2
    assert sharpness(diagonal, ramp).item() == pytest.approx(math.sqrt(0.5))
    assert sharpness(ramp, constant(0.5), mask).isnan().item()  # nothing to be as sharp as
    assert sharpness(ramp, ramp, hole(columns=slice(3, 4))).isnan().item()  # no pixel with its neighbor


def test_blur_is_less_sharp_and_noise_more():
    truth, image = noisy(5, 1, 3, 64, 64)
    smooth = nn.functional.avg_pool2d(truth, 3, 1, 1)
    mask = hole(64, slice(10, 50), slice(10, 50))
    assert sharpness(smooth, truth, mask).item() < 0.5
    assert sharpness(image, smooth, mask).item() > 2


def test_scores_that_are_not_defined_are_nan():
    small = constant(0.5, 5)
    found = scores(small, small, torch.zeros(1, 1, 5, 5))
    undefined = {name for name, value in found.items() if value.isnan()}
    defined = {"psnr_image_torchmetrics", "ssim_image_lama", "l1_image_refine"}
    assert undefined == set(found) - defined
    mixed = torch.cat([hole(), torch.zeros(1, 1, 8, 8)])
    assert l1(*noisy(6, 2, 3, 8, 8), mixed).isnan().tolist() == [False, True]


def test_scores_name_where_and_whose():
    image, truth = noisy(7, 2, 3, 16, 20)
    found = scores(image, truth, torch.ones(2, 1, 16, 20))
    assert all(value.shape == (2,) and value.dtype == torch.float32 for value in found.values())
    assert {name.rsplit("_", 2)[1] for name in found} == {"image", "hole"}
    assert {name.rsplit("_", 1)[1] for name in found} == {"torchmetrics", "lama", "refine"}
    assert torch.equal(found["psnr_image_torchmetrics"], psnr(image, truth))


@pytest.mark.parametrize("score", PAIRWISE)
def test_sizes_that_differ_are_refused(score):
    with pytest.raises(ValueError, match=r"images .* of one size"):
        score(constant(0, 8), constant(0, 9))
    with pytest.raises(ValueError, match="and a mask"):
        score(constant(0, 8), constant(0, 8), torch.ones(1, 1, 8, 9))


def test_known_error():
    image, mask = constant(0.5), hole()
    assert known_l1(image + 0.25 * (1 - mask), image, mask).item() == pytest.approx(0.25)
    assert known_l1(image + 0.25 * mask, image, mask).item() == 0
    assert known_l1(image, image, torch.ones_like(mask)).isnan().item()


def test_agreement_with_the_guide():
    """A constant stays what it is when downscaled, so the distance can be read off."""
    image, guide, mask = constant(0.6, 32), constant(0.5, 16), hole(32, slice(8, 20), slice(8, 20))
    assert guide_l1(image, guide, mask).item() == pytest.approx(0.1, abs=1e-6)
    guide[..., :3, :3] = 0  # outside the hole
    assert guide_l1(image, guide, mask).item() == pytest.approx(0.1, abs=1e-6)
    assert guide_l1(image, guide, hole(32, slice(8, 9))).isnan().item()


def level(image, prediction):
    return LevelResult(prediction, image, torch.zeros(0, 1), *[torch.zeros(1)] * 4, 0.0)


def test_scores_without_truth():
    image, mask = constant(0.5, 32), hole(32, slice(8, 20), slice(8, 20))
    result, guide = image + 0.2 * mask, constant(0.5, 16)
    levels = (level(guide, guide), level(result, image + 0.1))
    found = scores_without_truth(Refinement(result, levels), image, mask)
    assert found["known_l1_refine"].item() == pytest.approx(0.1, abs=1e-6)
    assert found["guide_l1_hole_refine"].item() == pytest.approx(guide_l1(result, guide, mask).item())
    assert found["seam_refine"].item() == seam(result, mask).item() > 0
    assert scores_without_truth(Refinement(result, levels[1:]), image, mask)["guide_l1_hole_refine"].isnan().item()
