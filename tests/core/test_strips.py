"""Large images in strips: the same numbers as in one piece."""

import pytest
import torch

from refine.core import strips
from refine.core.composite import composite
from refine.core.pyramid import downscale, downscale_mask, gaussian
from refine.metrics.image import l1, psnr


@pytest.fixture(params=[1, 60, 333])
def small_strips(request, monkeypatch):
    """Whatever is larger than 99 px is worked on in strips of about so many."""

    def begin():
        monkeypatch.setattr(strips, "LARGE", 99)
        monkeypatch.setattr(strips, "PIXELS", request.param)

    return begin


def scene():
    generator = torch.Generator().manual_seed(0)
    image, other = torch.rand(2, 1, 3, 37, 23, generator=generator)
    return image, other, (torch.rand(1, 1, 37, 23, generator=generator) > 0.8).float()


def test_strips_follow_each_other(small_strips):
    image = torch.arange(37 * 23).view(1, 1, 37, 23)
    assert list(strips.strips(image)) == [slice(0, 37)]
    small_strips()
    parts = [image[..., rows, :] for rows in strips.strips(image)]
    assert len(parts) > 2 and torch.equal(torch.cat(parts, dim=-2), image)
    assert list(strips.strips(image[..., :0, :])) == []


@pytest.mark.parametrize(
    "work",
    [
        lambda image, other, mask: composite(other * 2 - 0.5, image, mask),
        lambda image, other, mask: downscale_mask(mask, (18, 11)),
    ],
)
def test_strips_change_no_bit(small_strips, work):
    expected = work(*scene())
    small_strips()
    assert torch.equal(work(*scene()), expected)


@pytest.mark.parametrize(
    "work",
    [
        lambda image, other, mask: gaussian(image, 1.0, 2),
        lambda image, other, mask: gaussian(mask, 2.0, 4),
        lambda image, other, mask: downscale(image, (18, 11)),
        lambda image, other, mask: l1(image, other, mask),
        lambda image, other, mask: l1(image, other),
        lambda image, other, mask: psnr(image, other),
    ],
)
def test_strips_change_no_more_than_rounding(small_strips, work):
    expected = work(*scene())
    small_strips()
    assert torch.allclose(work(*scene()), expected, rtol=1e-6, atol=3e-7)


def test_gradients_take_one_piece(small_strips):
    small_strips()
    image = scene()[0].requires_grad_()
    gaussian(image, 1.0, 2).sum().backward()
    assert image.grad is not None and image.grad.shape == image.shape
