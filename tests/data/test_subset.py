"""Drawn masks, truths and evaluation sets, through the commands that use them."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from generated import hole, pair, photo, refine, save
from PIL import Image

from refine.data.discovery import find_pairs
from refine.data.masks import MaskGenerator, joint_hash, mask_hash
from refine.data.pairs import ImageMaskPair
from refine.data.subset import draw, square
from refine.io.picture import Picture


@pytest.fixture
def photos(tmp_path) -> Path:
    for number, (width, height) in enumerate([(48, 40), (60, 44), (40, 70)]):
        save(tmp_path / "photos" / f"im{number}.png", photo(width, height, seed=number))
    return tmp_path / "photos"


def rows(output: Path) -> list[dict]:
    lines = (output / ".refine" / "rows-0.jsonl").read_text().split("\n")
    return [json.loads(line) for line in lines if line]


def summary(output: Path) -> dict:
    return json.loads((output / ".refine" / "summary.json").read_text())


def test_a_folder_of_photos_becomes_an_evaluation_set(tmp_path, photos, tiny):
    outcome = refine("predict", f"data={photos}", "masks=thick", f"output={tmp_path / 'out'}", *tiny)
    assert outcome.status == 0 and "refinement helped?" in outcome.err, outcome.err
    for row in rows(tmp_path / "out"):
        mask = MaskGenerator("thick")(row["key"], (row["height"], row["width"]))
        result, original = (np.asarray(Image.open(f / row["output"])) for f in (tmp_path / "out", photos))
        assert np.array_equal(result[~mask], original[~mask]) and row["hole"] == pytest.approx(mask.mean(), abs=1e-5)
        error = (result[mask].astype(float) - original[mask]) / 255
        assert row["psnr_hole_torchmetrics"] == pytest.approx(-10 * np.log10((error**2).mean()), abs=1e-3)
        assert row["verdict"] in ("better", "worse", "unsure") and row["peak_memory_mib"] > 50
        assert len(row["losses"]) == row["levels"] - 1 and all(len(level) == 3 for level in row["losses"])
    masks = refine("masks", f"input={photos}", f"output={tmp_path / 'masks'}", "kind=thick")
    assert masks.status == 0 and summary(tmp_path / "out")["masks_hash"] in masks.out
    header = (tmp_path / "out" / ".refine" / "rows.csv").read_text().splitlines()[0].split(",")
    assert "upscaled.ssim_hole_refine" in header and "losses" not in header


def test_masks_that_are_there_are_not_replaced_unasked(tmp_path, photos):
    out = tmp_path / "m"
    out.mkdir()
    (out / "im0.png").write_bytes(b"painted by hand")
    draw = ["masks", f"input={photos}", f"output={out}", "kind=thin"]
    first = refine(*draw)
    assert first.status == 1 and "failed: im0: " in first.out and "overwrite=true replaces it" in first.out
    assert (out / "im0.png").read_bytes() == b"painted by hand" and (out / "im1.png").exists()
    thin = (out / "im1.png").read_bytes()
    other = refine(*draw, "kind=thick")
    assert other.status == 2 and "holds masks of other settings (kind: thin -> thick)" in other.err
    assert (out / "im1.png").read_bytes() == thin
    assert refine(*draw).status == 1  # the same masks may be drawn again
    (out / "suite.json").write_text("[1]")  # no record of ours
    assert refine(*draw).status == 1
    refine(*draw, "overwrite=true")
    assert refine(*draw, "kind=thick", "overwrite=true").status == 0
    assert (out / "im0.png").read_bytes() != b"painted by hand" and (out / "im1.png").read_bytes() != thin


def test_written_masks_are_the_drawn_ones(tmp_path, photos, tiny):
    assert refine("masks", f"input={photos}", f"output={tmp_path / 'm'}", "kind=medium", "seed=3").status == 0
    for key, size in (("im0", (40, 48)), ("im2", (70, 40))):
        mask = cv2.imread(str(tmp_path / "m" / f"{key}.png"), cv2.IMREAD_UNCHANGED)
        assert np.array_equal(mask > 0, MaskGenerator("medium", 3)(key, size)) and set(np.unique(mask)) == {0, 255}
    record = json.loads((tmp_path / "m" / "suite.json").read_text())
    hashes = [
        mask_hash(f"im{i}", MaskGenerator("medium", 3)(f"im{i}", size))
        for i, size in enumerate([(40, 48), (44, 60), (70, 40)])
    ]
    assert record["hash"] == joint_hash(hashes) and record["n"] == 3
    drawn = ["masks=medium", "mask_seed=3"]
    for name, masks in (("drawn", drawn), ("read", [f"masks={tmp_path / 'm'}", "truth=input"])):
        assert refine("predict", f"input={photos}", f"output={tmp_path / name}", *masks, *tiny).status == 0
    assert (tmp_path / "drawn" / "im1.png").read_bytes() == (tmp_path / "read" / "im1.png").read_bytes()
    scores = [{row["key"]: row["ssim_hole_refine"] for row in rows(tmp_path / name)} for name in ("drawn", "read")]
    assert scores[0] == scores[1]


def test_mask_files_beside_photos_are_no_photos(tmp_path, tiny):
    pair(tmp_path / "in", "a", width=64, height=64)
    assert refine("predict", f"input={tmp_path / 'in'}", "masks=thin", f"output={tmp_path / 'o'}", *tiny).status == 0
    assert [row["key"] for row in rows(tmp_path / "o")] == ["a"]


def test_truths_of_their_own(tmp_path, tiny):
    pair(tmp_path / "in", "a")
    pair(tmp_path / "in", "sub/b", seed=1)
    pair(tmp_path / "in", "c", seed=2)
    save(tmp_path / "truth" / "a.jpg", photo(seed=5))
    save(tmp_path / "truth" / "sub" / "b.png", photo(seed=6))
    out = tmp_path / "out"
    outcome = refine("predict", f"input={tmp_path / 'in'}", f"truth={tmp_path / 'truth'}", f"output={out}", *tiny)
    assert outcome.status == 1 and "failed: c" in outcome.err and "truth" in outcome.err
    scores = {row["key"]: row["l1_hole_refine"] for row in rows(out)}
    result, hidden = np.asarray(Image.open(out / "sub" / "b.png"))[hole()], photo(seed=6)[hole()]
    assert set(scores) == {"a", "sub/b"}
    assert scores["sub/b"] == pytest.approx(np.abs(result - hidden.astype(float)).mean() / 255, abs=1e-5)


def test_without_truth_nothing_is_scored_against_it(tmp_path, tiny):
    pair(tmp_path / "in", "a")
    for name, evaluate in (("auto", "null"), ("true", "true"), ("false", "false")):
        arguments = [f"input={tmp_path / 'in'}", f"output={tmp_path / name}", f"evaluate={evaluate}"]
        assert refine("predict", *arguments, *tiny).status == 0
    auto, asked, none = (set(rows(tmp_path / name)[0]) for name in ("auto", "true", "false"))
    assert auto - none == {"known_l1_refine", "guide_l1_hole_refine", "seam_refine"}
    assert asked - auto == {
        f"{arm}.{score}" for arm in ("plain", "upscaled") for score in ("guide_l1_hole_refine", "seam_refine")
    }
    assert "psnr_hole_torchmetrics" not in asked


def test_a_score_that_fails_costs_no_result(tmp_path, photos, tiny, monkeypatch):
    monkeypatch.setattr("refine.metrics.evaluator.scores", lambda *_: 1 / 0)
    outcome = refine("predict", f"input={photos}", "masks=thick", f"output={tmp_path / 'out'}", *tiny)
    assert outcome.status == 0 and "im0: cannot be scored (ZeroDivisionError" in outcome.err
    assert len(list((tmp_path / "out").glob("*.png"))) == 3


def test_resized_to_a_square(tmp_path, photos, tiny):
    save(photos / "small.png", photo(30, 50))
    arguments = ["masks=thick", "data.side=40", f"output={tmp_path / 'out'}"]
    outcome = refine("predict", f"input={photos}", *arguments, *tiny)
    assert outcome.status == 1 and "small" in outcome.err and "30x50, smaller than data.side=40" in outcome.err
    assert {(row["height"], row["width"]) for row in rows(tmp_path / "out")} == {(40, 40)}
    again = refine("predict", f"input={photos}", "masks=thick", f"output={tmp_path / 'out'}", *tiny)
    assert again.status == 2 and "side" in again.err


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_square_keeps_kind_and_middle(dtype, channels):
    values = np.zeros((20, 60, channels), dtype)
    values[:, 20:40] = np.iinfo(dtype).max
    alpha = values[..., 3] if channels == 4 else None
    made = square(Picture(values[..., :3], alpha), 10)
    assert made.pixels.dtype == dtype and made.size == (10, 10)
    assert (made.pixels == np.iinfo(dtype).max).all() and (alpha is None) == (made.alpha is None)


def test_drawing_is_by_key_and_stable():
    pairs = [ImageMaskPair(f"im{i}", Path(f"{i}.png"), MaskGenerator("thin")) for i in range(50)]
    drawn = draw(pairs, 10, 0)
    assert drawn == [entry for entry in pairs if entry in drawn] and len(drawn) == 10
    assert {entry.key for entry in draw(pairs[::-1], 10, 0)} == {entry.key for entry in drawn}
    assert draw(pairs, 10, 1) != drawn and draw(pairs, None, 0) == pairs
    with pytest.raises(ValueError, match=r"data.limit=51: got 50 images"):
        draw(pairs, 51, 0)


def test_the_papers_protocol_from_a_users_copy(tmp_path, tiny):
    folder = tmp_path / "unsplash"
    for number in range(5):
        save(folder / f"id{number}.jpg", photo(60, 50, seed=number))
    (folder / "photos.tsv000").write_text("photo_id\tphoto_url\n" + "".join(f"id{i}\thttp\n" for i in range(4)))
    small = ["data.side=40", "data.limit=3", "masks=thick"]
    outcome = refine("predict", "data=unsplash_lite", f"input={folder}", *small, f"output={tmp_path / 'o'}", *tiny)
    assert outcome.status == 0, outcome.err
    assert len(rows(tmp_path / "o")) == 3 and "id4" not in {row["key"] for row in rows(tmp_path / "o")}
    (folder / "photos.tsv000").write_text("id\n1\n")
    wrong = refine("predict", "data=unsplash_lite", f"input={folder}", *small, f"output={tmp_path / 'p'}", *tiny)
    assert wrong.status == 2 and "expected a column photo_id" in wrong.err


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("mask_dilate=3", "mask_invert and mask_dilate are for files"),
        ("metrics=[speed]", "metrics.0=speed: expected 'lpips', 'lpips_squeeze', 'fid' or 'kid'"),
        ("evaluate=maybe", "expected true or false"),
        ("data=nowhere", "nowhere"),
        ("mask_area=2", "mask"),
    ],
)
def test_requests_without_sense(tmp_path, photos, tiny, override, message):
    outcome = refine("predict", f"input={photos}", "masks=thick", f"output={tmp_path / 'out'}", *tiny, override)
    assert outcome.status == 2 and message in outcome.err and not (tmp_path / "out").exists()


def test_scores_of_sets(tmp_path, photos, tiny):
    """With a small network in Inception's place, whose weights are not here."""
    features = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten())
    network = tmp_path / "means.pt"
    torch.jit.save(torch.jit.script(features), network)
    run = ["predict", f"input={photos}", "masks=thick", f"output={tmp_path / 'out'}", *tiny]
    assert refine(*run, "metrics=[fid]", f"fid_network={network}").status == 0
    record = summary(tmp_path / "out")["sets"]["fid"]
    assert record["n"] == 3 and record["value"] >= 0 and "torchmetrics" in record["implementation"]
    assert record["network"] == "means.pt" and len(record["weights_sha256"]) == 64 and record["resize"]


