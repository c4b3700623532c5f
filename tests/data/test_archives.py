"""Runs whose images and masks lie in tar files."""

import io
import json
import tarfile

import pytest
from generated import hole, photo, refine
from hypothesis import given, settings
from hypothesis import strategies as st
from listings import find, unused
from tars import png, sample, write

from refine.data.archives import BESIDE, DRAWN, PART, pairs_in_tars
from refine.data.discovery import find_pairs
from refine.data.masks import MaskGenerator
from refine.data.pairs import HIDDEN
from refine.io.tar import DANGLING, REPLACED


@pytest.fixture
def predict(tmp_path, tiny):
    return lambda input, *more: refine("predict", f"input={input}", f"output={tmp_path / 'out'}", *tiny, *more)


def listed(tar, generator=None):
    """``{key: (name of image, name of mask)}``, failures, ``{name inside the tar: reason}`` of a tar of empty files."""
    listing = pairs_in_tars(tar, [tar], generator, tar.parent / "out")
    inside = {entry.name.removeprefix(f"{tar}/"): entry.reason for entry in listing.unused}
    pairs = {pair.key: (str(pair.image.path), str(getattr(pair.mask, "path", "drawn"))) for pair in listing.pairs}
    return pairs, {failure.key: failure.reason.split(" in ")[0] for failure in listing.failures}, inside


def empty(tar, *names):
    return write(tar, dict.fromkeys(names, b""))


def results(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))


@pytest.mark.parametrize("pattern", ["", "s-{0..1}.tar"])
def test_tars_give_what_a_folder_gives(tmp_path, predict, pattern):
    write(tmp_path / "tars" / "s-0.tar", sample("a", 1) | sample("x/b", 2))
    write(tmp_path / "tars" / "s-1.tar", sample("ü", 3))
    for key, seed in (("a", 1), ("x/b", 2), ("ü", 3)):
        (tmp_path / "in" / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / f"{key}.png").write_bytes(png(photo(seed=seed)))
        (tmp_path / "in" / f"{key}_mask.png").write_bytes(png(hole()))
    outcome = predict(tmp_path / "in", f"output={tmp_path / 'folder'}")
    assert outcome.status == 0
    outcome = predict(tmp_path / "tars" / pattern)
    assert outcome.status == 0 and "3 done" in outcome.err, outcome.err
    assert results(tmp_path / "out") == results(tmp_path / "folder") == ["a.png", "x/b.png", "ü.png"]
    for name in results(tmp_path / "out"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "folder" / name).read_bytes()
    assert "0 done, 3 already there" in predict(tmp_path / "tars" / pattern).err


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


@pytest.mark.parametrize(
    ("input", "name"),
    [
        *((f"s{suffix}", f"s{suffix}") for suffix in (".tgz", ".tar.gz", ".tar.bz2", ".TAR.XZ", ".tar.zst")),
        ("s-{0..1}.tar.gz", "s-0.tar.gz"),
    ],
)
def test_a_compressed_tar_is_named_as_such(tmp_path, input, name):
    (tmp_path / name).touch()
    with pytest.raises(ValueError, match=f"input=.*{name}: a compressed tar; unpack it, or make it without compress"):
        find_pairs(str(tmp_path / input), None, None, "/nowhere")


def test_names_that_lead_outside_are_refused(tmp_path, predict):
    write(tmp_path / "s.tar", sample("../a"))
    outcome = predict(tmp_path / "s.tar")
    assert outcome.status == 2 and "must be a path inside the output folder" in outcome.err


def test_dots_in_names(tmp_path):
    names = (
        "v1.0/x.png",
        "v1.0/x.mask.png",
        "22.05.png",
        "22.05.mask.png",
        "./a.PNG",
        "a.Mask.jpg",
        "b.gif",
        "b.mask.png",
    )
    pairs, failures, others = listed(empty(tmp_path / "a.tar", *names))
    assert pairs == {
        "v1.0/x": ("v1.0/x.png", "v1.0/x.mask.png"),
        "22.05": ("22.05.png", "22.05.mask.png"),
        "a": ("a.PNG", "a.Mask.jpg"),
        "b": ("b.gif", "b.mask.png"),
    }
    assert failures == others == {}


def test_what_is_neither_image_nor_mask_is_named(tmp_path):
    names = ("a.png", "a.mask.png", "a.depth.png", "a.json", "b.x.png", "c.mask.png", "._a.png", ".d/e.png", "readme")
    expected = {"a.json": ".json", "readme": "no suffix", "._a.png": HIDDEN, ".d/e.png": HIDDEN, "a.depth.png": PART}
    tar = empty(tmp_path / "a.tar", *names)
    assert listed(tar) == ({"a": ("a.png", "a.mask.png")}, {"b.x": "has no mask", "c": "has no image"}, expected)
    assert listed(tar, MaskGenerator("thin")) == (
        {"a": ("a.png", "drawn"), "b.x": ("b.x.png", "drawn")},
        {"c": "has no image"},
        {**expected, "a.mask.png": DRAWN},
    )


