"""A composite has the prediction in the hole and the input's own bits everywhere else."""

import math

import torch

from refine.core.composite import composite


def test_the_hole_is_clamped_and_known_pixels_are_bit_exact():
    prediction = torch.tensor([-0.5, 0.25, 1.5, math.nan]).expand(1, 3, 1, 4)
    image = torch.rand(1, 3, 1, 4)
    result = composite(prediction, image, torch.tensor([1.0, 1, 1, 0]).view(1, 1, 1, 4))
    assert result[0, 0, 0, :3].tolist() == [0, 0.25, 1]
    assert torch.equal(result[..., 3], image[..., 3])


def test_the_result_has_the_images_dtype():
    image, mask = torch.rand(1, 3, 4, 4).half(), torch.ones(1, 1, 4, 4).half()
    result = composite(torch.full((1, 3, 4, 4), 1 / 3), image, mask)
    assert result.dtype == torch.float16 and torch.equal(result, torch.full_like(image, 1 / 3))


def test_a_composite_stays_as_it_is():
    image, mask = torch.rand(2, 3, 5, 6), (torch.rand(2, 1, 5, 6) > 0.5).float()
    result = composite(torch.randn(2, 3, 5, 6), image, mask)
    assert torch.equal(composite(result, image, mask), result)
