"""Latent diffusion: the original's numbers, its keys and files, its noise, and where it can be cut."""

import ast
import functools
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import refine
from refine.autograd.precision import run_in
from refine.autograd.selective import run
from refine.backbones.conformance.checks import example
from refine.backbones.ldm.adapter import LDM
from refine.backbones.ldm.names import converted, read_sizes, unet_name, vq_name
from refine.backbones.ldm.networks import LDMConfig, build, library, schedule
from refine.backbones.ldm.noise import shared_noise
from refine.config import compose
from refine.core.pyramid import Pyramid, make_level
from refine.core.randomness import seeded_by
from refine.core.types import Features, Sample
from refine.weights.checkpoint import UnusableWeights

SHARED = Path(__file__).parents[3] / "shared"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="needs the reference vectors of the original code")
FOLDER = SHARED / "fixtures" / "ldm"
SMALL = LDMConfig((8, 16), 1, (8, 16, 16), 1, 64, 4)  # (channels, layers) of the U-Net and of VQ, codes, groups
PLACES = ("denoise", "decode", "up_0", "up_1", "up_2")


@functools.cache
def small(cut="decode", **arguments):
    settings = {"steps": 3, "last_steps": 2, "heads": 2, "sizes": SMALL, **arguments}
    with pytest.warns(UserWarning, match="backbone 'ldm' has RANDOM weights"):
        return LDM("random", cut if isinstance(cut, str) else list(cut), **settings)


@pytest.fixture(scope="session")
def vectors():
    return {name: torch.from_numpy(value) for name, value in np.load(FOLDER / "ldm_a.npz").items()}


@pytest.fixture(scope="session")
def original(tmp_path_factory):
    """The reduced original's weights in one file, as the official ones are."""
    file = tmp_path_factory.mktemp("ldm") / "last.safetensors"
    save_file(load_file(FOLDER / "ldm_a.unet.safetensors") | load_file(FOLDER / "ldm_a.vq.safetensors"), file)
    return file


def relative(got, expected):
    assert got.shape == expected.shape
    return ((got - expected).abs().max() / expected.abs().max()).item()


@pytest.mark.parity
@needs_shared
@pytest.mark.parametrize("cut", ["denoise", "decode", "up_1"])
def test_says_what_the_original_says(cut, vectors, original):
    backbone = LDM(original, cut, steps=5, last_steps=2, heads=4)
    conditions = {"noise": vectors["x_T"]}
    level = make_level(vectors["image"], vectors["mask"], backbone.multiple_of, backbone.minimum_side)
    given = backbone._given(replace(level, conditions=conditions))
    assert relative(given["condition"], vectors["cond"]) <= 1e-4
    eps = backbone.network.unet(torch.cat([vectors["x_T"], vectors["cond"]], 1), 481).sample
    assert relative(eps, vectors["eps_t481"]) <= 1e-5
    z = backbone._denoised(backbone._denoised(vectors["x_T"], given, last=False), given, last=True)
    assert relative(z, vectors["z"]) <= 1e-5
    assert relative(backbone.network.quantized(z), vectors["z_quantised"]) <= 1e-5
    prediction = backbone(vectors["image"], vectors["mask"], conditions)
    assert relative(2 * prediction - 1, vectors["decoded"]) <= 1e-4


@pytest.mark.parity
@needs_shared
def test_decodes_what_is_no_code_as_the_original(vectors, original):
    prediction = LDM(original, heads=4).rear(Features({"decode": vectors["z"]}, {}))
    assert relative(2 * prediction - 1, vectors["decoded_no_quant"]) <= 1e-4


