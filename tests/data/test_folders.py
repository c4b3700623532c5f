"""Images in folders and their masks; what has no partner is reported by name."""

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from listings import find, found, touch, unused

from refine.data.folders import DRAWN, LONELY, RESULTS, pairs_in_folder, pairs_without_mask_files
from refine.data.masks import MaskGenerator
from refine.data.pairs import HIDDEN, Unused, count_unused, say_unused
from refine.io.formats import READ


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
    assert unused(root, tmp_path / "holes") == {"holes/unused.png": LONELY}
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
    touch(root, "a.png", "a_mask.png", "._a.png", ".git/b.png", "notes.txt", "noending", "c.psd")
    (root / "folder.png").mkdir()
    assert list(found(root)) == ["a"]
    assert unused(root) == {
        "._a.png": HIDDEN, ".git/": HIDDEN, "notes.txt": ".txt", "noending": "no suffix", "c.psd": ".psd",
    }  # fmt: skip


def test_results_are_no_input(root):
    touch(root, "a.png", "a_mask.png", "out/a.png", "earlier/a.png", "earlier/.refine/log.txt")
    assert list(found(root, output=root / "out")) == ["a"]
    assert unused(root, output=root / "out") == {"earlier/": RESULTS}


def test_results_of_an_earlier_run_may_be_chosen_as_input(root):
    touch(root, "a.png", "a_mask.png", ".refine/log.txt")
    assert list(found(root)) == ["a"]


def test_what_has_no_partner_is_told(root, tmp_path):
    touch(root, "a.png", "a_mask.png", "x/lonely.png", "x/gone_mask2.png")
    pairs, failures = find(root)
    assert list(pairs) == ["a"]
    assert "expected one such as" in failures["x/lonely.png"] and "x/lonely_mask.png" in failures["x/lonely.png"]
    assert failures["x/gone_mask2.png"] == "is a mask without its image 'gone'"

    (tmp_path / "holes").mkdir()
    pairs, failures = find(root / "x", masks=tmp_path / "holes")
    assert pairs == {} and str(tmp_path / "holes/lonely.png") in failures["lonely.png"]


def test_a_folder_that_cannot_be_listed_is_told(root, monkeypatch):
    touch(root, "a.png", "a_mask.png", "locked/b.png")
    scandir = os.scandir

    def refuse(path):  # permissions do not stop root
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    pairs, failures = find(root)
    assert list(pairs) == ["a"]
    assert failures == {str(root / "locked"): "cannot be listed (Permission denied)"}


def test_every_format_that_is_read_is_taken_for_an_image(root):
    names = [f"{number}{suffix}" for number, suffix in enumerate(sorted(READ))]
    touch(root, *(name.upper() for name in names), *(f"{name.split('.')[0]}_mask.png" for name in names))
    assert {image for image, _ in found(root).values()} == {f"in/{name.upper()}" for name in names}
    assert unused(root) == {}


NFC, NFD = "caf\xe9", "cafe\u0301"


@pytest.mark.parametrize(("image", "mask"), [(NFC, NFD), (NFD, NFC)])
def test_unicode_forms_of_one_name_match_and_the_image_names_the_result(root, tmp_path, image, mask):
    touch(root, f"{image}.png", f"{mask}_mask.png")
    assert found(root) == {image: (f"in/{image}.png", f"in/{mask}_mask.png")}
    (root / f"{mask}_mask.png").unlink()
    touch(root, f"{image}/a.png")
    touch(tmp_path / "holes", f"{mask}.png", f"{mask}/a.png")
    assert found(root, masks=tmp_path / "holes") == {
        image: (f"in/{image}.png", f"holes/{mask}.png"),
        f"{image}/a": (f"in/{image}/a.png", f"holes/{mask}/a.png"),
    }
    assert unused(root, tmp_path / "holes") == {}


def test_two_links_to_one_folder_of_masks(root, tmp_path):
    touch(root, "x/a.png", "y/b.png")
    touch(tmp_path / "all", "a.png", "b.png", "c.png")
    (tmp_path / "holes").mkdir()
    for name in ("x", "y"):
        (tmp_path / "holes" / name).symlink_to(tmp_path / "all")
    assert list(found(root, masks=tmp_path / "holes")) == ["x/a", "y/b"]
    assert unused(root, tmp_path / "holes") == {"holes/x/c.png": LONELY}


def test_masks_beside_images_are_named_where_masks_are_drawn(root):
    touch(root, "a.png", "a_mask.png", "iron_mask.png")
    listing = pairs_without_mask_files(root, MaskGenerator("thin"), root / "out")
    assert [pair.key for pair in listing.pairs] == ["a", "iron_mask"]
    assert listing.unused == [Unused("a_mask.png", DRAWN)]


def test_what_is_not_used_is_counted():
    unused = [Unused(f"{n}.txt", ".txt") for n in range(2)] + [Unused(".x", HIDDEN)] * 3 + [Unused("m.png", LONELY)]
    assert count_unused(unused) == {HIDDEN: 3, ".txt": 2, LONELY: 1}
    assert say_unused(unused) == "not used: 3 files (.txt: 2, mask without an image: 1)"
    assert say_unused(unused[2:5]) == say_unused([]) == ""
    many = [Unused(f"{n}.a{n}", f".a{n}") for n in range(9)]
    assert say_unused(many) == "not used: 9 files (.a0: 1, .a1: 1, .a2: 1, .a3: 1, .a4: 1, .a5: 1, other: 3)"


STEMS = st.sampled_from(
    ["a", "b", "a_mask", "a_mask2", "a_mask_mask", "x.y", "x.y_mask", "_mask", NFC, NFD, f"{NFD}_mask", "._a_mask"]
)
SUFFIXES = st.sampled_from([".png", ".PNG", ".jpg", ".gif", ".heic", ".mask.png", ".txt", ".tar", "", ".DS_Store"])
NAMES = st.builds("{}{}{}".format, st.sampled_from(["", "sub/", f"x{NFC}/", f"x{NFD}/"]), STEMS, SUFFIXES)


@pytest.mark.parametrize("kind", ["beside", "folder", "drawn", "one"])
@settings(deadline=None, max_examples=25)
@given(images=st.sets(NAMES, max_size=12), masks=st.sets(NAMES, max_size=12))
def test_every_file_is_used_or_failed_or_named_and_only_once(tmp_path_factory, kind, images, masks):
    base = tmp_path_factory.mktemp("any")
    for folder, names in (("in", images), ("holes", masks)):
        (base / folder).mkdir()
        touch(base / folder, *names)
    if kind == "drawn":
        listing = pairs_without_mask_files(base / "in", MaskGenerator("thin"), base / "out")
    else:
        mask = str(base / "one.png") if kind == "one" else None
        listing = pairs_in_folder(base / "in", mask, str(base / "holes") if kind == "folder" else None, base / "out")
    used = {str(file.relative_to(base)) for pair in listing.pairs for file in pair.files} - {"one.png"}
    failed = [f"in/{failure.key}" for failure in listing.failures]
    named = [entry.name if entry.name.startswith("holes/") else f"in/{entry.name}" for entry in listing.unused]
    there = {f"in/{name}" for name in images} | {f"holes/{name}" for name in masks if kind == "folder"}
    assert sorted([*used, *failed, *named]) == sorted(there)
