"""ZITS: the published networks' numbers and keys, its structure at every level, and its files."""

import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from refine.analysis.cuts import survey
from refine.api import load
from refine.backbones.zits.adapter import ZITS
from refine.backbones.zits.maps import MapFiles, find_edges
from refine.backbones.zits.networks import Networks, ZITSConfig
from refine.backbones.zits.positions import CORNERS, GRID, masked_positions
from refine.backbones.zits.structure import StructureUpsampling
from refine.backbones.zits.transformer import Transformer, TransformerConfig, complete
from refine.core.objective import MultiscaleL1
from refine.core.pyramid import Pyramid, make_level
from refine.core.refiner import Refiner
from refine.core.types import Features, Sample
from refine.weights.checkpoint import UnusableWeights

pytestmark = pytest.mark.filterwarnings("ignore:.*has no lines")
SHARED = Path(__file__).parents[3] / "shared"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="needs the reference vectors of the original code")
FOLDER, SHAPES = SHARED / "fixtures" / "zits", SHARED / "specs" / "shapes"
SMALL_TRANSFORMER = TransformerConfig(width=4, channels=8, layers=2, heads=2, grid=4)
SMALL = ZITSConfig(4, 2, 1, 4, SMALL_TRANSFORMER)
NAMES = {
    "generator": "InpaintingModel_best_gen",
    "upsampler": "StructureUpsampling",
    "transformer": "best_transformer_places2",
}


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
    return replace(level, conditions=conditions)


def relative(a, b):
    return ((a - b).abs().max() / b.std()).item()


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
    given = {
        name.removesuffix(f"_{case}"): torch.from_numpy(vectors[name]) for name in vectors if name.endswith(f"_{case}")
    }
    backbone = ZITS(original, structure="given", fold=fold)
    assert (backbone.sizes.width, backbone.sizes.blocks, backbone.sizes.structure_blocks) == (8, 2, 1)
    conditions = {name: given[name] for name in ("edge", "line", "rel_pos", "direct")}
    level = make_level(given["image"], given["mask"], 8, 24)
    level = replace(level, conditions=conditions)
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
    files = {
        "generator": "generator",
        "str_encoder": "str_encoder",
        "upsampler": "structure_upsample",
        "transformer": "transformer",
    }
    for part, name in files.items():
        table = json.loads((SHAPES / f"zits_{name}_official_shapes.json").read_text())
        official = {key: tuple(shape) for key, (shape, _) in table.items() if not key.endswith(".attn.mask")}
        own = {key: tuple(value.shape) for key, value in networks.get_submodule(part).state_dict().items()}
        assert own == official


def test_the_transformer_says_what_the_original_says():
    """The vectors are the public code's (commit 810eb50, narrower), its weights drawn in the order of their names."""
    vectors = np.load(Path(__file__).parents[1] / "golden" / "zits_transformer.npz")
    transformer = Transformer(TransformerConfig(8, 16, 4, 2, 8))
    draw, state = np.random.RandomState(0), {}
    for name, value in sorted(transformer.state_dict().items()):
        values = torch.from_numpy(draw.standard_normal(value.shape).astype(np.float32))
        state[name] = values * (1.5 / max(1, value[0].numel()) ** 0.5)
    transformer.load_state_dict({**state, "convt4.bias": torch.tensor([-1.8, 1.0])})
    image, edge, line = (torch.from_numpy(draw.rand(1, c, 64, 64).astype(np.float32)) for c in (3, 1, 1))
    edge, mask = (edge > 0.9).float(), torch.zeros(1, 1, 64, 64)
    mask[..., 16:40, 20:44] = 1
    with torch.no_grad():
        logits = transformer(2 * image - 1, edge, line, mask)
        edges, lines = complete(transformer, image, edge, line, mask)
    for own, name in zip(logits, ("edge_logits", "line_logits"), strict=True):
        assert relative(own, torch.from_numpy(vectors[name])) <= 1e-4
    assert torch.equal(edges, torch.from_numpy(vectors["edge"]).float())
    torch.testing.assert_close(lines, torch.from_numpy(vectors["line"]))
    unseen = torch.where(mask > 0, torch.rand(()), image)
    with torch.no_grad():
        assert torch.equal(complete(transformer, unseen, edge, line, mask)[1], lines)


