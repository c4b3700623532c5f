"""Files -> samples; what cannot be read is a failure of its own."""

import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from generated import hole, pair, photo, save

from refine.core.types import Sample
from refine.data.dataset import MaskOptions, PairDataset
from refine.data.pairs import Failure, ImageMaskPair


def dataset_of(*files: tuple[Path, Path], format: str = "png", **options) -> PairDataset:
    return PairDataset(
        [ImageMaskPair(image.stem, image, mask) for image, mask in files], MaskOptions(**options), format
    )


def test_reading_gives_a_sample(root):
    image = pair(root, "a")
    (sample,) = dataset_of((image, root / "a_mask.png"))
    assert isinstance(sample, Sample) and sample.key == "a"
    assert np.array_equal(sample.image[0].permute(1, 2, 0).numpy(), (photo() / np.float32(255)).astype(np.float32))
    assert np.array_equal(sample.mask[0, 0].numpy() == 1, hole())
    assert sample.source.pair.image == image and len(sample.source.inputs) == 64


def test_size_of_an_image_before_it_is_read(root):
    image, mask = pair(root, "a"), root / "a_mask.png"
    (root / "broken.png").write_bytes(b"no image")
    found = dataset_of((image, mask), (root / "gone.png", mask), (root / "broken.png", mask))
    assert [found.pixels(index) for index in range(3)] == [photo().shape[0] * photo().shape[1], 0, 0]


def test_mask_options_reach_the_mask(root):
    image = pair(root, "a")
    (sample,) = dataset_of((image, root / "a_mask.png"), invert=True)
    assert np.array_equal(sample.mask[0, 0].numpy() == 1, ~hole())
    (grown,) = dataset_of((image, root / "a_mask.png"), dilate=2)
    assert grown.mask.sum() > hole().sum()


@pytest.mark.parametrize(
    ("image", "mask", "format", "reason"),
    [
        ("gone.png", "a_mask.png", "png", "No such file"),
        ("a.png", "gone.png", "png", "No such file"),
        ("a.png", "broken.png", "png", "broken.png"),
        ("a.png", "small.png", "png", r"small.png is 8x8, but image .*a.png is 48x40"),
        ("rgba.png", "a_mask.png", "jpg", "jpg has no alpha"),
    ],
)
def test_what_cannot_be_read_is_a_failure(root, image, mask, format, reason):
    pair(root, "a")
    save(root / "rgba.png", photo(channels=4))
    save(root / "small.png", hole(8, 8))
    (root / "broken.png").write_bytes(b"no image")
    (failure,) = dataset_of((root / image, root / mask), format=format)
    assert isinstance(failure, Failure)
    assert failure.key == Path(image).stem and failure.detail == ""
    assert re.search(reason, failure.reason)


