"""Samples inside tar files."""

import io
import json
import os
import tarfile

import numpy as np
import pytest
from generated import hole, photo, refine
from PIL import Image

from refine.io.decode import read_size
from refine.io.tar import expand, members, samples


def png(values) -> bytes:
    Image.fromarray(values.astype(np.uint8) * 255 if values.dtype == bool else values).save(file := io.BytesIO(), "PNG")
    return file.getvalue()


def write(tar, files: dict[str, bytes]):
    tar.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(tar, "w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return tar


def sample(key: str, seed: int = 0) -> dict[str, bytes]:
    return {f"{key}.png": png(photo(seed=seed)), f"{key}.mask.png": png(hole()), f"{key}.json": b"{}"}


@pytest.fixture
def predict(tmp_path, tiny):
    return lambda input, *more: refine("predict", f"input={input}", f"output={tmp_path / 'out'}", *tiny, *more)


def results(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))


def test_members_read_like_files(tmp_path):
    tar = write(tmp_path / "a.tar", sample("x/1"))
    image, mask, notes = members(tar)
    assert image.read_bytes() == png(photo()) and notes.read_bytes() == b"{}" and mask.is_file() and image.exists()
    assert str(image) == f"{tar}/x/1.png" and image.name == "1.png" and not image.with_suffix(".jpg").exists()
    with image.open("rb") as stream:
        assert read_size(stream) == (40, 48)
        assert stream.seek(-12, os.SEEK_END) and stream.read(100) == png(photo())[-12:] and stream.read(1) == b""
    assert samples(tar) == ({"x/1": {"": image, "mask": mask}}, "")


def test_ranges_in_braces(tmp_path):
    assert [path.name for path in expand("s-{008..011}.tar")] == [
        f"s-{number}.tar" for number in ("008", "009", "010", "011")
    ]
    assert [path.name for path in expand("{0..1}-{0..1}.tar")] == ["0-0.tar", "0-1.tar", "1-0.tar", "1-1.tar"]
    odd = write(tmp_path / "{1..2}.tar", {})
    assert expand(str(odd)) == [odd]  # a file that is really called so


@pytest.mark.parametrize("given", ["", "s-{0..1}.tar"])
def test_tars_give_what_a_folder_gives(tmp_path, predict, given):
    write(tmp_path / "tars" / "s-0.tar", sample("a", 1) | sample("x/b", 2))
    write(tmp_path / "tars" / "s-1.tar", sample("ü", 3))
    for key, seed in (("a", 1), ("x/b", 2), ("ü", 3)):
        (tmp_path / "in" / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / f"{key}.png").write_bytes(png(photo(seed=seed)))
        (tmp_path / "in" / f"{key}_mask.png").write_bytes(png(hole()))
    outcome = predict(tmp_path / "in", f"output={tmp_path / 'folder'}")
    assert outcome.status == 0
    outcome = predict(tmp_path / "tars" / given)
    assert outcome.status == 0 and "3 done" in outcome.err, outcome.err
    assert results(tmp_path / "out") == results(tmp_path / "folder") == ["a.png", "x/b.png", "ü.png"]
    for name in results(tmp_path / "out"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "folder" / name).read_bytes()
    assert "0 done, 3 already there" in predict(tmp_path / "tars" / given).err


def test_drawn_masks_go_into_whole_photos(tmp_path, predict):
    write(tmp_path / "s.tar", {"a.jpg": png(photo(96, 80)), "b.png": png(photo(90, 96))})
    outcome = predict(tmp_path / "s.tar", "masks=thin")
    assert outcome.status == 0 and results(tmp_path / "out") == ["a.png", "b.png"], outcome.err
    rows = (tmp_path / "out" / ".refine" / "rows-0.jsonl").read_text().split("\n")[1:]
    assert all("plain.psnr_hole_torchmetrics" in json.loads(row) for row in rows)


def test_one_bad_sample_or_tar_costs_itself(tmp_path, predict):
    bad = {"lonely.png": png(photo()), "orphan.mask.png": png(hole()), "broken.png": b"no image"}
    write(tmp_path / "in" / "0.tar", sample("a") | bad | {"broken.mask.png": png(hole())})
    (tmp_path / "in" / "1.tar").write_bytes(b"no tar at all" * 100)
    cut = write(tmp_path / "in" / "2.tar", sample("b") | sample("c"))
    cut.write_bytes(cut.read_bytes()[:-12000])
    outcome = predict(tmp_path / "in")
    assert outcome.status == 1 and results(tmp_path / "out") == ["a.png", "b.png"], outcome.err
    said = [
        "lonely: has no mask in",
        "orphan: has no image in",
        "broken: cannot read",
        "1.tar: cannot be read to its end",
    ]
    assert all(text in outcome.err for text in said), outcome.err


@pytest.mark.parametrize(("input", "message"), [
    ("s-{0..2}.tar", "no such file"),
    ("s-0.tar.gz", "no such file"),
])  # fmt: skip
def test_what_is_not_there(tmp_path, predict, input, message):
    outcome = predict(tmp_path / input)
    assert outcome.status == 2 and message in outcome.err


def test_names_that_lead_outside_are_refused(tmp_path, predict):
    write(tmp_path / "s.tar", sample("../a"))
    outcome = predict(tmp_path / "s.tar")
    assert outcome.status == 2 and "must be a path inside the output folder" in outcome.err
