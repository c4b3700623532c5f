"""Files inside tar files."""

import os
import pickle

import numpy as np
from generated import hole, photo
from tars import png, sample, write

from refine.io.decode import read_size
from refine.io.picture import read_picture
from refine.io.tar import expand, members, samples


def test_members_read_like_files(tmp_path):
    tar = write(tmp_path / "a.tar", sample("x/1"))
    image, mask, notes = members(tar)
    assert image.read_bytes() == png(photo()) and notes.read_bytes() == b"{}"
    assert str(image) == os.fspath(image) == f"{tar}/x/1.png" and (image.name, image.stem) == ("1.png", "1")
    assert mask.read_bytes() == png(hole()) and np.array_equal(read_picture(image).pixels, photo())
    with image.open("rb") as stream:
        assert read_size(stream) == (40, 48)
        assert stream.seek(-12, os.SEEK_END) and stream.read(100) == png(photo())[-12:] and stream.read(1) == b""
    assert samples(tar) == ({"x/1": {"": image, "mask": mask}}, "")


def test_members_reach_other_processes(tmp_path):
    image = next(members(write(tmp_path / "a.tar", sample("x/1"))))
    copied = pickle.loads(pickle.dumps(image))
    assert copied == image and hash(copied) == hash(image) and copied.read_bytes() == image.read_bytes()


def test_names_are_taken_as_paths(tmp_path):
    tar = write(tmp_path / "a.tar", {"./a.png": b"1", ".png": b"2", "._a.png": b"3", "./x//b.jpg": b"4"})
    assert list(samples(tar)[0]) == ["a", "x/b"]


def test_ranges_in_braces(tmp_path):
    assert [path.name for path in expand("s-{008..011}.tar")] == [
        f"s-{number}.tar" for number in ("008", "009", "010", "011")
    ]
    assert [path.name for path in expand("{0..1}-{0..1}.tar")] == ["0-0.tar", "0-1.tar", "1-0.tar", "1-1.tar"]
    odd = write(tmp_path / "{1..2}.tar", {})
    assert expand(str(odd)) == [odd]  # a file that is really called so