@pytest.mark.parity
@needs_shared
def test_has_the_official_names_and_shapes():
    with torch.device("meta"):
        unet, vq = (
            {name: torch.empty(shape) for name, (shape, _) in json.loads(file.read_text()).items()}
            for file in (SHARED / "specs" / "shapes" / f"ldm_{part}_official_shapes.json" for part in ("unet", "vq"))
        )
        sizes = read_sizes(unet, vq)
        networks = build(sizes, 8)
    assert sizes == LDMConfig()
    parameters = sum(parameter.numel() for parameter in networks.parameters())
    assert f"{parameters / 1e6:.1f} M" == compose("backbones", ["backbone=ldm"]).backbone.card.parameters
    for network, state, names in ((networks.unet, unet, unet_name), (networks.vq, vq, vq_name)):
        own = network.state_dict()
        found = converted(state, own, functools.partial(names, sizes=sizes), 8)
        assert {name: value.shape for name, value in found.items()} == {n: value.shape for n, value in own.items()}


def official_state(backbone):
    """The tensors of a network under official names; of those of attention, query, key and value by heads."""
    state = {}
    for network, names, prefix in (
        (backbone.network.unet, unet_name, "model.diffusion_model."),
        (backbone.network.vq, vq_name, "first_stage_model."),
    ):
        own = network.state_dict()
        for name, value in own.items():
            if ".to_k." in name or ".to_v." in name:
                continue
            if ".to_q." in name:
                parts = [own[name.replace("to_q", part)].unflatten(0, (2, -1)) for part in ("to_q", "to_k", "to_v")]
                value = torch.stack(parts, dim=1).flatten(0, 2)
            state[prefix + names(name, SMALL)] = value[..., None] if ".to_" in name and value.ndim == 2 else value
    return state


def saved(state, path, **more):
    torch.save({"epoch": 1, "state_dict": state, "callbacks": {}, **more}, path)
    return path


def load(path):
    return LDM(path, steps=3, heads=2)


def test_averaged_weights_are_taken(tmp_path):
    averaged = small()
    state = official_state(averaged)
    average = {
        "model_ema.diffusion_model" + name.removeprefix("model.diffusion_model.").replace(".", ""): value
        for name, value in state.items()
        if name.startswith("model.")
    }
    noisy = {name: value + 1 if name.startswith("model.") else value for name, value in state.items()}
    decoys = {
        "model_ema.decay": torch.tensor(0.9),
        "cond_stage_model.quant_conv.bias": torch.zeros(3),
        "betas": torch.ones(9),
    }
    with pytest.MonkeyPatch.context() as patch:  # of widths that 32 groups do not divide
        patch.setattr("refine.backbones.ldm.names.LDMConfig", functools.partial(LDMConfig, groups=4))
        got = load(saved({**noisy, **average, **decoys}, tmp_path / "last.ckpt"))
        plain = load(saved(state, tmp_path / "plain.ckpt"))
    assert got.sizes == SMALL
    assert got.weights_hash == plain.weights_hash == averaged.weights_hash


def folder_of(backbone, path, autoencoder="vqvae"):
    backbone.network.unet.save_pretrained(path / "unet")
    backbone.network.vq.save_pretrained(path / autoencoder)
    return path


@pytest.mark.parametrize("autoencoder", ["vqvae", "vae"])
def test_reads_a_folder_of_diffusers(tmp_path, autoencoder):
    got = load(folder_of(small(), tmp_path, autoencoder))
    assert got.weights_hash == small().weights_hash and got.sizes == SMALL
    level = example(got)
    assert torch.equal(got.rear(got.front(level)), small().rear(small().front(level)))


