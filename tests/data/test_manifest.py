"""Images and masks listed in a CSV file."""

from pathlib import Path

import pytest
from listings import find, found


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
    pairs, failures = find(manifest(root, "image,mask\na.png,m.png\nb.png\n,m.png\n"))
    assert list(pairs) == ["a"]
    assert list(failures) == ["list.csv:3", "list.csv:4"]


def test_a_value_with_a_comma_and_without_quotes_is_told(root):
    text = "image,mask,name\n\na.png,m,1.png,a\nb.png,m.png,b,,\n"
    pairs, failures = find(manifest(root, text))
    assert list(pairs) == ["b"]  # empty cells at the end, as spreadsheets write them
    said = "line 3 has 4 cells, the header has 3; put quotes around a value that holds a comma"
    assert failures == {"list.csv:3": said}


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
        ("image,mask\n", "input=.*list.csv: has no rows; below the header give a line for each image"),
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
