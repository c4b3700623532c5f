"""Masks: LaMa's own at its sizes, a rule for the others, one mask per key."""

import functools
import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from refine.core.inputs import check_inputs
from refine.data.masks import KINDS, MaskGenerator, draw, joint_hash, mask_hash, recipe
from refine.io.picture import mask_to_tensor

FIXTURES = Path(__file__).parents[3] / "shared" / "fixtures" / "lama"
needs_fixtures = pytest.mark.skipif(not FIXTURES.is_dir(), reason="needs the reference vectors of the original code")
SIZES = [(64, 64), (48, 100), (100, 48)]


def set_hash(masks):
    """Hash of ``(key, mask)`` pairs."""
    return joint_hash(mask_hash(key, mask) for key, mask in masks)


@functools.cache
def areas(kind, size, count, seed=0):
    rng = np.random.RandomState(seed)
    return np.array([draw(kind, size, rng).mean() for _ in range(count)])


@pytest.mark.parity
@needs_fixtures
@pytest.mark.parametrize("kind", KINDS)
def test_first_masks_are_those_of_the_published_generator(kind):
    packed = np.load(FIXTURES / "pub_metrics_masks.npz")[f"mask_{kind}_256_seed1256_first8_packed"]
    rng = np.random.RandomState(1256)
    for expected in np.unpackbits(packed, axis=-1).astype(bool):
        assert np.array_equal(draw(kind, (256, 256), rng), expected)


@pytest.mark.parity
@needs_fixtures
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", [256, pytest.param(512, marks=pytest.mark.thorough)])
def test_1500_masks_have_the_published_statistics(kind, side):
    expected = json.loads((FIXTURES / "pub_metrics_masks.json").read_text())["masks"][f"{kind}_{side}"]
    area = areas(kind, (side, side), expected["n"], seed=1000 + side)
    assert area.mean() == pytest.approx(expected["area_mean"], abs=1e-7)
    assert area.std() == pytest.approx(expected["area_std"], abs=1e-7)
    assert (area > 0.5).mean() == expected["frac_over_half"]
    assert area[area <= 0.5].mean() == pytest.approx(expected["area_mean_after_filter"], abs=1e-7)


@pytest.mark.parametrize(
    ("kind", "sha256"),
    [
        ("thin", "30cb580394a50434008f898e38d83fc8799cf74dbef4bac485cea3892f28d7a7"),
        ("medium", "8c8d889b28310963d8f2a22291044acad22191f033511e9af4669c85b4c43077"),
        ("thick", "f485c12930046caf9a46644e5b8134ff3eb29e085a610473b1985a69d26e8775"),
    ],
)
def test_suites_stay_what_they_are(kind, sha256):
    """A change here changes every study: say so in the changelog."""
    generator = MaskGenerator(kind)
    masks = ((f"photo {i}", generator(f"photo {i}", size)) for i, size in enumerate([*SIZES, (256, 256), (512, 640)]))
    assert set_hash(masks) == sha256


@pytest.mark.parametrize("kind", KINDS)
def test_a_mask_belongs_to_its_key(kind):
    keys = [f"folder/{name}.png" for name in "abcdefgh"]
    generator, masks = MaskGenerator(kind), {key: MaskGenerator(kind)(key, (64, 80)) for key in keys}
    random.Random(0).shuffle(keys)
    np.random.seed(0)  # neither the global stream nor the order matters
    for key in keys:
        assert np.array_equal(generator(key, (64, 80)), masks[key])
    assert len({mask.tobytes() for mask in masks.values()}) == len(keys)
    assert not np.array_equal(MaskGenerator(kind, seed=1)(keys[0], (64, 80)), masks[keys[0]])


def test_kinds_are_drawn_apart():
    same = sum(
        np.array_equal(MaskGenerator("medium")(f"{i}", (64, 64)), MaskGenerator("thick")(f"{i}", (64, 64)))
        for i in range(20)
    )
    assert same == 0


