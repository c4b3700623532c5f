import functools

import pytest
import torch
from torch import nn

from refine.autograd.precision import checked_precision, run_in
from refine.autograd.selective import run
from refine.backbones.lama.adapter import LaMa
from refine.backbones.lama.generator import LaMaConfig
from refine.core.objective import MultiscaleL1
from refine.core.pyramid import Pyramid
from refine.core.refiner import Refiner

SIZES = LaMaConfig("ffc", width=8, downsamplings=2, blocks=1, global_channels=24)


def scene():
    generator = torch.Generator().manual_seed(0)
    image, mask = torch.rand(1, 3, 64, 72, generator=generator), torch.zeros(1, 1, 64, 72)
    mask[..., 16:48, 16:56] = 1
    return image, mask


@pytest.mark.parametrize(("name", "dtype"), [("bf16", torch.bfloat16), ("16", torch.float16)])
def test_convolutions_run_in_half_and_transforms_in_full(name, dtype):
    network = LaMa("random", sizes=SIZES)
    with run_in(name, torch.device("cpu")):
        assert torch.fft.rfftn(torch.rand(4, 4).to(dtype)).dtype == torch.complex64
        half = network(*scene())
    assert half.dtype == dtype
    full = network(*scene())
    assert 0 < (half.float() - full).abs().max() < 0.05


@pytest.mark.parametrize("name", ["bf16", "16"])
@pytest.mark.parametrize("frozen", [True, False])
def test_refinement_in_half_precision_stays_close(name, frozen):
    settings = {"steps": 5, "lr": 0.02, "frozen": frozen}
    network = LaMa("random", sizes=SIZES)
    network.model[-2].weight.mul_(30)  # random weights hardly disagree with the guide otherwise
    full, half = (
        Refiner(network, Pyramid(32), MultiscaleL1(3), precision=precision, **settings)(*scene())
        for precision in (32, name)
    )
    losses = half.levels[1].losses[:, 0]
    assert losses[-1] < losses[0]
    assert half.image.dtype == torch.float32
    assert (half.image - full.image).abs().max() < 0.05
    assert not torch.equal(half.image, full.image)


class Packing(nn.Module):
    """Complex numbers from what autocast made half, which torch.complex refuses."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, padding=1).requires_grad_(False)

    def forward(self, x):
        real, imag = self.conv(x).chunk(2, dim=1)
        return torch.fft.irfftn(torch.complex(real, imag=imag), dim=(-2, -1))


@pytest.mark.parametrize("rules", [True, False])
@pytest.mark.parametrize("own_block", [True, False])
def test_recomputation_has_its_islands_too(rules, own_block):
    torch.manual_seed(0)
    network, x = Packing(), torch.rand(1, 2, 6, 4, requires_grad=True)
    within = functools.partial(run_in, "bf16", torch.device("cpu"))
    blocks = [network.conv] if own_block else []
    gradients = []
    for how in ({}, {"blocks": blocks}):
        y = run(network, x, rules=rules, within=within, **how)
        gradients += torch.autograd.grad(y.square().sum(), x)
    assert gradients[0].any() and torch.equal(*gradients)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_weights_are_refined(dtype):
    """z stays in float32, whatever the weights are in."""
    regular = LaMaConfig("regular", width=8, downsamplings=2, blocks=1, global_channels=0)
    network = LaMa("random", sizes=regular)
    network.model[-2].weight.mul_(30)
    refiner = Refiner(network, Pyramid(32), MultiscaleL1(3), steps=5, lr=0.02)
    full = refiner(*scene())
    network.to(dtype)
    half = refiner(*scene())
    losses = half.levels[1].losses[:, 0]
    assert losses[-1] < losses[0]
    assert half.image.dtype == torch.float32 and 0 < (half.image - full.image).abs().max() < 0.1


def test_names():
    assert [checked_precision(value) for value in (32, "bf16", 16)] == ["32", "bf16", "16"]
    with pytest.raises(ValueError, match=r"refiner\.precision must be one of 32, bf16, 16; got 'fp8'"):
        checked_precision("fp8")
