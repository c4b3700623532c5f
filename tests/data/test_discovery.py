"""Which image goes with which mask, and what cannot be done is told by name."""

import os
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from generated import hole, pair, photo, save

from refine.core.types import Sample
from refine.data.dataset import MaskOptions, PairDataset
from refine.data.discovery import find_pairs
from refine.data.pairs import Failure, ImageMaskPair


@pytest.fixture
def root(tmp_path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    return folder


def touch(root: Path, *names: str) -> None:
    """Empty files; discovery goes by names alone."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


def found(root: Path, mask: object = None, masks: object = None, output: object = "/nowhere") -> dict[str, tuple]:
    """``{key: (image, mask)}`` with names relative to the folder above the input; nothing may fail."""
    jobs, failures = find(root, mask, masks, output)
    assert failures == {}
    return jobs


def find(root: Path, mask: object = None, masks: object = None, output: object = "/nowhere"):
    texts = [None if value is None else str(value) for value in (root, mask, masks, output)]
    jobs, failures = find_pairs(*texts)
    base = (root if root.is_dir() else root.parent).parent
    named = {job.key: tuple(str(file.relative_to(base)) for file in (job.image, job.mask)) for job in jobs}
    assert list(named) == sorted(job.key for job in jobs)
    return named, {failure.key: failure.reason for failure in failures}


def test_pairs_beside_each_other(root):
    touch(root, "a.png", "a_mask.png", "b.jpg", "b_mask001.png", "c.TIFF", "c_mask-2.bmp", "d.webp", "d_mask_03.jpeg")
    assert found(root) == {
        "a": ("in/a.png", "in/a_mask.png"),
        "b": ("in/b.jpg", "in/b_mask001.png"),
        "c": ("in/c.TIFF", "in/c_mask-2.bmp"),
        "d": ("in/d.webp", "in/d_mask_03.jpeg"),
    }


def test_several_masks_name_the_results(root):
    touch(root, "a.png", "a_mask001.png", "a_mask002.png", "b.png", "b_mask.png")
    assert found(root) == {
        "a_mask001": ("in/a.png", "in/a_mask001.png"),
        "a_mask002": ("in/a.png", "in/a_mask002.png"),
        "b": ("in/b.png", "in/b_mask.png"),
    }


def test_the_last_mask_in_a_name_counts(root):
    touch(root, "x_mask_v2.png", "x_mask_v2_mask.png")  # the first ends in neither _mask nor digits
    assert found(root) == {"x_mask_v2": ("in/x_mask_v2.png", "in/x_mask_v2_mask.png")}


def test_masks_in_a_folder_of_their_own(root, tmp_path):
    touch(root, "a.png", "sub/b.jpg", "sub/c.png")
    touch(tmp_path / "holes", "a.png", "sub/b_mask.png", "sub/c_mask1.png", "sub/c_mask2.png", "unused.png")
    assert found(root, masks=tmp_path / "holes") == {
        "a": ("in/a.png", "holes/a.png"),
        "sub/b": ("in/sub/b.jpg", "holes/sub/b_mask.png"),
        "sub/c_mask1": ("in/sub/c.png", "holes/sub/c_mask1.png"),
        "sub/c_mask2": ("in/sub/c.png", "holes/sub/c_mask2.png"),
    }


def test_masks_folder_below_the_input(root):
    touch(root, "a.png", "holes/a.png")
    assert found(root, masks=root / "holes") == {"a": ("in/a.png", "in/holes/a.png")}


def test_with_a_folder_of_masks_an_image_may_be_called_mask(root, tmp_path):
    touch(root, "iron_mask.png")
    touch(tmp_path / "holes", "iron_mask.png")
    assert found(root, masks=tmp_path / "holes") == {"iron_mask": ("in/iron_mask.png", "holes/iron_mask.png")}


def test_one_image(root):
    touch(root, "a.jpg", "hole.png", "b.jpg", "b_mask1.png", "b_mask2.png", "holes/a.png")
    assert found(root / "a.jpg", mask=root / "hole.png") == {"a": ("in/a.jpg", "in/hole.png")}
    assert found(root / "a.jpg", masks=root / "holes") == {"a": ("in/a.jpg", "in/holes/a.png")}
    assert list(found(root / "b.jpg")) == ["b_mask1", "b_mask2"]


def test_one_mask_for_a_folder_is_no_image_itself(root):
    touch(root, "a.png", "b.png", "hole.png")
    assert found(root, mask=root / "hole.png") == {
        "a": ("in/a.png", "in/hole.png"),
        "b": ("in/b.png", "in/hole.png"),
    }


def test_folders_in_folders(root):
    touch(root, "a.png", "a_mask.png", "x/a.png", "x/a_mask.png", "x/y z/a.png", "x/y z/a_mask.png")
    assert list(found(root)) == ["a", "x/a", "x/y z/a"]


def test_a_loop_of_links_ends(root):
    touch(root, "sub/a.png", "sub/a_mask.png")
    (root / "sub/up").symlink_to(root)
    (root / "self").symlink_to(root / "self")
    assert list(found(root)) == ["sub/a"]


def test_linked_folders_are_searched(root, tmp_path):
    touch(tmp_path / "elsewhere", "a.png", "a_mask.png")
    (root / "link").symlink_to(tmp_path / "elsewhere")
    assert list(found(root)) == ["link/a"]


def test_hidden_and_other_files_are_left_alone(root):
    touch(root, "a.png", "a_mask.png", "._a.png", ".git/b.png", "notes.txt", "noending", "c.gif")
    (root / "folder.png").mkdir()
    assert list(found(root)) == ["a"]


def test_results_are_no_input(root):
    touch(root, "a.png", "a_mask.png", "out/a.png", "earlier/a.png", "earlier/.refine/log.txt")
    assert list(found(root, output=root / "out")) == ["a"]


def test_results_of_an_earlier_run_may_be_chosen_as_input(root):
    touch(root, "a.png", "a_mask.png", ".refine/log.txt")
    assert list(found(root)) == ["a"]


def test_what_has_no_partner_is_told(root, tmp_path):
    touch(root, "a.png", "a_mask.png", "x/lonely.png", "x/gone_mask2.png")
    jobs, failures = find(root)
    assert list(jobs) == ["a"]
    assert "expected one such as" in failures["x/lonely.png"] and "x/lonely_mask.png" in failures["x/lonely.png"]
    assert failures["x/gone_mask2.png"] == "is a mask without its image 'gone'"

    (tmp_path / "holes").mkdir()
    jobs, failures = find(root / "x", masks=tmp_path / "holes")
    assert jobs == {} and str(tmp_path / "holes/lonely.png") in failures["lonely.png"]


def test_a_folder_that_cannot_be_listed_is_told(root, monkeypatch):
    touch(root, "a.png", "a_mask.png", "locked/b.png")
    scandir = os.scandir

    def refuse(path):  # permissions do not stop root
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    jobs, failures = find(root)
    assert list(jobs) == ["a"]
    assert failures == {str(root / "locked"): "cannot be listed (Permission denied)"}


@pytest.mark.parametrize(
    "names",
    [
        ("a.png", "a.jpg", "a_mask.png"),  # two images, one result
        ("a.png", "a_mask.png", "a_mask.jpg"),  # two masks, one result
        ("a.png", "a_mask1.png", "a_mask2.png", "a_mask1.jpg", "b.png", "b_mask.png"),
        ("a.png", "a_mask1.png", "a_mask2.png", "a_mask1.png.png", "a_mask1.tif"),
    ],
)
def test_two_results_of_one_name_are_refused(root, names):
    touch(root, *names)
    with pytest.raises(ValueError, match=r"several inputs would write the result 'a(_mask1?)?'.*Rename them"):
        find(root)


@pytest.mark.parametrize(
    ("input", "mask", "masks", "message"),
    [
        ("gone", None, None, "input=.*gone: no such file or folder"),
        (".", None, None, "no image found; looked for .bmp"),
        ("a.png", None, None, "has no mask: give mask=<file>, or put a_mask.png beside it"),
        ("a.png", "gone.png", None, "mask=.*gone.png: no such file"),
        ("a.png", None, "gone", "masks=.*gone: no such folder"),
        ("a.png", "a.png", ".", "exclude each other"),
        ("a.png", None, ".", "is the folder of the images"),
        ("list.csv", "a.png", None, "mask= does not go with a CSV manifest"),
    ],
)
def test_requests_without_sense(root, input, mask, masks, message):
    if input != ".":
        touch(root, "a.png", "list.csv")
    with pytest.raises(ValueError, match=message):
        find(root / input, mask and root / mask, masks and root / masks)


def manifest(root: Path, text: str, name: str = "list.csv") -> Path:
    (root / name).write_bytes(text.encode())
    return root / name


def test_manifest_names(root, tmp_path):
    elsewhere = tmp_path / "photos" / "e.png"
    rows = ["a.png,m.png,", "x/b.v2.jpg,m.png,", "c.png,m.png,new/c.png", "d.png,m.png,d.v2", f"{elsewhere},m.png,"]
    assert found(manifest(root, "\n".join(["image,mask,name", *rows]))) == {
        "a": ("in/a.png", "in/m.png"),
        "d.v2": ("in/d.png", "in/m.png"),
        "e": ("photos/e.png", "in/m.png"),
        "new/c": ("in/c.png", "in/m.png"),
        "x/b.v2": ("in/x/b.v2.jpg", "in/m.png"),
    }


def test_manifest_without_names_and_with_several_masks(root):
    text = '\ufeffmask,extra,image\r\nm1.png,7,a.png\r\n\r\nm2.png,,a.png\r\n"m,3.png",,b.png\r\n'
    assert found(manifest(root, text)) == {
        "b": ("in/b.png", "in/m,3.png"),
        "m1": ("in/a.png", "in/m1.png"),
        "m2": ("in/a.png", "in/m2.png"),
    }


def test_manifest_rows_that_lack_something_are_told(root):
    jobs, failures = find(manifest(root, "image,mask\na.png,m.png\nb.png\n,m.png\n"))
    assert list(jobs) == ["a"]
    assert list(failures) == ["list.csv:3", "list.csv:4"]


@pytest.mark.parametrize("name", ["../a", "/a", "x/../../a", ".refine/rows", "./.refine/a", "."])
def test_manifest_names_stay_inside_the_output(root, name):
    with pytest.raises(ValueError, match=r"list.csv:2: the name .* must be a path inside the output folder"):
        find(manifest(root, f"image,mask,name\na.png,m.png,{name}\n"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "needs the columns image,mask"),
        ("picture,hole\na,b\n", "needs the columns image,mask.*got picture,hole"),
        ("image;mask\na;b\n", "needs the columns image,mask"),
        ("image,mask\n", "no image found"),
        ('image,mask\n"' + "x" * 200_000 + '",m\n', "cannot be read as UTF-8 CSV"),
        ("image,mask,name\na.png,m.png,x\nb.png,m.png,x\n", "several inputs would write the result 'x'"),
    ],
)
def test_manifests_without_sense(root, text, message):
    with pytest.raises(ValueError, match=message):
        find(manifest(root, text))


def test_manifest_in_another_encoding(root):
    (root / "list.csv").write_bytes(b"image,mask\nb\xe4r.png,m.png\n")
    with pytest.raises(ValueError, match="cannot be read as UTF-8 CSV"):
        find(root / "list.csv")


def jobs_of(*jobs: tuple[Path, Path], format: str = "png", **options) -> PairDataset:
    return PairDataset([ImageMaskPair(image.stem, image, mask) for image, mask in jobs], MaskOptions(**options), format)


def test_reading_gives_a_sample(root):
    image = pair(root, "a")
    (sample,) = jobs_of((image, root / "a_mask.png"))
    assert isinstance(sample, Sample) and sample.key == "a"
    assert np.array_equal(sample.image[0].permute(1, 2, 0).numpy(), (photo() / np.float32(255)).astype(np.float32))
    assert np.array_equal(sample.mask[0, 0].numpy() == 1, hole())
    assert sample.source.job.image == image and len(sample.source.inputs) == 64


def test_mask_options_reach_the_mask(root):
    image = pair(root, "a")
    (sample,) = jobs_of((image, root / "a_mask.png"), invert=True)
    assert np.array_equal(sample.mask[0, 0].numpy() == 1, ~hole())
    (grown,) = jobs_of((image, root / "a_mask.png"), dilate=2)
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
    (failure,) = jobs_of((root / image, root / mask), format=format)
    assert isinstance(failure, Failure)
    assert failure.key == Path(image).stem and failure.detail == ""
    assert re.search(reason, failure.reason)


def test_constant_masks_are_told_once_of_each_kind(root):
    image = pair(root, "a")
    full, empty = save(root / "full.png", np.ones((40, 48), bool)), save(root / "empty.png", np.zeros((40, 48), bool))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        samples = list(jobs_of((image, full), (image, empty), (image, full), (image, empty)))
    assert all(isinstance(sample, Sample) for sample in samples)
    assert len(told) == 2
    assert "all hole" in str(told[0].message) and "no hole at all" in str(told[1].message)