def test_any_key_will_do():
    for key in ("", "ünï/日本.png", "broken \udcff byte", "a" * 5000):
        assert MaskGenerator("thin")(key, (32, 32)).any()


@given(kind=st.sampled_from(KINDS), key=st.text(), height=st.integers(16, 200), width=st.integers(16, 200))
@settings(max_examples=60, deadline=None)
def test_any_size_gives_a_hole_of_at_most_half(kind, key, height, width):
    mask = MaskGenerator(kind)(key, (height, width))
    assert mask.shape == (height, width) and mask.dtype == bool
    assert 0 < mask.mean() <= 0.5


def test_a_mask_is_one_by_the_conventions_of_the_house():
    mask = mask_to_tensor(MaskGenerator("thick")("photo", (40, 50)))
    check_inputs(torch.zeros(1, 3, 40, 50), mask)


def test_rejection_leaves_small_masks_as_they_were():
    """A smaller limit keeps every mask that passes it, and replaces the others."""
    wide = {key: MaskGenerator("thick", max_area=1.0)(key, (64, 64)) for key in map(str, range(40))}
    kept = [np.array_equal(MaskGenerator("thick")(key, (64, 64)), mask) for key, mask in wide.items()]
    assert kept == [bool(mask.mean() <= 0.5) for mask in wide.values()]
    assert 5 < sum(kept) < 35


@pytest.mark.parametrize(
    ("generator", "size"), [(MaskGenerator("thick"), (1, 1)), (MaskGenerator("thick", max_area=1e-4), (64, 64))]
)
def test_an_impossible_mask_is_an_error_and_not_empty(generator, size):
    with pytest.raises(ValueError, match=r"no thick mask for 'photo' .* raise masks.max_area or leave the image out"):
        generator("photo", size)


@pytest.mark.parametrize("kind", KINDS)
def test_lengths_follow_the_size(kind):
    """Half of 256 px halves every length, four times 512 px multiplies it by four; the counts stay."""
    for side, nearest, ratio in ((128, 256, 0.5), (2048, 512, 4)):
        made, known = recipe(kind, side), recipe(kind, nearest)
        assert (made.strokes, made.boxes) == (known.strokes, known.boxes)
        assert made.length == tuple(int(ratio * end + 0.5) for end in known.length)
        assert made.margin == ratio * known.margin
    assert recipe("thin", 384).strokes == (4, 61)  # between 51 and 71
    assert recipe("thin", 384).width == (5, 19)  # between 14 and 24


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(128, 128), (384, 384), (1024, 1024), (512, 256), (256, 512)])
def test_coverage_hardly_depends_on_size_and_shape(kind, size):
    expected = [areas(kind, (side, side), 200).mean() for side in (256, 512)]
    assert min(expected) - 0.05 < areas(kind, size, 200).mean() < max(expected) + 0.07


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="masks must be one of thin, medium, thick; got 'huge'"):
        MaskGenerator("huge")
    with pytest.raises(ValueError, match=r"masks.max_area must be in \(0, 1\]"):
        MaskGenerator("thin", max_area=0)
    with pytest.raises(ValueError, match="at least 1 px"):
        draw("thin", (0, 5), np.random.RandomState(0))


def test_hash_sees_pixels_sizes_and_keys_but_not_the_order():
    masks = [(f"{i}", MaskGenerator("medium")(f"{i}", size)) for i, size in enumerate(SIZES)]
    reference = set_hash(masks)
    assert set_hash(iter(masks[::-1])) == reference
    flipped = masks[0][1].copy()
    flipped[3, 4] ^= True
    assert set_hash([("0", flipped), *masks[1:]]) != reference
    assert set_hash([("x", masks[0][1]), *masks[1:]]) != reference
    assert set_hash(masks[1:]) != reference
    blank = np.zeros((4, 6), bool)
    assert set_hash([("0", blank)]) != set_hash([("0", blank.reshape(6, 4))])
