"""Layers in strips give the numbers of the layers as a whole, to the bit."""

from fractions import Fraction

import pytest
import torch
from torch import nn

from refine.autograd.strips import in_strips
from refine.backbones.lama.adapter import LaMa
from refine.backbones.lama.generator import LaMaConfig
from refine.core.objective import MultiscaleL1
from refine.core.pyramid import Pyramid
from refine.core.refiner import Refiner

SIZES = {
    "ffc": LaMaConfig(width=8, downsamplings=3, blocks=2, global_channels=48),
    "shallow": LaMaConfig(width=8, downsamplings=1, blocks=1, global_channels=12),
    "local": LaMaConfig(width=8, downsamplings=2, blocks=1, global_channels=0),
    "regular": LaMaConfig(kind="regular", width=8, downsamplings=2, blocks=1, global_channels=0),
}


def scene(height, width=140):
    image = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(1, 1, height, width)
    mask[..., height // 4 : height // 2, 10:30] = 1
    return image, mask


@pytest.mark.filterwarnings("ignore:.*RANDOM")
@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("kind", SIZES)
def test_refinement_is_the_same_to_the_bit(kind, channels_last):
    whole = LaMa("random", native_size=64, sizes=SIZES[kind], channels_last=channels_last)
    strips = whole.stripped()
    assert strips.strips and not whole.strips
    calls = []
    strips.model[-1].register_forward_hook(lambda module, inputs, output: calls.append(output.shape[-2]))
    images = []
    for backbone in (whole, strips):
        calls.clear()
        refiner = Refiner(backbone, Pyramid(64), MultiscaleL1(3), steps=2)
        result = refiner(*scene(300))
        images.append((result.image, result.levels[-1].losses))
    assert len(calls) > 9 and max(calls) < 300  # the last layer never saw all rows at once
    assert torch.equal(images[0][0], images[1][0]) and torch.equal(images[0][1], images[1][1])


@pytest.mark.parametrize("height", [3, 16, 17, 100])
def test_any_number_of_rows_and_a_gradient_to_every_input(height):
    torch.manual_seed(0)
    convolution = nn.Conv2d(3, 4, 5, padding=2, padding_mode="replicate").requires_grad_(False)
    inputs = [torch.rand(2, 1, height, 20, requires_grad=True), torch.rand(2, 2, height, 20, requires_grad=True)]

    def layers(*parts):
        both = convolution(torch.cat(parts, dim=1))
        return both.relu(), nn.functional.interpolate(both, scale_factor=(1, 2))

    outputs = layers(*inputs), in_strips(layers, inputs, Fraction(1), rows=8, halo=2)
    gradients = [torch.autograd.grad([out.square().sum() for out in found], inputs) for found in outputs]
    for one, other in zip((*outputs[0], *gradients[0]), (*outputs[1], *gradients[1]), strict=True):
        assert torch.equal(one, other)


def test_a_halo_that_is_too_small_shows():
    convolution = nn.Conv2d(1, 1, 5, padding=2).requires_grad_(False)
    x = torch.rand(1, 1, 40, 8)
    found = in_strips(lambda x: (convolution(x),), [x], Fraction(1), rows=8, halo=1)[0]
    assert not torch.allclose(found, convolution(x), atol=1e-3)


def test_half_precision_is_that_of_the_forward_pass():
    convolution = nn.Conv2d(2, 2, 3, padding=1).requires_grad_(False)
    x = torch.rand(1, 2, 40, 8, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        whole, strips = convolution(x), in_strips(lambda x: (convolution(x),), [x], Fraction(1), rows=8, halo=1)[0]
    assert strips.dtype == torch.bfloat16 and torch.equal(whole, strips)
    grads = [torch.autograd.grad(out.float().square().sum(), x)[0] for out in (whole, strips)]
    assert torch.equal(*grads)
