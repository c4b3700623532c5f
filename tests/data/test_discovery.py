"""Which image goes with which mask; requests without sense are refused."""

import pytest
from listings import find, found, touch
from tars import write as write_tar

from refine.data.discovery import find_pairs


def test_one_image(root):
    touch(root, "a.jpg", "hole.png", "b.jpg", "b_mask1.png", "b_mask2.png", "holes/a.png")
    assert found(root / "a.jpg", mask=root / "hole.png") == {"a": ("in/a.jpg", "in/hole.png")}
    assert found(root / "a.jpg", masks=root / "holes") == {"a": ("in/a.jpg", "in/holes/a.png")}
    assert list(found(root / "b.jpg")) == ["b_mask1", "b_mask2"]


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
        (".", None, None, "no image found; looked for .apng"),
        ("a.png", None, None, "has no mask: give mask=<file>, or put a_mask.png beside it"),
        ("a.png", "gone.png", None, "mask=.*gone.png: no such file"),
        ("a.png", None, "gone", "masks=.*gone: no such folder"),
        ("a.png", ".", None, "mask=.* is a folder; masks=.* takes the masks in it"),
        ("a.png", None, "a.png", "masks=.*a.png is a file; mask=.*a.png takes it"),
        ("a.png", None, "list.csv", "masks=.*list.csv is a file; expected a folder of masks"),
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


def test_the_transparency_of_each_image_as_its_mask(root):
    """In every kind of input; masks beside the images are no images."""
    touch(root, "a.png", "sub/b.png", "sub/b_mask.png")
    (root / "list.csv").write_text("image\nsub/b.png\n")
    write_tar(root / "c.tar", {"c.png": b""})
    keys = {".": ["a", "sub/b"], "a.png": ["a"], "list.csv": ["sub/b"], "c.tar": ["c"]}
    for name, expected in keys.items():
        listing = find_pairs(str(root / name), "alpha", None, "/nowhere")
        pairs = listing.pairs
        assert ([pair.key for pair in pairs], listing.failures) == (expected, [])
        assert {pair.mask for pair in pairs} == {"alpha"} and pairs[0].files == (pairs[0].image,)
    with pytest.raises(ValueError, match="exclude each other"):
        find_pairs(str(root), "alpha", "masks", "/nowhere")