def test_refuses_half_a_folder_and_other_networks(tmp_path):
    folder_of(small(), tmp_path)
    config = tmp_path / "unet" / "config.json"
    text = config.read_text()
    for wrong, message in [
        ("{", "does not describe a UNet2DModel"),
        ('{"_class_name": "UNet"}', "_class_name is 'UNet'"),
    ]:
        config.write_text(wrong)
        with pytest.raises(UnusableWeights, match=message):
            load(tmp_path)
    config.write_text(text.replace('"in_channels": 7', '"in_channels": 9'))
    with pytest.raises(UnusableWeights, match=r"conv_in\.weight"):
        load(tmp_path)
    config.write_text(text)
    (tmp_path / "vqvae" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(UnusableWeights, match="vqvae lacks diffusion_pytorch_model"):
        load(tmp_path)


def test_refuses_half_a_checkpoint(tmp_path):
    state = official_state(small())
    for prefix in ("model.", "first_stage_model."):
        half = {name: value for name, value in state.items() if not name.startswith(prefix)}
        with pytest.raises(UnusableWeights, match=rf"has no tensors named {prefix}.*Expected last.ckpt"):
            load(saved(half, tmp_path / "half.ckpt"))
    path = saved(state, tmp_path / "last.ckpt")
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(UnusableWeights, match="truncated or damaged"):
        load(path)
    few = {name: value for name, value in state.items() if "input_blocks.1.0" not in name}
    with pytest.raises(UnusableWeights, match="no weights of latent diffusion"):
        load(saved(few, tmp_path / "few.ckpt"))
    with pytest.raises(UnusableWeights, match="backbone 'ldm' needs its weights"):
        LDM(None)


class Evil:
    """A pickle that makes a folder when it is read by pickle."""

    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return os.mkdir, (str(self.canary),)


def test_code_in_a_file_is_not_run(tmp_path):
    canary = tmp_path / "canary"
    with pytest.raises(UnusableWeights, match="has no tensors named"):
        load(saved({"model.x": torch.ones(1)}, tmp_path / "last.ckpt", evil=Evil(canary)))
    folder = folder_of(small(), tmp_path)
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    saved({"conv_in.weight": torch.ones(1)}, folder / "unet" / "diffusion_pytorch_model.bin", evil=Evil(canary))
    with pytest.raises(UnusableWeights, match="missing"):
        load(folder)
    assert not canary.exists()


def test_without_the_library_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'refine-inpainting\[diffusion\]'"):
        library()


def test_the_library_is_imported_when_needed():
    """It takes seconds, which ``refine --help`` and other backbones do not have."""
    files = [file for file in Path(refine.__file__).parent.rglob("*.py") if "import diffusers" in file.read_text()]
    assert [file.name for file in files] == ["networks.py"]
    top = [node for node in ast.parse(files[0].read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert "diffusers" not in "".join(map(ast.unparse, top))


# --- noise ------------------------------------------------------------------------------------------------------------


def levels_of(height, width, factor=2.0, backbone=None, smallest=32):
    image = torch.zeros(1, 3, height, width)
    return Pyramid(smallest, factor=factor)(image, image[:, :1], backbone.multiple_of if backbone else 32)


@pytest.mark.parametrize(("size", "factor"), [((256, 256), 2.0), ((250, 333), 2.0), ((256, 200), 1.5)])
def test_noise_is_white_at_every_level(size, factor):
    levels = levels_of(*size, factor)
    for noise, level in zip(shared_noise(levels, 4, (500, 3), seeded_by(0, "a")), levels, strict=True):
        assert noise.shape[2:] == tuple(side // 4 for side in level.image.shape[2:])
        samples = noise.flatten(1)[:, : 24 * 24]
        number = len(samples) ** 0.5
        assert (samples.mean(0).abs() < 5 / number).all() and ((samples.var(0) - 1).abs() < 8 / number).all()
        for neighbor in (noise[..., 1:, :] * noise[..., :-1, :], noise[..., 1:] * noise[..., :-1]):
            assert abs(neighbor.mean()) < 5 / neighbor.numel() ** 0.5


def test_a_coarse_level_has_the_block_means_of_the_fine_one():
    coarse, middle, fine = shared_noise(levels_of(128, 256), 4, (3,), seeded_by(0, "a"))
    for small_one, large in ((coarse, middle), (middle, fine)):
        blocks = large.unflatten(-1, (-1, 2)).unflatten(-3, (-1, 2)).mean((-1, -3))
        torch.testing.assert_close(small_one, 2 * blocks)


def test_padding_moves_nothing():
    """264 is padded to 288 and 132 to 160 px: other shares of the image, the same places in it."""
    coarse, fine = shared_noise(levels_of(264, 264, smallest=128), 4, (3,), seeded_by(0, "a"))
    blocks = fine[:, :72, :72].unflatten(-1, (-1, 2)).unflatten(-3, (-1, 2)).mean((-1, -3))
    assert coarse.shape[-1] == 40 and fine.shape[-1] == 72
    torch.testing.assert_close(coarse[:, :36, :36], 2 * blocks)


def test_noise_is_that_of_the_sample():
    backbone = small(eta=0.5)
    image = torch.rand(2, 3, 40, 56)
    levels = [make_level(image, image[:, :1], 8, 8)]

    def noise(key, backbone=backbone):
        return backbone.conditions(Sample(key, image, image[:, :1]), levels)[0]

    first, again, other = noise("a"), noise("a"), noise("b")
    assert first["noise"].shape == (2, 3, 10, 14) and first["step_noise"].shape == (2, 3, 3, 10, 14)
    assert all(torch.equal(first[name], again[name]) and not torch.equal(first[name], other[name]) for name in first)
    assert torch.equal(first["noise"][0], first["noise"][1])
    assert torch.equal(first["noise"], noise("a", small())["noise"]) and set(noise("a", small())) == {"noise"}
    assert not torch.equal(first["noise"], noise("a", small(seed=1))["noise"])
    half = [replace(levels[0], image=levels[0].image.double())]
    assert backbone.conditions(Sample("a", image, image), half)[0]["noise"].dtype == torch.float64


def test_noise_of_the_caller_wins():
    backbone, image = small(eta=0.5), torch.rand(1, 3, 32, 40)
    mask = (image[:, :1] > 0.5).float()
    noise, steps = torch.randn(1, 3, 8, 10), torch.randn(1, 3, 3, 8, 10)
    first = backbone(image, mask, {"noise": noise, "step_noise": steps})
    assert torch.equal(first, backbone(image, mask, {"noise": noise, "step_noise": steps}))
    assert not torch.equal(first, backbone(image, mask, {"noise": -noise, "step_noise": steps}))
    assert not torch.equal(first, backbone(image, mask, {"noise": noise, "step_noise": -steps}))
    with pytest.raises(ValueError, match=r"condition 'noise' of shape \(1, 3, 8, 10\) .* got \(1, 3, 10, 8\)"):
        backbone(image, mask, {"noise": noise.mT, "step_noise": steps})
    with pytest.raises(ValueError, match=r"'step_noise' .* got nothing"):
        backbone(image, mask, {"noise": noise})


# --- cuts -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [*PLACES, ("denoise", "decode"), ("up_2", "denoise", "up_0")])
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_every_cut_gives_the_same_prediction(cut, eta):
    backbone = small(cut, eta=eta)
    level = example(backbone, batch=2)
    features = backbone.front(level)
    assert tuple(features.z) == backbone.layers
    prediction = backbone.rear(features)
    assert torch.equal(prediction, small(eta=eta)(level.image, level.mask, level.conditions))
    torch.testing.assert_close(prediction, backbone.whole(level))  # diffusers adds the code as a difference


def test_offsets_add_before_their_place():
    one, two = small("up_1"), small(("denoise", "up_1"))
    level = example(one)
    features, plain = two.front(level), one.front(level)
    offset = torch.randn(plain.z["up_1"].shape)
    moved = two.rear(Features({**features.z, "up_1": offset}, features.context))
    torch.testing.assert_close(moved, one.rear(Features({"up_1": plain.z["up_1"] + offset}, plain.context)))


def test_the_places_are_listed():
    assert [name for name, _ in small().cuts_available()] == list(PLACES)
    assert [name for name, _ in small(("decode", "denoise")).cuts_available()][-1] == "[denoise,decode]"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        *(({"cut": cut}, "expected one of denoise, decode, up_0") for cut in ("up_3", 0, (), ("decode", "decode"))),
        ({"steps": 0}, r"backbone\.steps must be in 1 \.\.\. 999; got 0"),
        ({"last_steps": 4}, r"backbone\.last_steps must be in 1 \.\.\. backbone\.steps=3; got 4"),
        ({"heads": 3}, r"backbone\.heads=3 must divide .* \[8, 16\]"),
        ({"eta": 1.5}, r"backbone\.eta must be in \[0, 1\]"),
    ],
)
def test_refuses_what_makes_no_sense(arguments, message):
    with pytest.raises(ValueError, match=message):
        LDM("random", **{"steps": 3, "heads": 2, "sizes": SMALL, **arguments})


def test_the_lookup_is_exact_and_its_gradient_passes_straight():
    network = small().network
    z = 3 * torch.randn(2, 3, 50, 70)
    z.requires_grad_()
    found = network.quantized(z)
    pixels, codes = (x.detach().movedim(1, -1).reshape(-1, 3) for x in (z, found))
    book = network.vq.quantize.embedding.weight
    assert torch.equal(codes, book[torch.cdist(pixels, book).argmin(1)])
    weights = torch.randn_like(z)
    assert torch.equal(torch.autograd.grad((found * weights).sum(), z)[0], weights)


@pytest.mark.parametrize("cut", ["denoise", "decode"])
def test_the_rules_give_autograds_gradients_through_the_unet_too(cut):
    backbone = small(cut)
    features = backbone.front(example(backbone))
    z = features.z[cut].requires_grad_()
    arms = [{"rules": False}, {}, {"blocks": backbone.blocks}, {"blocks": backbone.blocks, "rules": False}]
    gradients = [torch.autograd.grad(run(backbone.rear, features, **how).square().sum(), z)[0] for how in arms]
    assert gradients[0].any() and all(torch.equal(gradients[0], gradient) for gradient in gradients[1:])


def test_latents_stay_wide_in_half_precision():
    backbone = small("denoise", last_steps=1)
    level = example(backbone)
    with run_in("bf16", torch.device("cpu")):
        features = backbone.front(level)
        prediction = backbone.rear(features)
    assert {x.dtype for x in (*features.z.values(), *features.context.values())} == {torch.float32}
    assert prediction.dtype == torch.bfloat16
    assert relative(features.z["denoise"], backbone.front(level).z["denoise"]) < 0.02


@pytest.mark.parametrize("cut", ["denoise", "decode", "up_1"])
def test_refinement_lowers_the_loss(cut):
    settings = ["backbone=ldm", "backbone.weights=random", "backbone.steps=3", "backbone.heads=2", "device=cpu"]
    settings += ["objective.narrowest=null", "backbone.native_size=32", "refiner.steps=4"]
    sizes = [
        f"backbone.sizes.{name}={list(value) if isinstance(value, tuple) else value}"
        for name, value in vars(SMALL).items()
    ]
    refiner = refine.load(*settings, *sizes, f"backbone.cut={cut}")
    image, mask = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)), torch.zeros(1, 1, 64, 64)
    mask[..., 16:48, 16:48] = 1
    result = refiner(image, mask, key="a")
    losses = result.levels[-1].losses.flatten()
    assert len(losses) == 5 and losses.min() < losses[0]
    assert torch.equal(result.image, refiner(image, mask, key="a").image)
    assert not torch.equal(result.image, refiner(image, mask, key="b").image)


@pytest.mark.parametrize("steps", [1, 3, 7, 50, 600, 999])
def test_the_schedule_has_noise_levels_for_every_number_of_steps(steps):
    scheduler = schedule(steps)
    first, last = (int(t) for t in scheduler.timesteps[[0, -1]])
    assert len(scheduler.timesteps) == steps and last == 1 and first < len(scheduler.alphas_cumprod)


def test_what_changes_the_prediction_changes_the_fingerprint():
    changes = ({}, {"seed": 1}, {"eta": 0.5}, {"steps": 4}, {"last_steps": 1}, {"heads": 1}, {"cut": "denoise"})
    prints = [json.dumps(small(**change).fingerprint()) for change in changes]
    assert len(set(prints)) == len(changes)
