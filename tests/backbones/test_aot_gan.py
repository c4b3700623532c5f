"""AOT-GAN: the published network's numbers, its keys, and where it can be cut."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from refine.api import load
from refine.backbones.aot_gan import AOTGAN, AOTGANConfig, Generator, read_sizes
from refine.core.types import Features
from refine.weights.checkpoint import UnusableWeights

SHARED = Path(__file__).parents[3] / "shared"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="needs the reference vectors of the original code")
FOLDER = SHARED / "fixtures" / "aotgan"
SMALL = AOTGANConfig(width=8, blocks=3, rates=(1, 2))


@pytest.fixture
def small():
    with pytest.warns(UserWarning, match="backbone 'aot_gan' has RANDOM weights"):
        return AOTGAN("random", sizes=SMALL)


@pytest.mark.parity
@needs_shared
@pytest.mark.parametrize("case", [0, 1])
def test_says_what_the_original_says(case):
    vectors = np.load(FOLDER / "aotgan_a.npz")
    given = {name: torch.from_numpy(vectors[f"{name}_{case}"]) for name in ("image", "mask", "output")}
    backbone = load("backbone=aot_gan", f"backbone.weights={FOLDER / 'aotgan_a.safetensors'}").backbone
    prediction = backbone((given["image"] + 1) / 2, given["mask"])
    assert prediction.shape == given["output"].shape
    difference = (2 * prediction - 1 - given["output"]).abs().max() / given["output"].std()
    assert difference <= 1e-4
    for cut, name in [(0, "z_encoder"), (1, "z_block0"), (3, "z_middle")]:
        backbone.cuts = (cut,)
        level = level_of((given["image"] + 1) / 2, given["mask"])
        z = torch.from_numpy(vectors[f"{name}_{case}"])
        assert (backbone.front(level).z["features"] - z).abs().max() <= 1e-4 * z.std()


@pytest.mark.parity
@needs_shared
def test_has_the_official_names_and_shapes():
    table = json.loads((SHARED / "specs" / "shapes" / "aotgan_official_shapes.json").read_text())
    with torch.device("meta"):
        state = {name: torch.empty(shape) for name, (shape, _) in table.items()}
        own = Generator(read_sizes(state)).state_dict()
    assert {name: tuple(value.shape) for name, value in own.items()} == {k: tuple(v[0]) for k, v in table.items()}


def level_of(image, mask):
    from refine.core.pyramid import make_level

    return make_level(image, mask, 4, 36)


def random_level(height=36, width=48):
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 3, height, width, generator=generator)
    return level_of(image, (image[:, :1] > 0.7).float())


def test_reads_its_sizes_from_any_container(tmp_path, small):
    state = {f"netG.{name}": value for name, value in small.network.state_dict().items()}
    torch.save(state, tmp_path / "G0000000.pt")
    save_file(state, tmp_path / "g.safetensors")
    for file in ("G0000000.pt", "g.safetensors"):
        backbone = load("backbone=aot_gan", f"backbone.weights={tmp_path / file}").backbone
        assert backbone.sizes == SMALL
        assert backbone.weights_hash == small.weights_hash
        level = random_level()
        assert torch.equal(backbone(level.image, level.mask), small(level.image, level.mask))


def test_every_cut_gives_the_same_prediction():
    level = random_level()
    with pytest.warns(UserWarning, match="RANDOM"):
        backbones = [AOTGAN("random", cut, sizes=SMALL) for cut in (0, 1, 3, [0, 2], [3, 1, 0])]
    for backbone in backbones:
        torch.testing.assert_close(backbone.rear(backbone.front(level)), backbones[0].whole(level))
    assert [backbone.layers for backbone in backbones[2:4]] == [("features",), ("features.0", "features.2")]


def test_offsets_move_what_lies_behind_them():
    with pytest.warns(UserWarning, match="RANDOM"):
        backbone = AOTGAN("random", [0, 2], sizes=SMALL)
    level = random_level()
    features = backbone.front(level)
    offset = torch.randn_like(features.z["features.2"])
    moved = backbone.rear(Features({**features.z, "features.2": offset}))
    x = backbone.sequence[:9](backbone.enter(level)) + offset
    torch.testing.assert_close(moved, (backbone.sequence[9:](x) + 1) / 2)


@pytest.mark.parametrize("cut", [4, -1, [0, 0], [], "1", True])
def test_refuses_cuts_it_does_not_have(cut):
    with pytest.raises(ValueError, match="3 residual blocks"), pytest.warns(UserWarning):
        AOTGAN("random", cut, sizes=SMALL)


def test_says_what_weights_it_needs(tmp_path, small):
    with pytest.raises(UnusableWeights, match=r"backbone 'aot_gan' needs its weights"):
        load("backbone=aot_gan")
    save_file({"middle.0.fuse.1.weight": torch.zeros(4)}, tmp_path / "other.safetensors")
    with pytest.raises(UnusableWeights, match=r"lack 'encoder.1.weight'"):
        AOTGAN(tmp_path / "other.safetensors")
    save_file(small.network.state_dict(), tmp_path / "small.safetensors")
    with pytest.raises(ValueError, match="have 2 branches"):
        AOTGAN(tmp_path / "small.safetensors", rates=[1, 2, 4])


@pytest.mark.parity
@needs_shared
def test_the_fixture_is_what_it_says():
    config = json.loads((FOLDER / "aotgan_a.config.json").read_text())
    sizes = read_sizes(load_file(FOLDER / "aotgan_a.safetensors"))
    assert (sizes.width, sizes.blocks, list(sizes.rates)) == (
        config["base_channels"],
        config["block_num"],
        config["rates"],
    )
