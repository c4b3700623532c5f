"""Windows around holes: where they lie, and that nothing else changes."""

import dataclasses

import pytest
import torch
from torch import nn

from refine.core.backbone import FrontRear
from refine.core.notices import NotFinite
from refine.core.objective import MultiscaleL1
from refine.core.pyramid import Pyramid
from refine.core.refiner import Refiner
from refine.core.types import Features
from refine.core.window import Window
from refine.core.windows import Windows


class Local(FrontRear):
    """A network that sees 4 px far; z is the mean color of the surroundings of the hole."""

    layers = ("color",)
    multiple_of = 8
    native_size = 32

    def __init__(self):
        super().__init__()
        self.blur = nn.AvgPool2d(9, 1, 4, count_include_pad=False)
        self.seen = []
        self.freeze()

    def conditions(self, sample, levels):
        return [{"brightness": sample.image.mean()[None]} for _ in levels]

    def front(self, level):
        self.seen.append(tuple(level.image.shape[-2:]))
        known = 1 - level.mask
        color = self.blur(level.image * known) / self.blur(known).clamp(min=0.1)
        return Features({"color": color})

    def rear(self, features):
        return features.z["color"] * 0.9


def scene(*holes, size=(256, 320), seed=0):
    image = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(seed))
    mask = torch.zeros(1, 1, *size)
    for top, left, bottom, right in holes:
        mask[..., top:bottom, left:right] = 1
    return image, mask


def refiner(**settings):
    return Refiner(Local(), Pyramid(32), MultiscaleL1(3), steps=4, **settings)


class NotFiniteOnce(MultiscaleL1):
    """A loss that is not finite in the first window."""

    windows = 0

    def prepare(self, level, guide):
        whole = super().prepare(level, guide)
        self.windows += 1
        factor = torch.nan if self.windows == 1 else 1.0
        return dataclasses.replace(whole, loss=lambda prediction: whole.loss(prediction) * factor)


def test_one_window_without_a_finite_iterate_is_told():
    image, mask = scene((60, 60, 90, 90), (160, 220, 190, 250))
    made = Refiner(Local(), Pyramid(128), NotFiniteOnce(3), steps=2, window="auto", context=16)
    with pytest.warns(NotFinite, match="at 1 of its 1 levels no prediction, or no loss, was finite"):
        result = made(image, mask)
    assert result.levels[1].kept.tolist() == [-1] and result.image.isfinite().all()


def test_a_network_that_sees_as_far_as_the_context_gives_the_same_in_windows():
    image, mask = scene((100, 120, 140, 170))
    whole, windowed = refiner(), refiner(window="auto", context=16)
    expected, result = whole(image, mask), windowed(image, mask)
    assert (windowed.backbone.seen[-1], whole.backbone.seen[-1]) == ((80, 88), (256, 320))
    assert torch.allclose(result.image, expected.image, atol=1e-5)
    assert torch.equal(result.image[mask.expand_as(image) == 0], image[mask.expand_as(image) == 0])
    for ours, theirs in zip(result.levels, expected.levels, strict=True):
        assert torch.allclose(ours.losses, theirs.losses, atol=1e-6)
        assert torch.equal(ours.updates, theirs.updates) and torch.equal(ours.kept, theirs.kept)
        assert torch.allclose(ours.guided_fraction, theirs.guided_fraction, atol=1e-6)


def test_holes_far_apart_have_windows_of_their_own_and_near_ones_share_one():
    image, mask = scene((20, 20, 40, 40), (200, 270, 220, 300), (224, 280, 230, 290))
    windows = refiner(window="auto", context=16)
    windows(image, mask)
    assert windows.backbone.seen[-2:] == [(56, 56), (72, 72)]
    assert torch.allclose(windows(image, mask).image, refiner()(image, mask).image, atol=1e-3)  # one mean, or two


def test_a_large_hole_is_covered_by_overlapping_windows():
    image, mask = scene((30, 30, 220, 290))
    tiled = refiner(window=96, context=24)
    result = tiled(image, mask)
    sizes = [size for size in tiled.backbone.seen if size == (96, 96)]
    assert len(sizes) > 4 and max(max(size) for size in tiled.backbone.seen) <= 96
    assert torch.isfinite(result.image).all() and result.image.shape == image.shape
    whole = refiner()(image, mask).image
    assert (result.image - whole).abs().mean() < 0.02 * mask.mean()