@pytest.mark.parametrize("names", [("x.jpg", "x.png", "x.mask.png"), ("x.png", "x.mask.png", "x.mask.jpg")])
def test_one_key_twice_in_a_tar_is_refused(tmp_path, names):
    with pytest.raises(ValueError, match=r"several inputs would write the result 'x'.*Rename them"):
        find(empty(tmp_path / "a.tar", *names))


def test_unicode_forms_of_one_name_match(tmp_path):
    image, mask = "caf\xe9.png", "cafe\u0301.mask.png"
    assert listed(empty(tmp_path / "a.tar", image, mask)) == ({"caf\xe9": (image, mask)}, {}, {})


def test_links_in_a_tar_are_followed_or_named(tmp_path, predict):
    tar = write(tmp_path / "a.tar", sample("a") | {"b.png": png(photo(seed=1))})
    with tarfile.open(tar, "a") as archive:
        for name, kind, target in (
            ("b.mask.png", tarfile.LNKTYPE, "a.mask.png"),
            ("c.png", tarfile.SYMTYPE, "gone.png"),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            archive.addfile(info)
    outcome = predict(tar)
    assert outcome.status == 0 and results(tmp_path / "out") == ["a.png", "b.png"], outcome.err
    assert f"not used: 2 files ({DANGLING}: 1, .json: 1); all are named in .refine/log.txt" in outcome.err
    log = (tmp_path / "out" / ".refine" / "log.txt").read_text()
    assert f"not used: {tar}/c.png: {DANGLING}" in log and f"not used: {tar}/a.json: .json" in log
    summary = json.loads((tmp_path / "out" / ".refine" / "summary.json").read_text())
    assert summary["not_used"] == {".json": 1, DANGLING: 1}


def test_what_lies_beside_tars_is_named(tmp_path):
    empty(tmp_path / "in" / "s.TAR", "a.png", "a.mask.png")
    empty(tmp_path / "in" / "sub" / "t.tar")
    (tmp_path / "in" / "notes.txt").touch(), (tmp_path / "in" / "sub" / "b.png").touch()
    nested = "tar that does not lie directly in a folder of tars"
    assert [pair.key for pair in find_pairs(str(tmp_path / "in"), None, None, "/nowhere").pairs] == ["a"]
    assert unused(tmp_path / "in") == {"sub/t.tar": nested, "notes.txt": ".txt", "sub/b.png": BESIDE}
    (tmp_path / "in" / "c.png").touch(), (tmp_path / "in" / "c_mask.png").touch()
    assert list(find(tmp_path / "in")[0]) == ["c"]
    assert unused(tmp_path / "in") == {"s.TAR": nested, "sub/t.tar": nested, "notes.txt": ".txt"}


STEMS = st.sampled_from(["a", "b", "a.b", "a.b.c", "caf\xe9", "cafe\u0301", "v1.0/x", "v1.0/x.y", "._a", ".d/a"])
SUFFIXES = st.sampled_from([".png", ".JPG", ".mask.png", ".MASK.jpg", ".gif", ".heic", ".txt", ".json", "", ".mask"])


@pytest.mark.parametrize("generator", [None, MaskGenerator("thin")])
@settings(deadline=None, max_examples=40)
@given(names=st.lists(st.builds("{}{}".format, STEMS, SUFFIXES), max_size=12))
def test_every_file_of_a_tar_is_used_or_failed_or_named(tmp_path_factory, generator, names):
    tar = tmp_path_factory.mktemp("any") / "a.tar"
    with tarfile.open(tar, "w") as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    listing = pairs_in_tars(tar, [tar], generator, tar.parent / "out")
    used = {str(file) for pair in listing.pairs for file in pair.files}
    named = [entry.name for entry in listing.unused]
    failed = {failure.key for failure in listing.failures}
    left = {f"{tar}/{name}" for name in names} - used - set(named)
    assert sum(entry.reason == REPLACED for entry in listing.unused if ".d" not in entry.name) <= len(names) - len(
        set(names)
    )
    assert used.isdisjoint(entry.name for entry in listing.unused if entry.reason != REPLACED)
    assert all(any(name.startswith(f"{tar}/{key}.") for key in failed) for name in left)
    assert len(used) + len(named) + len(listing.failures) == len(names)
