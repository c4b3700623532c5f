"""Files -> samples; what cannot be read is a failure of its own."""

import re
import warnings
from pathlib import Path

import numpy as np
import pytest
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