@pytest.mark.parametrize("size", [(255, 321), (250, 333)])
def test_sizes_that_no_factor_divides(size):
    image, mask = scene((100, 120, 140, 170), size=size)
    difference = refiner(window="auto", context=16)(image, mask).image - refiner()(image, mask).image
    assert difference.abs().max() < 0.05  # the guide's window begins within half a pixel of its place


def test_the_plain_prediction_of_one_level_is_made_in_windows_too():
    image, mask = scene((100, 120, 140, 170))
    plain = Refiner(Local(), Pyramid(32, max_levels=1), MultiscaleL1(3), steps=0, window="auto", context=16)
    whole = Refiner(Local(), Pyramid(32, max_levels=1), MultiscaleL1(3), steps=0)
    assert torch.allclose(plain(image, mask).image, whole(image, mask).image, atol=1e-6)
    assert plain.backbone.seen == [(72, 88)]


def test_the_coarsest_level_and_full_holes_are_whole_and_an_empty_mask_stays():
    image, mask = scene((100, 120, 140, 170))
    windowed = refiner(window="auto", context=16)
    windowed(image, mask)
    assert windowed.backbone.seen[0] == (32, 40)
    assert torch.equal(windowed(image, torch.ones_like(mask)).image, refiner()(image, torch.ones_like(mask)).image)
    assert torch.equal(windowed(image, torch.zeros_like(mask)).image, image)


def test_steps_show_the_level_with_the_window_in_its_place():
    image, mask = scene((100, 120, 140, 170))
    steps = []
    refiner(window="auto", context=16)(image, mask, on_step=steps.append)
    shown = [step.prediction() for step in steps if step.level == step.levels - 1]
    assert len(shown) == 5 and all(picture.shape == image.shape for picture in shown)
    assert torch.equal(shown[0][..., :80, :], image[..., :80, :]) and not torch.equal(shown[0], shown[-1])


def test_a_loss_of_known_pixels_alone_is_told_too():
    image, mask = scene((100, 120, 103, 123), (200, 270, 203, 273))
    objective = MultiscaleL1(15, known_weight=1)
    settings = {"steps": 2, "window": "auto", "context": 16}
    result = Refiner(Local(), Pyramid(32), objective, **settings)(image, mask)
    assert result.levels[-1].guided_fraction == 0 and result.levels[-1].updates == 2
    assert result.levels[-1].losses.isfinite().all() and (result.levels[-1].losses > 0).all()


@pytest.mark.parametrize(
    ("window", "context", "message"),
    [
        (64, 32, "refiner.window=64 px leaves no room.*at least refiner.window=65"),
        ("auto", 0, "refiner.context must be at least 1 px; got 0"),
        ("large", 8, "refiner.window must be auto, a number of px, or null; got 'large'"),
        (True, 8, "refiner.window must be auto, a number of px, or null; got True"),
    ],
)
def test_settings_that_make_no_sense(window, context, message):
    with pytest.raises(ValueError, match=message):
        refiner(window=window, context=context)


def test_a_network_that_is_told_of_the_whole_photo_in_files_has_no_windows():
    whole = Local()
    whole.fills_parts = False
    with pytest.raises(ValueError, match=r"'Local' is told of the whole photo in files.*refiner\.window=null"):
        Refiner(whole, Pyramid(32), MultiscaleL1(3), window="auto")


def test_windows_lie_on_the_grid_of_the_guide_and_hold_every_hole():
    torch.manual_seed(0)
    for _ in range(40):
        size = tuple(torch.randint(40, 300, (2,)).tolist())
        mask = torch.zeros(1, 1, *size)
        for _ in range(int(torch.randint(1, 6, ()))):
            top, left = (int(torch.randint(0, side - 4, ())) for side in size)
            mask[..., top : top + int(torch.randint(1, 30, ())), left : left + int(torch.randint(1, 30, ()))] = 1
        grid = Pyramid(max(1, min(size) // 2)).scales(mask.expand(-1, 3, -1, -1), mask)[0][1]
        for largest in (None, 40):
            groups = Windows(largest, 12).cover([grid, mask])[1]
            held = torch.zeros_like(mask)
            for window in (tile.scaled(grid.shape[-2:], size) for tiles in groups for tile in tiles):
                assert Window(0, 0, *size).joined(window) == Window(0, 0, *size)
                assert largest is None or max(window.size) <= largest + 1
                window.of(held).fill_(1)
            assert not groups or not ((mask > 0) & (held == 0)).any()
            boxes = [dataclasses.astuple(tiles[0]) for tiles in groups]
            assert len(set(boxes)) == len(boxes)