def grown(mask):
    """Masked positions as upstream makes them, by growing the known pixels."""
    small = (cv2.resize(mask.astype(np.uint8) * 255, (GRID, GRID), interpolation=cv2.INTER_AREA) > 0).astype(float)
    known, depth, direct = 1 - small, np.zeros((GRID, GRID)), np.zeros((GRID, GRID, 4))
    while not known.all():
        for k, corner in enumerate(CORNERS):
            direct[(cv2.filter2D(known, -1, corner.astype(float)) > 0) & (known == 0), k] = 1
        wider = (cv2.filter2D(known, -1, np.ones((3, 3))) > 0).astype(float)
        depth[wider > known] = depth.max() + 1
        known = wider
    planes = np.dstack([depth.clip(max=127), direct]).astype(np.uint8)
    planes = cv2.resize(planes, mask.shape[::-1], interpolation=cv2.INTER_NEAREST) * mask[..., None]
    return planes[..., 0], planes[..., 1:]


@pytest.mark.parametrize("size", [(64, 64), (56, 72), (256, 256), (300, 500)])
def test_masked_positions_are_those_of_growing(size):
    mask = np.zeros(size, bool)
    mask[: size[0] // 2, size[1] // 3 :] = True  # at two borders
    cv2.circle(block := np.zeros(size, np.uint8), (size[1] // 5, size[0] * 3 // 4), 9, 1, -1)
    mask |= block > 0
    rel_pos, direct = masked_positions(torch.from_numpy(mask).float())
    expected_depth, expected_direct = grown(mask)
    assert np.array_equal(rel_pos.numpy(), expected_depth)
    assert np.array_equal(direct.numpy(), expected_direct)


def test_a_mask_without_known_pixels_is_deepest():
    rel_pos, direct = masked_positions(torch.ones(40, 30))
    assert rel_pos.dtype == torch.long
    assert (rel_pos == 127).all() and not direct.any()
    assert not masked_positions(torch.zeros(40, 30))[0].any()


def test_edges_are_scikit_images_and_see_nothing_of_the_hole():
    feature = pytest.importorskip("skimage.feature")
    y, x = np.mgrid[:256, :256] / 256
    gray = ((np.hypot(x - 0.4, y - 0.3) < 0.25) + (x + y > 1.2) * 0.5 + 0.2 * np.sin(20 * x * y)) / 2
    image = torch.from_numpy(np.clip(gray, 0, 1)).float().expand(1, 3, -1, -1)
    mask = torch.zeros(1, 1, 256, 256)
    mask[..., 80:140, 60:200] = 1
    edges = find_edges(image, mask)
    expected = feature.canny(image[0, 0].numpy(), sigma=3, mask=mask[0, 0].numpy() == 0)
    assert expected.sum() > 500
    assert (edges[0, 0].numpy() != expected).sum() <= 0.01 * expected.sum()
    assert torch.equal(find_edges(torch.where(mask > 0, 1 - image, image), mask), edges)
    assert not find_edges(image, torch.ones_like(mask)).any()


def test_levels_share_one_structure():
    backbone, (image, mask) = small(), scene(100, 76)
    levels = Pyramid(24)(image, mask, 8, 24)
    conditions = backbone.conditions(Sample("", image, mask), levels)
    assert [tuple(c["edge"].shape) for c in conditions] == [(1, 1, 32, 24), (1, 1, 56, 40), (1, 1, 104, 80)]
    for made, level in zip(conditions, levels, strict=True):
        assert all(
            tensor.shape[-2:] == level.image.shape[-2:] for tensor in (made["edge"], made["line"], made["rel_pos"])
        )
        assert made["direct"].shape == (*made["rel_pos"].shape, 4)
        assert 0 <= made["line"].min() and made["line"].max() <= 1
    drawn = torch.zeros(1, 1, 200, 152)  # finer than all of the levels
    drawn[..., 70:140, 60:80] = 1
    for level in levels:
        fitted = level.crop(backbone._fitted(drawn, level))
        assert abs(fitted.mean() - drawn.mean()) < 0.01
    hidden = torch.where(mask > 0, 1 - image, image)
    for seen, unseen in zip(conditions, backbone.conditions(Sample("", hidden, mask), levels), strict=True):
        assert all(torch.equal(seen[name], unseen[name]) for name in seen)


def test_a_batch_has_the_conditions_of_its_images():
    backbone, (image, mask) = small(), scene(batch=2)
    together = level_with_conditions(backbone, image, mask).conditions
    for b in range(2):
        alone = level_with_conditions(backbone, image[b : b + 1], mask[b : b + 1]).conditions
        for name, value in alone.items():
            torch.testing.assert_close(together[name][b : b + 1], value)


def test_the_callers_conditions_win():
    backbone, (image, mask) = small(), scene()
    own = level_with_conditions(backbone, image, mask)
    plain = backbone(image, mask)
    torch.testing.assert_close(backbone(image, mask, {name: own.conditions[name] for name in ("edge", "line")}), plain)
    assert not torch.allclose(backbone(image, mask, {**own.conditions, "line": mask}), plain)
    assert not torch.allclose(backbone(image, mask, {**own.conditions, "rel_pos": torch.zeros(1, 56, 72)}), plain)
    doubled = {"edge": torch.rand(1, 1, 112, 144), "line": torch.zeros(1, 1, 14, 18)}  # of any size
    assert backbone(image, mask, doubled).shape == image.shape
    with pytest.raises(ValueError, match=r"needs the conditions edge and line.*got line"):
        backbone(image, mask, {"line": mask})


def test_says_once_that_there_are_no_lines():
    backbone, (image, mask) = small(), scene()
    with pytest.warns(UserWarning, match="has no lines") as said:
        backbone(image, mask)
        backbone(image, mask)
    assert len(said) == 1


@pytest.mark.parametrize("structure", ["completed", "given"])
def test_takes_maps_from_files(tmp_path, structure):
    image, mask = scene()
    drawing = np.zeros((56, 72), np.uint8)
    drawing[:, 40] = 255
    (tmp_path / "maps" / "a.b").mkdir(parents=True)
    Image.fromarray(drawing).save(tmp_path / "maps" / "a.b" / "house.v2.png")
    given = {"structure": structure, "edges": tmp_path / "maps", "lines": tmp_path / "maps/a.b/house.v2.png"}
    backbone = small(**given)
    conditions = level_with_conditions(backbone, image, mask, "a.b/house.v2").conditions
    as_drawn = torch.from_numpy(drawing / 255).float()
    assert torch.equal(conditions["edge"][0, 0], as_drawn) == (structure == "given")
    assert torch.equal(conditions["line"][0, 0], as_drawn) == (structure == "given")
    with pytest.raises(ValueError, match=r"backbone.edges=.* named other.png for image 'other'; there is none"):
        level_with_conditions(backbone, image, mask, "other")
    before = backbone.fingerprint()["settings"]["maps"]
    Image.fromarray(255 - drawing).save(tmp_path / "maps" / "a.b" / "house.v2.png")
    after = small(**given).fingerprint()["settings"]["maps"]
    assert before["edge"] != after["edge"] and before["line"] != after["line"]
    with pytest.raises(ValueError, match=r"backbone.lines=.*no such file or folder"):
        MapFiles("backbone.lines", tmp_path / "nowhere")


def test_every_cut_gives_the_same_prediction_and_offsets_move_it():
    image, mask = scene()
    backbones = [small(cut) for cut in (0, 1, 2, [0, 2])]
    level = level_with_conditions(backbones[0], image, mask)
    for backbone in backbones:
        torch.testing.assert_close(backbone.rear(backbone.front(level)), backbones[0].whole(level))
    assert [backbone.layers for backbone in backbones[2:]] == [
        ("local", "global"),
        ("local.0", "global.0", "local.2", "global.2"),
    ]
    assert [name for name, _ in backbones[3].cuts_available()] == ["0", "1", "2", "[0,2]"]
    features, late = backbones[3].front(level), backbones[2].front(level)
    offset = torch.randn_like(features.z["global.2"])
    moved = backbones[3].rear(Features({**features.z, "global.2": offset}))
    torch.testing.assert_close(moved, backbones[2].rear(Features({**late.z, "global": late.z["global"] + offset})))
    with pytest.raises(ValueError, match="2 residual blocks"):
        small(3)


def official(folder, **replaced):
    """Checkpoints as upstream saves them: the generator's in a folder of its own, the others beside it."""
    networks = small(fold=False).networks
    state = {
        part: networks.get_submodule(part).state_dict()
        for part in ("generator", "str_encoder", "upsampler", "transformer")
    }
    masks = {f"blocks.{i}.attn.mask": torch.ones(1, 1, 4, 4) for i in (1,)}
    contents = {
        "generator": {
            "iteration": 5,
            "generator": state["generator"],
            "str_encoder": state["str_encoder"],
            "best_fid": 2.5,
        },
        "upsampler": {"model": state["upsampler"]},
        "transformer": {"model": {**state["transformer"], **masks}},
        **replaced,
    }
    (folder / "zits_places2").mkdir()
    for part, content in contents.items():
        if content is not None:
            torch.save(content, folder / ("zits_places2" if part == "generator" else ".") / f"{NAMES[part]}.pth")
    return folder / "zits_places2"


def test_reads_the_official_set(tmp_path):
    backbone = load("backbone=zits", f"backbone.weights={official(tmp_path)}").backbone
    assert backbone.sizes == SMALL
    assert backbone.weights_hash == small().weights_hash
    image, mask = scene()
    torch.testing.assert_close(backbone(image, mask), small()(image, mask))


@pytest.mark.parametrize("part", ["generator", "upsampler", "transformer"])
def test_half_a_set_names_the_missing_file(tmp_path, part):
    folder = official(tmp_path, **{part: None})
    with pytest.raises(UnusableWeights, match=f"lacks {NAMES[part]}.pth"):
        ZITS(folder)
    if part == "transformer":
        assert ZITS(folder, structure="given").sizes.transformer is None


class Attack:
    """Pickles as a call that leaves a trace."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


@pytest.mark.parametrize("part", ["generator", "upsampler", "transformer"])
def test_no_file_runs_code(tmp_path, part):
    trace = tmp_path / "trace"
    folder = official(tmp_path, **{part: {"model": Attack(trace), "generator": Attack(trace)}})
    with pytest.raises(UnusableWeights, match=NAMES[part]):
        ZITS(folder)
    assert not trace.exists()
    pickle.loads(pickle.dumps(Attack(trace)))
    assert trace.exists()  # it would have


def test_other_damage_is_one_sentence(tmp_path):
    folder = official(tmp_path)
    file = tmp_path / f"{NAMES['transformer']}.pth"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UnusableWeights, match=f"{NAMES['transformer']}.pth is truncated or damaged"):
        ZITS(folder)
    save_file({"convs.1.weight": torch.zeros(4, 1, 7, 7)}, tmp_path / f"{NAMES['transformer']}.pth")
    with pytest.raises(UnusableWeights, match="holds other weights than these"):
        ZITS(folder)
    state = {"blocks.0.attn_row.key.weight": torch.zeros(4, 4)}
    save_file(state, tmp_path / f"{NAMES['transformer']}.pth")
    with pytest.raises(UnusableWeights, match=r"its files lack the tensor 'conv1.weight'"):
        ZITS(folder)
    with pytest.raises(UnusableWeights, match="is no folder"):
        ZITS(tmp_path / "nowhere")
    with pytest.raises(UnusableWeights, match="backbone 'zits' needs its weights"):
        load("backbone=zits")


def test_layers_can_be_surveyed():
    """The level that is measured has the conditions that the backbone makes."""
    cuts = list(survey(small(), 32, repeats=1))
    assert [cut.cut for cut in cuts] == ["0", "1", "2"]
    assert cuts[0].shapes == {"local": (8, 4, 4), "global": (24, 4, 4)}
    assert {cut.context_mib for cut in cuts} == {0}


def test_refines_and_the_loss_falls():
    parts = (Pyramid(32), MultiscaleL1(3))
    image, mask = scene(100, 76)
    backbone = small()
    refiner = Refiner(backbone, *parts, steps=4, lr=0.02)
    result = refiner(image, mask)
    assert [level.losses[-1].item() < level.losses[0].item() for level in result.levels[1:]] == [True]
    assert torch.equal(refiner(image, mask).image, result.image)
    without_rules = Refiner(backbone, *parts, steps=4, lr=0.02, frozen=False)
    assert torch.equal(without_rules(image, mask).image, result.image)
    given = [{"edge": torch.zeros(1, 1, 100, 76), "line": mask}] * 2
    assert not torch.equal(refiner(image, mask, conditions=given).image, result.image)
