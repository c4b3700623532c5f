"""MI-GAN: the published network's numbers, its keys, and any size."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from refine.api import load
from refine.backbones.migan.adapter import MIGAN
from refine.backbones.migan.generator import Generator, MIGANConfig, Upsample, read_sizes
from refine.core.pyramid import make_level
from refine.core.types import Features
from refine.weights.checkpoint import UnusableWeights

SHARED = Path(__file__).parents[3] / "shared"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="needs the reference vectors of the original code")
FOLDER = SHARED / "fixtures" / "migan"
SMALL = MIGANConfig(channels=(12, 8, 6, 4))


def small(cut=8, **arguments):
    with pytest.warns(UserWarning, match="backbone 'migan' has RANDOM weights"):
        return MIGAN("random", cut, sizes=SMALL, **arguments)


def random_level(height=32, width=40):
    image = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))
    return make_level(image, (image[:, :1] > 0.7).float(), 8, 32)


@pytest.mark.parity
@needs_shared
@pytest.mark.parametrize("case", [0, 1])
def test_says_what_the_original_says(case):
    vectors = np.load(FOLDER / "migan_a.npz")
    given = {name: torch.from_numpy(vectors[f"{name}_{case}"]) for name in ("image", "known_mask", "output")}
    backbone = load("backbone=migan", f"backbone.weights={FOLDER / 'migan_a.safetensors'}").backbone
    assert torch.equal(backbone._encoded(level_of(given)), torch.from_numpy(vectors["input_0"])) or case == 1
    prediction = backbone((given["image"] + 1) / 2, 1 - given["known_mask"])
    difference = (2 * prediction - 1 - given["output"]).abs().max() / given["output"].std()
    assert difference <= 1e-3


def level_of(given):
    return make_level((given["image"] + 1) / 2, 1 - given["known_mask"], 16, 64)


@pytest.mark.parity
@needs_shared
@pytest.mark.parametrize("resolution", [256, 512])
def test_has_the_official_names_and_shapes(resolution):
    table = json.loads((SHARED / "specs" / "shapes" / f"migan{resolution}_official_shapes.json").read_text())
    with torch.device("meta"):
        sizes = read_sizes({name: torch.empty(shape) for name, (shape, _) in table.items()})
        own = Generator(sizes).state_dict()
    assert sizes.resolutions[-1] == resolution
    assert {name: tuple(value.shape) for name, value in own.items()} == {k: tuple(v[0]) for k, v in table.items()}


def test_upsampling_is_filtered_insertion_of_zeros():
    up = Upsample(3, 8)
    with torch.no_grad():
        up.filter.weight.copy_(torch.randn(3, 1, 4, 4))  # not symmetric
        x = torch.randn(2, 3, 4, 4)
        stuffed = F.interpolate(x, scale_factor=2, mode="nearest") * up.filter_const
        expected = F.conv2d(F.pad(stuffed, (2, 1, 2, 1)), up.filter.weight, groups=3)
        torch.testing.assert_close(up(x), expected)


@pytest.mark.parametrize("size", [(32, 32), (64, 64), (40, 72), (21, 33)])
def test_takes_any_size_and_tiles_the_noise(size):
    backbone = small()
    image = torch.rand(2, 3, *size)
    assert backbone(image, torch.ones(2, 1, *size)).shape == image.shape
    block = backbone.network.synthesis.b32.conv2
    with torch.no_grad():
        block.noise_strength.fill_(1.0)
        block.conv2.weight.zero_()
        noise = block(torch.zeros(1, 4, 40, 72))
    torch.testing.assert_close(noise[..., 32:, :8], noise[..., :8, :8])
    torch.testing.assert_close(noise[..., 32:40, 64:], noise[..., :8, :8])


def test_every_cut_gives_the_same_prediction():
    level = random_level(40, 48)
    backbones = [small(cut) for cut in (4, 8, 16, [4, 16])]
    predictions = [backbone.rear(backbone.front(level)) for backbone in backbones]
    assert all(torch.equal(prediction, predictions[0]) for prediction in predictions)
    assert backbones[0].layers == ("features", "rgb")
    assert backbones[3].layers == ("features.4", "rgb.4", "features.16", "rgb.16")


def test_offsets_add_behind_their_block():
    one, two = small(16), small([4, 16])
    level = random_level()
    features, offset = two.front(level), torch.randn(1, 6, 16, 20)
    moved = two.rear(Features({**features.z, "features.16": offset}, features.context))
    plain = one.front(level)
    expected = one.rear(Features({**plain.z, "features": plain.z["features"] + offset}, plain.context))
    torch.testing.assert_close(moved, expected)


@pytest.mark.parametrize("cut", [32, 5, [], [4, 4], "8"])
def test_refuses_cuts_it_does_not_have(cut):
    with pytest.raises(ValueError, match=r"one of 4, 8, 16"):
        small(cut)


def test_says_what_weights_it_needs(tmp_path):
    with pytest.raises(UnusableWeights, match="backbone 'migan' needs its weights"):
        load("backbone=migan_256", "backbone.name=migan")
    save_file({"synthesis.b4.conv1.conv2.weight": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(UnusableWeights, match="expected 4, 8, 16"):
        MIGAN(tmp_path / "x.safetensors")
    save_file(small().network.state_dict(), tmp_path / "small.safetensors")
    assert MIGAN(tmp_path / "small.safetensors", cut=8).weights_hash == small().weights_hash
