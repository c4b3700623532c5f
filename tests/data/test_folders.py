"""Images in folders and their masks; what has no partner is reported by name."""

import os

from listings import find, found, touch


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
