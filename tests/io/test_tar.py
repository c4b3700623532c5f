"""Files inside tar files."""

import io
import os
import pickle
import tarfile
from pathlib import PurePosixPath

import numpy as np
import pytest
from generated import hole, photo
from tars import png, sample, write

from refine.io import tar as tars
from refine.io.decode import read_size
from refine.io.picture import read_picture
from refine.io.tar import contents, expand


def test_members_read_like_files(tmp_path):
    tar = write(tmp_path / "a.tar", sample("x/1"))
    image, mask, notes = contents(tar).members
    assert image.read_bytes() == png(photo()) and notes.read_bytes() == b"{}"
    assert str(image) == os.fspath(image) == f"{tar}/x/1.png" and (image.name, image.stem) == ("1.png", "1")
    assert mask.read_bytes() == png(hole()) and np.array_equal(read_picture(image).pixels, photo())
    with image.open("rb") as stream:
        assert read_size(stream) == (40, 48)
        assert stream.seek(-12, os.SEEK_END) and stream.read(100) == png(photo())[-12:] and stream.read(1) == b""


def test_members_reach_other_processes(tmp_path):
    image = contents(write(tmp_path / "a.tar", sample("x/1"))).members[0]
    copied = pickle.loads(pickle.dumps(image))
    assert copied == image and hash(copied) == hash(image) and copied.read_bytes() == image.read_bytes()


@pytest.fixture
def linked(tmp_path):
    """A tar of one file ``x/a.png`` and of entries of other types."""

    def make(**entries: tuple[bytes, str]):
        with tarfile.open(tmp_path / "a.tar", "w") as archive:
            info = tarfile.TarInfo("x/a.png")
            info.size = 3
            archive.addfile(info, io.BytesIO(b"abc"))
            for name, (kind, target) in entries.items():
                info = tarfile.TarInfo(name.replace("__", "/"))
                info.type, info.linkname = kind, target
                archive.addfile(info)
        return contents(tmp_path / "a.tar")

    return make


@pytest.mark.parametrize(
    ("name", "kind", "target"),
    [
        ("y", tarfile.LNKTYPE, "x/a.png"),
        ("y", tarfile.LNKTYPE, "./x/a.png"),
        ("y", tarfile.SYMTYPE, "x/a.png"),
        ("x/y", tarfile.SYMTYPE, "a.png"),
        ("z/y", tarfile.SYMTYPE, "../x/a.png"),
    ],
)
def test_links_are_followed_inside_the_tar(linked, name, kind, target):
    found = linked(**{name: (kind, target)}, again=(tarfile.SYMTYPE, name))
    assert {str(member.path): member.read_bytes() for member in found.members} == dict.fromkeys(
        ("x/a.png", name, "again"), b"abc"
    )
    assert found.others == []


def test_what_is_no_file_is_told(linked):
    found = linked(
        gone=(tarfile.SYMTYPE, "nowhere"), out=(tarfile.SYMTYPE, "../x/a.png"), abs=(tarfile.SYMTYPE, "/x/a.png"),
        loop=(tarfile.SYMTYPE, "pool"), pool=(tarfile.SYMTYPE, "loop"), pipe=(tarfile.FIFOTYPE, ""),
        folder=(tarfile.DIRTYPE, ""),
    )  # fmt: skip
    assert [str(member.path) for member in found.members] == ["x/a.png"]
    assert {str(path): reason for path, reason in found.others} == {
        **dict.fromkeys(("gone", "out", "abs", "loop", "pool"), tars.DANGLING), "pipe": tars.SPECIAL,
    }  # fmt: skip


def test_of_several_files_of_one_name_the_last_counts(tmp_path):
    tar = write(tmp_path / "a.tar", {"a": b"old", "./a": b"new"})
    found = contents(tar)
    assert [member.read_bytes() for member in found.members] == [b"new"]
    assert found.others == [(PurePosixPath("a"), tars.REPLACED)]


def test_ranges_in_braces(tmp_path):
    assert [path.name for path in expand("s-{008..011}.tar")] == [
        f"s-{number}.tar" for number in ("008", "009", "010", "011")
    ]
    assert [path.name for path in expand("{0..1}-{0..1}.tar")] == ["0-0.tar", "0-1.tar", "1-0.tar", "1-1.tar"]
    odd = write(tmp_path / "{1..2}.tar", {})
    assert expand(str(odd)) == [odd]  # a file that is really called so