@pytest.mark.parametrize(("score", "module"), [("fid", "torch_fidelity"), ("lpips", "torchvision")])
def test_scores_that_are_not_installed_are_told_before_any_work(tmp_path, photos, tiny, monkeypatch, score, module):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    run = ["predict", f"input={photos}", "masks=thick", f"output={tmp_path / 'out'}", f"metrics=[{score}]", *tiny]
    outcome = refine(*run)
    assert outcome.status == 2 and not (tmp_path / "out").exists()
    assert f"error: metrics=[{score}]: " in outcome.err and f"needs {module}, which is not installed" in outcome.err
    outcome = refine(*run, "fid_network=nowhere.pt", "metrics=[kid]")
    assert outcome.status == 2 and "nowhere.pt" in outcome.err and not (tmp_path / "out").exists()


def test_scores_of_the_set_that_fail_cost_no_result(tmp_path, photos, tiny, monkeypatch):
    def fails(*arguments):
        raise OSError("no download")

    monkeypatch.setattr("refine.inference.conclude.set_scores", fails)
    monkeypatch.setattr("refine.inference.session.check_available", lambda *arguments: None)
    run = ["predict", f"input={photos}", "masks=thick", f"output={tmp_path / 'out'}", "metrics=[fid]", *tiny]
    outcome = refine(*run)
    assert outcome.status == 1 and "failed: metrics=[fid]: OSError: no download" in outcome.err
    assert len(rows(tmp_path / "out")) == 3
    assert "no download" in summary(tmp_path / "out")["sets"]["error"]


