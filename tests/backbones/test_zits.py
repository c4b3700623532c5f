"""ZITS: the published networks' numbers and keys, its structure at every level, and its files."""

import json
import pickle
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from refine.api import load
from refine.backbones.zits.adapter import ZITS
from refine.backbones.zits.maps import MapFiles, find_edges, resized
from refine.backbones.zits.networks import Networks, ZITSConfig, load as load_networks
from refine.backbones.zits.positions import CORNERS, GRID, masked_positions
from refine.backbones.zits.structure import StructureUpsampling
from refine.backbones.zits.transformer import Transformer, TransformerConfig, complete
from refine.core.pyramid import Pyramid, make_level
from refine.core.types import Features, Sample
from refine.weights.checkpoint import UnusableWeights

SHARED = Path(__file__).parents[3] / "shared"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="needs the reference vectors of the original code")
FOLDER, SHAPES = SHARED / "fixtures" / "zits", SHARED / "specs" / "shapes"
SMALL_TRANSFORMER = TransformerConfig(width=4, channels=8, layers=2, heads=2, grid=4)
SMALL = ZITSConfig(4, 2, 1, 4, SMALL_TRANSFORMER)
NAMES = {"generator": "InpaintingModel_best_gen", "upsampler": "StructureUpsampling", "transformer": "best_transformer_places2"}


def small(cut=0, **arguments):
    with pytest.warns(UserWarning, match="backbone 'zits' has RANDOM weights"):
        return ZITS("random", cut, sizes=SMALL, **arguments)


def scene(height=56, width=72, batch=1):
    image = torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(batch, 1, height, width)
    for b in range(batch):
        mask[b, :, 10 : 30 + 5 * b, 20:50] = 1
    return image, mask


def level_with_conditions(backbone, image, mask, key=""):
    level = make_level(image, mask, backbone.multiple_of, backbone.minimum_side)
    (conditions,) = backbone.conditions(Sample(key, image, mask), [level])
    return level.__class__(level.image, level.mask, level.size, conditions)


def relative(a, b):
    return ((a - b).abs().max() / b.abs().max()).item()


@pytest.fixture
def original(tmp_path):
    """The networks of the reference vectors, in the official layout."""
    shutil.copy(FOLDER / "zits_a.safetensors", tmp_path / f"{NAMES['generator']}.safetensors")
    shutil.copy(FOLDER / "zits_upsampler_a.safetensors", tmp_path / f"{NAMES['upsampler']}.safetensors")
    return tmp_path


@pytest.mark.parity
@needs_shared
@pytest.mark.parametrize("fold", [False, True])
@pytest.mark.parametrize("case", [0, 1])
def test_says_what_the_original_says(case, fold, original):
    vectors = np.load(FOLDER / "zits_a.npz")
    given = {name.removesuffix(f"_{case}"): torch.from_numpy(vectors[name]) for name in vectors if name.endswith(f"_{case}")}
    backbone = ZITS(original, structure="given", fold=fold)
    assert (backbone.sizes.width, backbone.sizes.blocks, backbone.sizes.structure_blocks) == (8, 2, 1)
    conditions = {name: given[name] for name in ("edge", "line", "rel_pos", "direct")}
    level = make_level(given["image"], given["mask"], 8, 24)
    level = level.__class__(level.image, level.mask, level.size, conditions)
    assert relative(backbone.enter(level), given["z_middle_in"]) <= 1e-4
    backbone.cuts = (2,)
    assert relative(torch.cat(list(backbone.front(level).z.values()), 1), given["z_middle_out"]) <= 1e-4
    backbone.cuts = (0,)
    prediction = backbone(given["image"], given["mask"], conditions)
    assert relative(prediction, given["output"]) <= 1e-4
    composite = torch.where(given["mask"] > 0, prediction, given["image"])
    assert relative(composite, given["composite"]) <= 1e-4


@pytest.mark.parity
@needs_shared
def test_enlarges_as_the_original_does():
    upsampler = StructureUpsampling()
    upsampler.load_state_dict(load_file(FOLDER / "zits_upsampler_a.safetensors"))
    given = {name: torch.from_numpy(values) for name, values in np.load(FOLDER / "zits_upsampler_a.npz").items()}
    with torch.no_grad():
        y = upsampler(given["x"])
        assert relative(y, given["y"]) <= 1e-4
        assert relative(upsampler.doubled(given["x"]), given["y_sigmoid"]) <= 1e-4
        assert relative(upsampler.out(y), given["y2"]) <= 1e-4


@pytest.mark.parity
@needs_shared
def test_has_the_official_names_and_shapes():
    with torch.device("meta"):
        networks = Networks(ZITSConfig())
    files = {"generator": "generator", "str_encoder": "str_encoder", "upsampler": "structure_upsample", "transformer": "transformer"}
    for part, name in files.items():
        table = json.loads((SHAPES / f"zits_{name}_official_shapes.json").read_text())
        official = {key: tuple(shape) for key, (shape, _) in table.items() if not key.endswith(".attn.mask")}
        own = {key: tuple(value.shape) for key, value in networks.get_submodule(part).state_dict().items()}
        assert own == official
