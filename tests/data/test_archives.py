"""Runs whose images and masks lie in tar files."""

import json

import pytest
from generated import hole, photo, refine
from tars import png, sample, write


@pytest.fixture
def predict(tmp_path, tiny):
    return lambda input, *more: refine("predict", f"input={input}", f"output={tmp_path / 'out'}", *tiny, *more)


def results(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))


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
