"""The jump across the rim of a hole: colors of which Lab is known, and photos that have none."""

import pytest
import torch

from refine.metrics.seam import seam

JUMP = 9.834  # CIE lightness of the gray 0.6 less that of 0.5, by the formula of sRGB and CIE 1976


def gray(value=0.5, side=16):
    return torch.full((1, 3, side, side), value)


def hole(rows, columns, side=16):
    mask = torch.zeros(1, 1, side, side)
    mask[..., rows, columns] = 1
    return mask


@pytest.mark.parametrize(
    ("rows", "columns"),
    [
        (slice(4, 9), slice(5, 12)),
        (slice(0, 4), slice(None)),
        (slice(None), slice(13, None)),
        (slice(7, 8), slice(1, 3)),
    ],
)
def test_the_jump_of_an_offset_is_its_color_difference_wherever_the_hole_lies(rows, columns):
    mask = hole(rows, columns)
    assert seam(gray() + 0.1 * mask, mask).item() == pytest.approx(JUMP, abs=1e-3)
    assert seam(gray(), mask).item() == 0


def test_only_the_pixels_at_the_rim_count():
    mask, core = hole(slice(4, 12), slice(4, 12)), hole(slice(5, 11), slice(5, 11))
    far = 1 - hole(slice(2, 14), slice(2, 14))
    assert seam(gray() + 0.3 * core + 0.2 * far, mask).item() == 0


def test_a_ramp_and_a_texture_are_no_seam():
    ramp = torch.linspace(0.2, 0.8, 16).expand(1, 3, 16, 16)
    assert seam(ramp, hole(slice(4, 9), slice(5, 12))).abs().item() < 0.1
    noise = torch.rand(1, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    mask = hole(slice(30, 220), slice(30, 220), 256)
    smooth = torch.where(mask > 0, gray(0.5, 256), noise)
    assert seam(noise, mask).abs().item() < 2 < -seam(smooth, mask).item()


def test_pairs_without_a_known_pixel_beyond_do_not_count():
    for known, found in ((slice(8, 9), float("nan")), (slice(8, 10), JUMP)):  # columns between two holes
        mask = torch.ones(1, 1, 16, 16)
        mask[..., known] = 0
        assert seam(gray() + 0.1 * mask, mask).item() == pytest.approx(found, abs=1e-3, nan_ok=True)


def test_without_a_rim_it_is_not_defined_and_a_batch_equals_its_images():
    assert seam(gray(), torch.zeros(1, 1, 16, 16)).isnan().item()
    assert seam(gray(), torch.ones(1, 1, 16, 16)).isnan().item()
    images = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    masks = torch.cat([hole(slice(3, 9), slice(n, n + 6)) for n in (0, 4, 10)])
    alone = [seam(image[None], mask[None]) for image, mask in zip(images, masks, strict=True)]
    assert torch.equal(seam(images, masks), torch.cat(alone))


def test_what_breaks_the_conventions_is_refused():
    with pytest.raises(ValueError, match="one size"):
        seam(gray(side=8), torch.zeros(1, 1, 16, 16))