def test_images_that_a_table_or_a_limit_leaves_out_are_named_and_counted(tmp_path, photos, tiny):
    (tmp_path / "photos.tsv").write_text("photo_id\tx\nim0\t1\nim1\t1\n")
    chosen = [f"data.table={tmp_path / 'photos.tsv'}", "data.limit=1"]
    outcome = refine("predict", f"data={photos}", "masks=thick", f"output={tmp_path / 'out'}", *tiny, *chosen)
    assert outcome.status == 0, outcome.err
    assert "not used: 2 files (not in data.table: 1, not drawn for data.limit: 1); all are named" in outcome.err
    assert summary(tmp_path / "out")["not_used"] == {"not in data.table": 1, "not drawn for data.limit": 1}
    (drawn,) = (row["key"] for row in rows(tmp_path / "out"))
    log = (tmp_path / "out" / ".refine" / "log.txt").read_text()
    (other,) = {"im0", "im1"} - {drawn}
    assert "not used: im2: not in data.table" in log and f"not used: {other}: not drawn for data.limit" in log
    masks = refine("masks", f"input={photos}", f"output={tmp_path / 'masks'}", "kind=thick", *chosen)
    assert "not used: 2 files (not in data.table: 1, not drawn for data.limit: 1)" in masks.out


def test_truths_that_no_image_has_are_counted_like_such_masks(tmp_path, tiny):
    for name in ("a", "b"):
        pair(tmp_path / "in", name)
        save(tmp_path / "truths" / f"{name}.png", photo())
    save(tmp_path / "truths" / "sub" / "c.png", photo())
    (tmp_path / "truths" / "notes.txt").touch()
    settings = [f"input={tmp_path / 'in'}", f"truth={tmp_path / 'truths'}", f"output={tmp_path / 'out'}"]
    outcome = refine("predict", *settings, *tiny)
    assert outcome.status == 0, outcome.err
    assert summary(tmp_path / "out")["not_used"] == {".txt": 1, "truth without an image": 1}
    log = (tmp_path / "out" / ".refine" / "log.txt").read_text()
    assert "not used: truths/sub/c.png: truth without an image" in log


def test_masks_in_the_folder_of_the_truths_are_no_truths_without_an_image(tmp_path):
    save(tmp_path / "in" / "a.png", photo())
    save(tmp_path / "set" / "a.png", photo())
    save(tmp_path / "set" / "masks" / "a.png", hole())
    truth, masks = str(tmp_path / "set"), str(tmp_path / "set" / "masks")
    assert find_pairs(str(tmp_path / "in"), None, masks, "/nowhere", truth).unused == []
