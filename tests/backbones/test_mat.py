"""MAT: the published network's numbers, its keys, what is random in it, and where it can be cut."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from refine.api import load
from refine.autograd import selective
from refine.backbones.mat.adapter import MAT
from refine.backbones.mat.conditions import drawn, shapes
from refine.backbones.mat.generator import Generator
from refine.backbones.mat.layers import ModulatedConv
from refine.backbones.mat.sizes import MATConfig, read_sizes
from refine.config import compose
from refine.core.pyramid import Pyramid, make_level
from refine.core.types import Features, Level, Sample
from refine.weights.checkpoint import UnusableWeights

SHARED = Path(__file__).parents[3] / "shared"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="needs the reference vectors of the original code")
FOLDER = SHARED / "fixtures" / "mat"
SMALL = MATConfig(channels=(6, 5, 4), dim=8, depths=(2, 1, 1, 1, 1), grid=32, heads=2, latent=6)
CUTS = ("tokens", "stage1", "fea16", "skip32", "skip64", "dec16", "dec32")


def small(cut="fea16", **arguments):
    with pytest.warns(UserWarning, match="backbone 'mat' has RANDOM weights"):
        return MAT("random", cut, sizes=SMALL, **arguments)


def random_level(height=64, width=64, **conditions):
    image = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))
    return replace(make_level(image, (image[:, :1] > 0.7).float(), 64, 64), conditions=conditions)


def relative(a, b):
    return ((a - b).abs().max() / b.std()).item()


@pytest.mark.parity
@needs_shared
@pytest.mark.parametrize("case", [0, 1])
def test_says_what_the_original_says(case):
    arrays = np.load(FOLDER / "mat_a.npz")
    given = {name.removesuffix(f"_{case}"): torch.from_numpy(arrays[name]).float() for name in arrays
             if name.endswith(f"_{case}") and not name.startswith("noise")}  # fmt: skip
    with pytest.warns(UserWarning, match="non-commercial"):
        backbone = load("backbone=mat", f"backbone.weights={FOLDER / 'mat_a.safetensors'}").backbone
    assert relative(backbone.network.mapping(given["z"], 1.0), given["w"]) <= 1e-5
    noise = {f"noise_{i}": torch.from_numpy(arrays[f"noise_1_{i}"]).float() for i in range(7 * case)}
    random = {"z": given["z"], "dropout_1": given["drop1"], "dropout_2": given["drop2"], **noise}
    known, image = given["known_mask"], given["image"]
    level = Level((image + 1) / 2, 1 - known, image.shape[2:], random)
    backbone.cuts, backbone.layers = ("stage1", "fea16"), ("stage1", "fea16")
    features = backbone.front(level)
    if case == 0:  # stored rounded to half precision
        stage1 = features.z["stage1"] * (1 - known) + image * known
        assert (stage1 - given["stage1"]).abs().max() <= 2**-11 * given["stage1"].abs().max()
    backbone.cuts = backbone.layers = ("fea16",)
    gs = backbone.network.synthesis.to_style(backbone.front(level).z["fea16"])
    assert relative(gs, given["gs"]) <= 1e-5
    prediction = 2 * backbone.rear(backbone.front(level)) - 1
    assert relative(prediction * (1 - known) + image * known, given["output"]) <= 1e-4


@pytest.mark.parity
@needs_shared
@pytest.mark.parametrize("resolution", [256, 512])
def test_has_the_official_names_and_shapes(resolution):
    table = json.loads((SHARED / "specs" / "shapes" / f"mat{resolution}_official_shapes.json").read_text())
    with torch.device("meta"):
        sizes = read_sizes({name: torch.empty(shape) for name, (shape, _) in table.items()})
        own = Generator(sizes).state_dict()
    assert sizes == MATConfig() if resolution == 512 else sizes.resolutions[-1] == 256
    official = {name: tuple(shape) for name, (shape, _) in table.items() if not name.endswith(".attn_mask")}
    assert {name: tuple(value.shape) for name, value in own.items()} == official


def test_a_modulated_convolution_is_one_with_weights_of_each_image():
    torch.manual_seed(0)
    conv, x, style = ModulatedConv(3, 4, 5), torch.randn(2, 3, 6, 7), torch.randn(2, 5)
    for b in range(2):
        weight = conv.weight[0] / 27**0.5 * conv.affine(style[b])[:, None, None]
        weight = weight * (weight.square().sum((1, 2, 3), keepdim=True) + 1e-8).rsqrt()
        expected = torch.nn.functional.conv2d(x[b : b + 1], weight, padding=1)
        torch.testing.assert_close(conv(x, style)[b : b + 1], expected, atol=1e-5, rtol=1e-4)


def test_every_cut_gives_the_same_prediction():
    level = random_level(64, 128)
    whole = small().whole(level)
    for cut in (*CUTS, ["stage1", "skip32", "dec16"], list(CUTS)):
        backbone = small(cut)
        features = backbone.front(level)
        assert torch.equal(backbone.rear(features), whole)
        assert tuple(features.z) == backbone.layers
    assert small(["dec32", "skip32"]).layers == ("skip32", "dec32", "rgb32")
    assert [name for name, _ in small(["fea16", "skip32"]).cuts_available()] == [*CUTS, "[fea16,skip32]"]


def test_offsets_add_where_the_network_has_arrived():
    one, two = small("dec16"), small(["tokens", "dec16"])
    level = random_level()
    features, offset = two.front(level), torch.randn(1, 3, 16, 16)
    moved = two.rear(Features({**features.z, "rgb16": offset}, features.context))
    plain = one.front(level)
    expected = one.rear(Features({**plain.z, "rgb16": plain.z["rgb16"] + offset}, plain.context))
    torch.testing.assert_close(moved, expected)


@pytest.mark.parametrize("cut", ["dec64", "fea32", [], ["fea16", "fea16"], 3])
def test_refuses_cuts_it_does_not_have(cut):
    with pytest.raises(ValueError, match=r"one of tokens, stage1, fea16, skip32, skip64, dec16, dec32"):
        small(cut)


def test_rules_and_checkpoints_give_the_same_gradient():
    backbone = small(["tokens", "skip64", "dec16"])
    features = backbone.front(random_level())
    gradients = []
    for rules, blocks in [(False, None), (True, None), (True, backbone.blocks)]:
        z = {name: tensor.detach().clone().requires_grad_() for name, tensor in features.z.items()}
        selective.run(backbone.rear, replace(features, z=z), rules=rules, blocks=blocks).square().sum().backward()
        gradients.append({name: tensor.grad for name, tensor in z.items()})
    for name, gradient in gradients[0].items():
        assert gradient.any()
        assert torch.equal(gradient, gradients[1][name])
        assert torch.equal(gradient, gradients[2][name])


def pyramid(height, width):
    image = torch.rand(1, 3, height, width)
    return image, Pyramid(64)(image, torch.zeros(1, 1, height, width), 64, 64)


def test_one_draw_per_image_lies_at_the_same_place_at_every_level():
    image, levels = pyramid(200, 264)  # padded to 256 x 320; half of it to 128 x 192
    backbone = small()
    coarse, middle, fine = backbone.conditions(Sample("a", image, image[:, :1]), levels)
    assert torch.equal(coarse["z"], fine["z"])
    assert not torch.equal(coarse["z"], backbone.conditions(Sample("b", image, image[:, :1]), levels)[0]["z"])
    for name, side in [("dropout_1", 8), ("dropout_2", 4)]:
        maps = []
        for level, own in zip(levels, (coarse, middle, fine), strict=True):
            height, width = level.image.shape[-2:]
            shape = shapes(SMALL, height, width)[name]
            assert own[name].shape == (1, *shape)
            assert set(own[name].unique().tolist()) == {0, 1}
            kept = own[name].mT if name == "dropout_1" else own[name].flatten(2)
            maps.append(kept.view(1, -1, height // side, width // side))
        rows, columns = 200 // side, 264 // side  # that lie within the image
        enlarged = maps[1].repeat_interleave(2, 2).repeat_interleave(2, 3)
        assert torch.equal(maps[2][..., :rows, :columns], enlarged[..., :rows, :columns])
        assert 0.3 < maps[0].mean() < 0.7


def test_noise_is_the_stored_one_at_the_training_resolution_alone():
    image, levels = pyramid(128, 128)
    backbone = small()
    coarse, fine = backbone.conditions(Sample("a", image, image[:, :1]), levels)
    assert torch.equal(coarse["noise_1"][0, 0], backbone.network.synthesis.dec.Dec_32x32.conv0.noise_const)
    assert fine["noise_1"].shape == (1, 1, 64, 64)
    again = drawn(SMALL, 0, "a", levels, backbone.network.stored_noise)[1]["noise_1"]
    other = drawn(SMALL, 1, "a", levels, backbone.network.stored_noise)[1]["noise_1"]
    assert torch.equal(fine["noise_1"], again)
    assert not torch.equal(fine["noise_1"], other)


def test_conditions_of_the_caller_win():
    backbone = small()
    with torch.no_grad():
        backbone.network.synthesis.dec.Dec_64x64.conv1.noise_strength.fill_(1.0)
    plain = backbone(random_level().image, random_level().mask)
    for name, shape in shapes(SMALL, 64, 64).items():
        level = random_level(**{name: torch.full((1, *shape), 0.25)})
        prediction = backbone(level.image, level.mask, level.conditions)
        alters = name not in ("noise_0", "noise_1", "noise_2", "noise_3")  # of strength 0 in random weights
        assert torch.equal(prediction, plain) != alters
    wrong = random_level(z=torch.zeros(1, 7))
    with pytest.raises(ValueError, match=r"'z' of shape \(1, 7\); at 64x64 px it takes z \(1, 6\), dropout_1"):
        backbone.front(wrong)
    with pytest.raises(ValueError, match="a condition 'noise'"):
        backbone.front(random_level(noise=torch.zeros(1, 1, 64, 64)))


@pytest.mark.parametrize("name", ["mat", "mat_256"])
def test_the_card_counts_parameters_rightly_and_says_what_they_are_for(name):
    section = compose("backbones", [f"backbone={name}"]).backbone
    sizes = MATConfig(tuple(section.sizes.channels))
    with torch.device("meta"):
        network = Generator(sizes)
    assert f"{sum(p.numel() for p in network.parameters()) / 1e6:.1f} M" == section.card.parameters
    assert sizes.resolutions[-1] == section.native_size
    assert "non-commercial" in section.card.license


def test_truncation_moves_towards_the_mean():
    network = small().network
    with torch.no_grad():
        network.mapping.w_avg.fill_(3.0)
    z = torch.randn(1, 6)
    assert torch.equal(network.mapping(z, 0.0), torch.full((1, 6), 3.0))
    torch.testing.assert_close(network.mapping(z, 0.5), (network.mapping(z, 1.0) + 3) / 2)


def test_refuses_levels_that_leave_windows_partly_empty():
    image = torch.zeros(1, 3, 64, 96)
    with pytest.raises(ValueError, match="a level of 96x64 px does not fit backbone 'mat'"):
        small().front(Level(image, image[:, :1], (64, 96)))


@pytest.mark.parametrize("precision", ["bf16", "16"])
def test_runs_in_half_precision(precision):
    refiner = load("backbone=mat", *TINY, f"refiner.precision={precision}", "refiner.steps=1", "backbone.cut=tokens")
    image = torch.rand(1, 3, 64, 64)
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., 16:48, 16:48] = 1
    assert refiner(image, mask).image.isfinite().all()


SIZES = "{channels: [8, 6], dim: 12, depths: [2, 2, 1, 1, 2], grid: 16, heads: 2, latent: 8}"
TINY = ("backbone.weights=random", "backbone.native_size=32", "pyramid.smallest_side=32", f"backbone.sizes={SIZES}")


def test_says_what_weights_it_needs(tmp_path):
    with pytest.raises(UnusableWeights, match=r"backbone 'mat' needs its weights.*the official .pkl"):
        load("backbone=mat_256", "backbone.name=mat")
    save_file({"generator.conv.weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(UnusableWeights, match="holds other weights than these"):
        MAT(tmp_path / "other.safetensors")


def test_takes_the_averaged_generator_of_a_training_snapshot(tmp_path):
    own = small()
    state = {f"G_ema.{name}": value.clone() for name, value in own.network.state_dict().items()}
    raw = {f"G.{name.removeprefix('G_ema.')}": torch.zeros_like(value) for name, value in state.items()}
    masks = {
        f"{name}.synthesis.first_stage.tran.0.blocks.1.attn_mask": torch.zeros(4, 16, 16) for name in ("G", "G_ema")
    }
    save_file({**raw, **state, **masks}, tmp_path / "snapshot.safetensors")
    with pytest.warns(UserWarning, match="non-commercial"):
        backbone = MAT(tmp_path / "snapshot.safetensors")
    assert backbone.sizes == replace(SMALL, heads=6)  # which the weights do not tell
    assert backbone.weights_hash == own.weights_hash


@pytest.mark.parametrize(
    ("without", "says"),
    [
        ("mapping.fc0.weight", r"the weights lack 'mapping.fc0.weight'"),
        ("synthesis.enc.", r"encoder blocks of \[\] px"),
        ("synthesis.first_stage.tran.3.", r"\(2, 1, 1, 0, 1\) blocks"),
        ("synthesis.dec.Dec_32x32.toRGB", r"6 missing: synthesis.dec.Dec_32x32.toRGB"),
    ],
)
def test_half_a_set_of_weights_is_told(tmp_path, without, says):
    state = {name: value.clone() for name, value in small().network.state_dict().items()}
    save_file({k: v for k, v in state.items() if not k.startswith(without)}, tmp_path / "half.safetensors")
    with pytest.raises(UnusableWeights, match=says):
        MAT(tmp_path / "half.safetensors")


@pytest.mark.parity
@needs_shared
def test_the_fixture_is_what_it_says():
    config = json.loads((FOLDER / "mat_a.config.json").read_text())
    sizes = read_sizes(load_file(FOLDER / "mat_a.safetensors"))
    assert sizes.channels == tuple(config["nf"][str(r)] for r in sizes.resolutions)
    assert (sizes.dim, sizes.latent, sizes.resolutions[-1]) == (
        config["dim"],
        config["w_dim"],
        config["img_resolution"],
    )
