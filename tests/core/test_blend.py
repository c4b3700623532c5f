"""The error at the rim is taken off the fill: by an exact solver, and by offsets that can be worked out."""

import numpy as np
import pytest
import torch
from scipy.sparse import coo_array
from scipy.sparse.linalg import spsolve
from torch import nn

from refine.core.backbone import FrontRear
from refine.core.blend import REACH, blended
from refine.core.harmonic import harmonic
from refine.core.objective import MultiscaleL1
from refine.core.pyramid import Pyramid
from refine.core.refiner import Refiner
from refine.core.types import Features
from refine.data.masks import MaskGenerator

WAYS = ("membrane", "feather")


def solved(values, hole):
    """The harmonic function by SciPy's direct solver: each pixel times its neighbors is their sum."""
    index = np.full(hole.shape, -1)
    index[hole] = np.arange(hole.sum())
    entries, right = [], np.zeros((hole.sum(), 3))
    for y, x in np.argwhere(hole):
        for v, u in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
            if not (0 <= v < hole.shape[0] and 0 <= u < hole.shape[1]):
                continue
            entries.append((index[y, x], index[y, x], 1))
            if hole[v, u]:
                entries.append((index[y, x], index[v, u], -1))
            else:
                right[index[y, x]] += values[v, u]
    rows, columns, factors = zip(*entries, strict=True)
    matrix = coo_array((factors, (rows, columns)), shape=(hole.sum(), hole.sum()), dtype=float).tocsc()
    filled = values.copy()
    filled[hole] = spsolve(matrix, right)
    return filled


def holes():
    bands = np.zeros((37, 70), bool)
    bands[:, :20] = bands[30:] = True  # at three borders of the image
    point = np.ones((41, 50), bool)
    point[7, 49] = False  # one known pixel, whose value fills all
    return {"bands": bands, "point": point, **{kind: MaskGenerator(kind)("a", (75, 64)) for kind in ("thin", "thick")}}


@pytest.mark.parametrize("name", ["bands", "point", "thin", "thick"])
def test_it_is_the_harmonic_function_of_a_direct_solver(name):
    hole = holes()[name]
    values = np.random.default_rng(0).normal(0, 0.05, (*hole.shape, 3)).astype(np.float32)  # noise of 13 gray levels
    found = harmonic(values, hole)
    assert np.array_equal(found[~hole], values[~hole])
    assert np.abs(found - solved(values, hole)).max() < 0.5 / 255


def test_a_border_is_free_and_a_hole_without_surroundings_stays_zero():
    hole = np.zeros((20, 90), bool)
    hole[:, 40:] = True
    values = np.full((20, 90, 3), 0.25, np.float32)
    assert np.allclose(harmonic(values, hole), 0.25, atol=1e-4)
    assert not harmonic(values, np.ones((20, 90), bool)).any()


def scene(size=(200, 260)):
    image = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(2, 1, *size)
    mask[0, :, 30:90, :70] = mask[0, :, 80:190, 150:250] = mask[1, :, 100:103, 5:9] = 1
    return image, mask


def test_a_constant_error_is_taken_off_all_the_hole_or_near_its_rim():
    image, mask = scene()
    inside = mask.expand_as(image) > 0
    membrane, feather = (blended(image - 0.1, image, mask, way) for way in WAYS)
    assert torch.allclose(membrane[inside], image[inside], atol=1e-3)
    middle = (0, slice(None), 135, 200)  # 50 px from the rim
    assert 50 > REACH and torch.allclose(feather[middle], image[middle] - 0.1)
    rim = (0, slice(None), 135, 150)
    assert torch.allclose(feather[rim], image[rim] - 0.1 / REACH, atol=1e-4)  # at a distance of 1 px


@pytest.mark.parametrize("way", WAYS)
def test_known_pixels_are_not_touched_and_a_batch_equals_its_images(way):
    image, mask = scene()
    prediction = torch.rand(image.shape, generator=torch.Generator().manual_seed(1))
    result = blended(prediction, image, mask, way)
    known = mask.expand_as(image) == 0
    assert torch.equal(result[known], prediction[known]) and not torch.equal(result, prediction)
    alone = [blended(prediction[i : i + 1], image[i : i + 1], mask[i : i + 1], way) for i in range(2)]
    assert torch.equal(result, torch.cat(alone))


@pytest.mark.parametrize("way", WAYS)
def test_a_hole_far_away_changes_nothing(way):
    image, mask = scene()
    prediction = torch.rand(image.shape, generator=torch.Generator().manual_seed(1))
    near, far = mask.clone(), mask.clone()
    near[0, :, 80:190, 150:250], far[0, :, 30:90, :70] = 0, 0
    parts = blended(prediction, image, near, way), blended(prediction, image, far, way)
    both = blended(prediction, image, mask, way)
    for part, kept in zip(parts, (near, far), strict=True):
        inside = kept.expand_as(image) > 0
        assert torch.equal(both[inside], part[inside])


@pytest.mark.parametrize("way", WAYS)
def test_where_nothing_is_known_the_prediction_stays(way):
    image, mask = torch.rand(1, 3, 40, 50), torch.ones(1, 1, 40, 50)
    assert torch.equal(blended(image * 0.5, image, mask, way), image * 0.5)


class Darker(FrontRear):
    """A network that gives the image back, with gray in its hole, and all of it darker."""

    layers = ("z",)
    multiple_of = 8
    native_size = 32

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.freeze()

    def front(self, level):
        return Features({"z": level.image * (1 - level.mask) + 0.5 * level.mask})

    def rear(self, features):
        return features.z["z"] - 0.125


@pytest.mark.parametrize("window", [None, "auto"])
def test_the_refiner_blends_its_final_result_once_and_in_windows_alike(window):
    image, mask = torch.full((1, 3, 128, 160), 0.5), torch.zeros(1, 1, 128, 160)
    mask[..., 50:80, 60:100] = 1
    settings = {"steps": 0, "window": window, "context": 16}
    results = {
        blend: Refiner(Darker(), Pyramid(32), MultiscaleL1(3), blend=blend, **settings)(image, mask)
        for blend in ("none", "membrane")
    }
    inside = mask.expand_as(image) > 0
    assert torch.allclose(results["none"].image[inside], torch.tensor(0.375))
    assert torch.allclose(results["membrane"].image[inside], torch.tensor(0.5), atol=1e-3)
    assert torch.equal(results["membrane"].image[~inside], image[~inside])
    for one, other in zip(*(result.levels for result in results.values()), strict=True):
        assert torch.equal(one.prediction, other.prediction)


def test_another_way_is_refused():
    with pytest.raises(ValueError, match=r"refiner.blend must be one of none, membrane, feather; got 'poisson'"):
        Refiner(Darker(), Pyramid(32), MultiscaleL1(3), blend="poisson")