def told_by(*files: tuple[Path, Path], **options) -> tuple[list, list[str]]:
    """The samples of pairs, and what was said of them."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        samples = list(dataset_of(*files, **options))
    return samples, [str(warning.message) for warning in told]


def test_constant_masks_are_told_of_every_file(root):
    image = pair(root, "a")
    full, empty = save(root / "full.png", np.ones((40, 48), bool)), save(root / "empty.png", np.zeros((40, 48), bool))
    samples, told = told_by((image, full), (image, empty), (image, full))
    assert all(isinstance(sample, Sample) for sample in samples)
    assert [text.split(":")[0] for text in told] == [
        f"mask {full} has all hole",
        f"mask {empty} has no hole at all",
        f"mask {full} has all hole",
    ]
    assert "mask_invert" not in told[1] and "mask_invert=true" in told_by((image, full), invert=True)[1][0]


def test_what_was_guessed_of_a_mask_is_told_with_its_name_and_kept(root):
    image = pair(root, "a")
    labels = save(root / "labels.png", hole() * np.uint8(1) + hole()[::-1] * np.uint8(2))
    (sample,), (text,) = told_by((image, labels))
    assert text.startswith(f"mask {labels} has the values 0, 1, 2") and sample.source.mask_kind == "gray labels"
    assert np.array_equal(sample.mask[0, 0].numpy() == 1, hole() | hole()[::-1])
    (ordinary,), told = told_by((image, root / "a_mask.png"))
    assert (told, ordinary.source.mask_kind) == ([], "")
    (green,), told = told_by((image, labels), channel="green", threshold=0)
    assert (told, green.source.mask_kind) == ([], "")


def test_swapped_image_and_mask_are_a_failure_that_says_so(root):
    image = pair(root, "a")
    (failure,), _ = told_by((root / "a_mask.png", image))
    assert isinstance(failure, Failure)
    assert re.search(r"mask .*a\.png looks like a photo.*did you swap image and mask\?", failure.reason)


def cutout(under: int) -> np.ndarray:
    """A photo whose left third is fully transparent, with a color under it; the next column is half transparent."""
    values = photo(channels=4)
    values[..., 3] = 255
    values[:, :16], values[:, :16, 3], values[:, 16, 3] = under, 0, 128
    return values


def test_what_is_transparent_is_unknown_but_not_hole(root):
    samples = []
    for under in (0, 200):
        save(root / "a.png", cutout(under)), save(root / "m.png", hole())
        samples += dataset_of((root / "a.png", root / "m.png"))
    black, gray = samples
    assert np.array_equal(black.mask[0, 0].numpy() == 1, hole())
    transparent = np.arange(48)[None] < 16
    assert np.array_equal(black.network_mask[0, 0].numpy() == 1, hole() | transparent)
    assert np.array_equal(black.image.numpy(), gray.image.numpy())  # the hidden color does not matter
    colors = (cutout(0)[..., :3] / np.float32(255)).astype(np.float32)
    seen = black.image[0].permute(1, 2, 0).numpy()
    assert np.array_equal(seen[:, 16:], colors[:, 16:])
    assert np.array_equal(seen[35, 3], colors[35, 16])  # the nearest known pixel, half transparent as it is


def test_an_opaque_picture_is_given_to_the_network_as_it_is(root):
    save(root / "a.png", np.dstack([photo(), np.full((40, 48), 1, np.uint8)])), save(root / "m.png", hole())
    (sample,) = dataset_of((root / "a.png", root / "m.png"))
    assert sample.unknown is None and sample.network_mask is sample.mask
    assert np.array_equal(sample.image[0].permute(1, 2, 0).numpy(), (photo() / np.float32(255)).astype(np.float32))


def test_the_truth_keeps_its_hidden_colors_and_says_where_nobody_sees_them(root):
    image, mask = save(root / "a.png", cutout(200)), save(root / "m.png", hole())
    with pytest.warns(UserWarning, match="fully transparent in part of the hole"):
        sample = PairDataset([ImageMaskPair("a", image, mask, image)], MaskOptions(), "png")[0]
    assert sample.truth[0, :, 0, 0].tolist() == [np.float32(200 / 255)] * 3


def test_transparency_as_the_mask(root):
    save(root / "a.png", cutout(0)), save(root / "b.png", photo())
    (sample,) = dataset_of((root / "a.png", "alpha"))
    assert np.array_equal(sample.mask[0, 0].numpy() == 1, np.broadcast_to(np.arange(48) < 16, (40, 48)))
    (lower,) = dataset_of((root / "a.png", "alpha"), threshold=0.4)  # 128 of 255 is 0.498 transparent
    assert lower.mask[0, 0, 0].sum() == 17
    (failure,) = dataset_of((root / "b.png", "alpha"))
    assert isinstance(failure, Failure) and "the image has no alpha channel" in failure.reason


def test_a_hole_around_which_all_is_transparent_is_told(root):
    values = photo(channels=4)
    values[..., 3] = hole() * 255
    save(root / "a.png", values), save(root / "m.png", hole())
    with pytest.warns(UserWarning, match="leaves only fully transparent pixels outside the hole"):
        (sample,) = dataset_of((root / "a.png", root / "m.png"))
    assert sample.network_mask.min() == 1 and sample.image[0, :, ~torch.from_numpy(hole())].max() == 0
