"""The main job on generated images: what comes out, under which name, and whatever is thrown at it."""

import csv
import errno
import io
import json
import os
import pickle
import signal
import struct
import zlib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from generated import hole, pair, photo, refine, replaced, save
from PIL import ExifTags, Image
from rich.console import Console

from refine.backbones.lama.adapter import LaMa
from refine.core.types import Step
from refine.inference import fingerprint
from refine.inference.callbacks.progress import ProgressBar, TimeLeft
from refine.inference.run_folder import RunFolder
from refine.metrics.lpips import squeezenet


@pytest.fixture(autouse=True)
def elsewhere(tmp_path_factory, monkeypatch):
    """An empty working directory, in which nothing may be left."""
    folder = tmp_path_factory.mktemp("cwd")
    monkeypatch.chdir(folder)
    yield folder
    assert list(folder.iterdir()) == []


@pytest.fixture
def predict(tmp_path, tiny):
    """Run the command on ``in`` into ``out``; overrides come last and win."""

    def run(*overrides: str):
        return refine("predict", f"input={tmp_path / 'in'}", f"output={tmp_path / 'out'}", *tiny, *overrides)

    return run


def read(path: Path) -> np.ndarray:
    """Integers of a file as they are, ``(H, W, C)`` RGB(A)."""
    values = np.atleast_3d(cv2.imread(str(path), cv2.IMREAD_UNCHANGED))
    return values[..., [2, 1, 0, 3][: values.shape[2]]] if values.shape[2] > 2 else values


def results(output: Path) -> list[str]:
    """Names of all results, relative to the output folder."""
    return sorted(str(file.relative_to(output)) for file in output.rglob("*") if file.is_file() and not inner(file))


def inner(file: Path) -> bool:
    return ".refine" in file.parts


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as stream:
        return list(csv.DictReader(stream))


def failures(output: Path) -> dict[str, str]:
    return {row["key"]: row["reason"] for row in table(output / ".refine" / "failures.csv")}


def stamps(output: Path) -> dict[str, tuple[int, int]]:
    """Time and inode of every result: both stay only if nobody wrote it."""
    return {name: ((output / name).stat().st_mtime_ns, (output / name).stat().st_ino) for name in results(output)}


# Pixels


def write_16(path: Path, values: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), values[..., ::-1] if values.shape[2] == 3 else values)
    return path


@pytest.mark.parametrize("format", ["png", "tiff"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_known_pixels_come_back_exactly(tmp_path, predict, dtype, channels, format):
    original = photo(channels=channels, dtype=dtype)
    write_16(tmp_path / "in" / "a.png", original)
    save(tmp_path / "in" / "a_mask.png", hole())
    assert predict(f"format={format}").status == 0
    result = read(tmp_path / "out" / f"a.{format}")
    assert result.dtype == dtype and result.shape == original.shape
    assert np.array_equal(result[~hole()], original[~hole()])
    assert not np.array_equal(result[hole()], original[hole()])


@pytest.mark.parametrize("mode", ["RGBA", "L", "LA", "P", "1"])
def test_modes_are_kept(tmp_path, predict, mode):
    original = Image.fromarray(photo(channels=4 if "A" in mode else 3)).convert(mode)
    (tmp_path / "in").mkdir()
    original.save(tmp_path / "in" / "a.png")
    save(tmp_path / "in" / "a_mask.png", hole())
    assert predict().status == 0
    expected = {"P": "RGB", "1": "L"}.get(mode, mode)
    with Image.open(tmp_path / "out" / "a.png") as result:
        assert result.mode == expected
        got, original = np.atleast_3d(np.asarray(result)), np.atleast_3d(np.asarray(original.convert(expected)))
    assert np.array_equal(got[~hole()], original[~hole()])
    if mode in ("RGBA", "LA"):
        assert np.array_equal(got[..., -1], np.where(hole(), 255, original[..., -1]))


def test_transparency_as_the_mask(tmp_path, predict):
    opaque = np.full((40, 48), 255, np.uint8)
    clear = np.where(hole(), 0, 255).astype(np.uint8)
    save(tmp_path / "in" / "a.png", np.dstack([photo(), clear]))
    save(tmp_path / "in" / "b.png", photo())
    save(tmp_path / "truth" / "a.png", photo())
    outcome = predict("mask=alpha", f"truth={tmp_path / 'truth'}")
    assert outcome.status == 1 and "the image has no alpha channel" in failures(tmp_path / "out")["b"]
    result = read(tmp_path / "out" / "a.png")
    assert np.array_equal(result[..., 3], opaque) and np.array_equal(result[~hole()][:, :3], photo()[~hole()])
    (row,) = table(tmp_path / "out" / ".refine" / "rows.csv")
    error = ((result[..., :3][hole()] / 255.0 - photo()[hole()] / 255.0) ** 2).mean()
    assert float(row["psnr_hole_torchmetrics"]) == pytest.approx(-10 * np.log10(error), abs=1e-3)
    assert float(row["plain.psnr_hole_torchmetrics"]) > 0 and float(row["upscaled.psnr_hole_torchmetrics"]) > 0


def test_thirty_sizes_are_kept(tmp_path, predict):
    random = np.random.default_rng(0)
    sizes = [(1, 1), (1, 60), (60, 1), (2, 3), (7, 7), (8, 33), *random.integers(1, 70, (24, 2)).tolist()]
    for number, (width, height) in enumerate(sizes):
        pair(tmp_path / "in", f"s{number}", number, width, height)
    assert predict("refiner.steps=1").status == 0
    for number, (width, height) in enumerate(sizes):
        result, known = read(tmp_path / "out" / f"s{number}.png"), ~hole(width, height)
        assert result.shape == (height, width, 3)
        assert np.array_equal(result[known], photo(width, height, seed=number)[known])


def test_two_runs_give_the_same_bytes(tmp_path, predict):
    pair(tmp_path / "in", "a", width=70, height=60)
    for output in ("one", "two"):
        assert predict(f"output={tmp_path / output}").status == 0
    assert (tmp_path / "one" / "a.png").read_bytes() == (tmp_path / "two" / "a.png").read_bytes()


def test_threads_beside_the_refinement_change_nothing(tmp_path, predict):
    for number in range(7):
        pair(tmp_path / "in", f"im{number}", number)
    (tmp_path / "in" / "im3.png").write_bytes(b"no image")
    save(tmp_path / "in" / "im5_mask.png", hole(9, 9))
    found = []
    for workers in (0, 2):
        output = tmp_path / f"out{workers}"
        assert predict(f"workers={workers}", f"output={output}", "truth=input", "evaluate=true").status == 1
        rows = [{k: v for k, v in row.items() if k not in ("seconds", "peak_memory_mib")}
                for row in table(output / ".refine" / "rows.csv")]  # fmt: skip
        assert [row["key"] for row in rows] == ["im0", "im1", "im2", "im4", "im6"]
        assert float(rows[0]["plain.psnr_hole_torchmetrics"]) > 0 and rows[0]["verdict"]
        found.append((rows, failures(output), [(output / name).read_bytes() for name in results(output)]))
    assert list(found[0][1]) == list(found[1][1]) == ["im3", "im5"] and found[0] == found[1]


def test_refinement_changes_the_result(tmp_path, predict):
    pair(tmp_path / "in", "a")
    for preset in ("off", "default", "upscaled"):
        assert predict(f"output={tmp_path / preset}", f"preset={preset}", "objective.erosion=1").status == 0
    different = {(tmp_path / preset / "a.png").read_bytes() for preset in ("off", "default", "upscaled")}
    assert len(different) == 3


def test_holes_too_thin_to_be_refined_are_told(tmp_path, predict):
    thin, wide = np.zeros((40, 48), bool), np.zeros((40, 48), bool)
    thin[20:23], wide[2:38, 2:46] = True, True
    for name, mask in {"thin": thin, "wide": wide}.items():
        save(tmp_path / "in" / f"{name}.png", photo())
        save(tmp_path / "in" / f"{name}_mask.png", mask)
    fixed = predict("preset=paper", "objective.erosion=9")
    assert fixed.status == 0 and fixed.err.count("objective.adaptive=true") == 1
    assert "nothing refined: 1 of 2 images have holes too thin" in fixed.err
    rows = {row["key"]: row for row in table(tmp_path / "out" / ".refine" / "rows.csv")}
    told = {key: (row["updates"], row["levels_refined"], row["nothing_refined"]) for key, row in rows.items()}
    assert told == {"thin": ("0", "0", "1"), "wide": ("2", "1", "0")}
    assert "thin 48x40: none of its 1 levels was refined" in (tmp_path / "out" / ".refine" / "log.txt").read_text()
    adaptive = predict("preset=paper", "objective.erosion=9", "objective.adaptive=true", "overwrite=true")
    assert adaptive.status == 0 and "nothing refined" not in adaptive.err
    rows = {row["key"]: row for row in table(tmp_path / "out" / ".refine" / "rows.csv")}
    assert {key: row["updates"] for key, row in rows.items()} == {"thin": "2", "wide": "2"}


def test_a_loss_that_is_never_finite_is_told(tmp_path, predict, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(
        "import dataclasses, refine\n"
        "class Broken(refine.MultiscaleL1):\n"
        "    def prepare(self, level, guide):\n"
        "        whole = super().prepare(level, guide)\n"
        "        return dataclasses.replace(whole, loss=lambda prediction: whole.loss(prediction) * float('nan'))\n"
    )
    pair(tmp_path / "in", "a")
    result = predict("objective._target_=mine.Broken", "objective.erosion=1")
    assert result.status == 0
    log = (tmp_path / "out" / ".refine" / "log.txt").read_text()
    assert "a 48x40: at 1 of its 1 levels no prediction, or no loss, was finite" in log
    assert "not finite: 1 of 1 images have levels" in result.err
    (row,) = table(tmp_path / "out" / ".refine" / "rows.csv")
    assert (row["kept"], row["not_finite"], row["nothing_refined"]) == ("-1", "1", "0")


def test_the_summary_is_json_whatever_a_score_is(tmp_path, predict):
    pair(tmp_path / "in", "a")  # too small for MS-SSIM
    assert predict("truth=input").status == 0

    def refuse(word):
        raise AssertionError(word)

    text = (tmp_path / "out" / ".refine" / "summary.json").read_text()
    scores = json.loads(text, parse_constant=refuse)["scores"]
    assert scores["ms_ssim_image_torchmetrics"] == {"mean": None, "error": None, "n": 0}


def test_tables_that_cannot_be_written_cost_no_word(tmp_path, predict, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    pair(tmp_path / "in", "a")
    (tmp_path / "in" / "b.png").write_bytes(b"no image")
    save(tmp_path / "in" / "b_mask.png", hole())
    monkeypatch.setattr("refine.inference.run_folder.as_csv", full)
    result = predict()
    assert result.status == 1 and "failed: b: " in result.err and "1 done, 1 failed" in result.err
    assert f"failed: tables: output={tmp_path / 'out'} cannot be written (No space left on device)" in result.err


def test_the_largest_photo_is_a_setting(tmp_path, predict):
    pair(tmp_path / "in", "a", height=40, width=50)
    result = predict("data.megapixels=0.0019")
    assert result.status == 1 and "a.png': it is 50x40, 0.002 megapixels, and up to 0.0019 are read" in result.err
    assert "if you trust it, let refine predict take more by data.megapixels=" in result.err
    assert not predict("data.megapixels=0.0021").status


def test_holes_empty_full_and_at_the_border(tmp_path, predict):
    border = np.ones((40, 48), bool)
    border[5:-5, 5:-5] = False
    masks = {"empty": np.zeros((40, 48), bool), "full": np.ones((40, 48), bool), "border": border}
    for name, mask in masks.items():
        save(tmp_path / "in" / f"{name}.png", photo())
        save(tmp_path / "in" / f"{name}_mask.png", mask)
    outcome = predict()
    assert outcome.status == 0
    assert outcome.err.count("has all hole:") == 1 and outcome.err.count("has no hole at all:") == 1
    for name, mask in masks.items():
        result = read(tmp_path / "out" / f"{name}.png")
        assert np.array_equal(result[~mask], photo()[~mask])
        assert mask.any() != np.array_equal(result, photo())


def test_orientation_is_applied_and_notes_are_kept(tmp_path, predict):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation], exif[ExifTags.Base.Artist] = 6, "somebody"
    save(tmp_path / "in" / "a.jpg", photo(40, 48), exif=exif, icc_profile=b"profile", quality=95)
    save(tmp_path / "in" / "a_mask.png", hole(48, 40))  # of the upright size
    assert predict().status == 0
    with Image.open(tmp_path / "in" / "a.jpg") as source, Image.open(tmp_path / "out" / "a.png") as result:
        upright = np.rot90(np.asarray(source), -1)
        assert result.info["icc_profile"] == b"profile"
        assert (
            ExifTags.Base.Orientation not in result.getexif() and result.getexif()[ExifTags.Base.Artist] == "somebody"
        )
        assert np.array_equal(np.asarray(result)[~hole()], upright[~hole()])


def test_mask_options(tmp_path, predict):
    gray = np.where(hole(), 100, 0).astype(np.uint8)
    save(tmp_path / "in" / "a.png", photo())
    save(tmp_path / "in" / "a_mask.png", gray)
    assert "no hole at all" in predict(f"output={tmp_path / 'plain'}", "mask_channel=luminance").err
    assert predict("mask_threshold=0.3", "mask_dilate=2", "mask_invert=true").status == 0
    result = read(tmp_path / "out" / "a.png")
    changed = (result != photo()).any(axis=2)
    assert not changed[cv2.erode(hole().astype(np.uint8), np.ones((5, 5), np.uint8)) > 0].any()
    assert changed[~hole()].mean() > 0.9


@pytest.mark.parametrize("workers", [0, 2])
def test_masks_worth_a_look_are_all_in_the_log_and_counted_at_the_end(tmp_path, predict, workers):
    kinds = {
        "labels": hole() + 2 * hole()[::-1],
        "empty": 0 * hole(),
        "full": 255 - 0 * hole(),
        "ordinary": 255 * hole(),
    }
    for kind, count in {"labels": 5, "empty": 2, "full": 1, "ordinary": 2}.items():
        for number in range(count):
            save(tmp_path / "in" / f"{kind}{number}.png", photo(seed=number))
            save(tmp_path / "in" / f"{kind}{number}_mask.png", kinds[kind].astype(np.uint8))
    outcome = predict("preset=plain", "refiner.steps=0", f"workers={workers}")
    assert outcome.status == 0
    texts = {"labels; all but 0": 3, "no hole at all:": 2, "has all hole:": 1}
    assert {text: outcome.err.count(text) for text in texts} == texts
    assert "labels2_mask.png has" in outcome.err and outcome.err.count("further ones of this kind") == 1
    log = (tmp_path / "out" / ".refine" / "log.txt").read_text()
    assert log.count("labels; all but 0") == 5 and "further ones" not in log
    assert "5 of 10 images: the mask is unusual (gray labels)\n" in outcome.err
    assert "2 of 10 images: unchanged, the mask has no hole at all\n" in outcome.err
    summary = json.loads((tmp_path / "out" / ".refine" / "summary.json").read_text())
    assert summary["masks"] == {"gray labels": 5, "unchanged": 2, "all_hole": 1}
    rows = {row["key"]: row for row in csv.DictReader((tmp_path / "out" / ".refine" / "rows.csv").open())}
    pixels = [rows[key]["hole_pixels"] for key in ("empty0", "full0", "ordinary0")]
    assert pixels == ["0", "1920", str(hole().sum())]


def test_the_reference_takes_any_pixel_that_is_not_black(tmp_path, predict):
    ring = cv2.blur(255 * hole().astype(np.uint8), (5, 5))  # a soft rim of 4 px
    save(tmp_path / "in" / "a.png", photo())
    save(tmp_path / "in" / "a_mask.png", ring)
    outcome = predict("preset=reference", "refiner.steps=0")
    changed = (read(tmp_path / "out" / "a.png") != photo()).any(axis=2)
    assert outcome.status == 0 and "gray" not in outcome.err
    assert changed[ring > 0].mean() > 0.95 and not changed[ring == 0].any()
    outcome = predict("refiner.steps=0", f"output={tmp_path / 'default'}")
    changed = (read(tmp_path / "default" / "a.png") != photo()).any(axis=2)
    assert changed[ring > 127].mean() > 0.95 and not changed[ring < 127].any()
    assert "is gray in" in outcome.err and "mask_dilate=<px>" in outcome.err


def test_results_from_before_masks_were_recognized_are_refused_by_name(tmp_path, predict, monkeypatch):
    pair(tmp_path / "in", "a")
    with monkeypatch.context() as patch:
        patch.setattr(fingerprint, "SECTIONS", fingerprint.SECTIONS - {"mask_channel"})
        assert predict().status == 0
    outcome = predict()
    assert outcome.status == 2 and "mask_channel: None -> auto" in outcome.err and "overwrite=true" in outcome.err


# Names


def test_folder_tree_is_repeated(tmp_path, predict):
    pair(tmp_path / "in", "a")
    pair(tmp_path / "in" / "x" / "y", "a", seed=1)
    save(tmp_path / "in" / "b.png", photo())
    for number in (1, 2):
        save(tmp_path / "in" / f"b_mask{number:03}.png", hole())
    outcome = predict()
    assert outcome.status == 0 and "4 done" in outcome.err
    assert results(tmp_path / "out") == ["a.png", "b_mask001.png", "b_mask002.png", "x/y/a.png"]


def test_all_else_lives_in_its_own_folder(tmp_path, predict):
    pair(tmp_path / "in", "a")
    pair(tmp_path / "in", "b")
    (tmp_path / "in" / "b.png").write_bytes(b"")
    assert predict().status == 1
    assert sorted(os.listdir(tmp_path / "out")) == [".refine", "a.png"]
    inside = {str(file.relative_to(tmp_path / "out" / ".refine")) for file in (tmp_path / "out" / ".refine").rglob("*")}
    assert {"config.yaml", "failures.csv", "log.txt", "rows.csv", "unfinished"} < inside
    assert not [name for name in inside if name.endswith(".png")]
    (row,) = table(tmp_path / "out" / ".refine" / "rows.csv")
    assert (row["output"], row["key"], row["width"], row["height"], row["levels"]) == ("a.png", "a", "48", "40", "2")
    assert row["updates"] == "2" and float(row["seconds"]) >= 0 and float(row["last_loss"]) > 0
    assert failures(tmp_path / "out") == {"b": f"cannot read '{tmp_path / 'in' / 'b.png'}': it is empty."}
    text = (tmp_path / "out" / ".refine" / "log.txt").read_text()
    assert "1 done, 1 failed" in text and "it is empty" in text
    assert "native_size: 16" in (tmp_path / "out" / ".refine" / "config.yaml").read_text()


@pytest.mark.parametrize("format", ["png", "jpg", "webp", "tiff", "bmp"])
def test_formats(tmp_path, predict, format):
    pair(tmp_path / "in", "a")
    assert predict(f"format={format}").status == 0
    assert results(tmp_path / "out") == [f"a.{format}"]
    with Image.open(tmp_path / "out" / f"a.{format}") as result:
        assert result.format == {"jpg": "JPEG"}.get(format, format.upper()) and result.size == (48, 40)


def test_one_image_with_its_mask(tmp_path, predict):
    image = save(tmp_path / "in" / "a.bmp", photo())
    mask = save(tmp_path / "elsewhere" / "hole.png", hole())
    assert predict(f"input={image}", f"mask={mask}").status == 0
    assert results(tmp_path / "out") == ["a.png"]


def test_masks_folder_and_manifest(tmp_path, predict):
    save(tmp_path / "in" / "a.png", photo())
    save(tmp_path / "holes" / "a.png", hole())
    assert predict(f"masks={tmp_path / 'holes'}").status == 0
    (tmp_path / "list.csv").write_text("image,mask,name\nin/a.png,holes/a.png,\nin/a.png,holes/a.png,other/name\n")
    assert predict(f"input={tmp_path / 'list.csv'}", f"output={tmp_path / 'listed'}").status == 0
    assert results(tmp_path / "listed") == ["holes/a.png", "other/name.png"]
    same = {path.read_bytes() for path in [tmp_path / "out" / "a.png", *(tmp_path / "listed").rglob("*.png")]}
    assert len(same) == 1


# Running again


def test_finished_results_are_left_untouched(tmp_path, predict):
    for number in range(3):
        pair(tmp_path / "in", f"im{number}", number)
    replaced(tmp_path / "in" / "im2.png", lambda data: data[:60])
    assert predict().status == 1
    before = stamps(tmp_path / "out")
    assert list(before) == ["im0.png", "im1.png"]
    pair(tmp_path / "in", "im2", 2)
    outcome = predict("trainer.accelerator=cpu", f"trainer.default_root_dir={tmp_path}")
    assert outcome.status == 0 and "1 done, 2 already there" in outcome.err
    assert before.items() < stamps(tmp_path / "out").items()
    assert len(table(tmp_path / "out" / ".refine" / "rows.csv")) == 3
    assert failures(tmp_path / "out") == {}
    assert "0 done, 3 already there" in predict().err
    assert "3 done in" in predict("overwrite=true").err  # everything is made again


def test_the_same_weights_elsewhere_are_the_same(tmp_path, predict, tiny_weights):
    pair(tmp_path / "in", "a")
    assert predict().status == 0
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(tiny_weights.read_bytes())
    assert "0 done, 1 already there" in predict(f"backbone.weights={copy}").err


@pytest.mark.parametrize(
    ("override", "difference"),
    [
        ("refiner.steps=3", "refiner.steps: 2 -> 3"),
        ("objective=paper", "objective.native_size"),
        ("mask_dilate=1", "mask_dilate: 0 -> 1"),
        ("backbone.cut=1", "backbone.settings.cuts: [0] -> [1]"),
        ("pyramid.factor=1.5", "pyramid.factor: 2 -> 1.5"),
        ("backbone=mini", "content of the weights"),
    ],
)
def test_another_configuration_is_refused_and_explained(tmp_path, predict, override, difference):
    pair(tmp_path / "in", "a")
    assert predict().status == 0
    before = stamps(tmp_path / "out")
    extra = ["backbone.weights=bundled:mini.safetensors"] if override == "backbone=mini" else []
    outcome = predict(override, *extra)
    assert outcome.status == 2
    assert "of another configuration" in outcome.err and difference in outcome.err and "overwrite=true" in outcome.err
    assert stamps(tmp_path / "out") == before


def test_another_seed_of_a_random_network_is_another_configuration(tmp_path):
    pair(tmp_path / "in", "a")
    network = ["backbone=replay", "backbone.native_size=32", "backbone.multiple_of=4", "backbone.minimum_side=8"]
    network += [
        "backbone.weights=random",
        "backbone.cut=['3','5']",
        "backbone.network={_target_: refine.backbones.lama.generator.build, sizes: {_target_: "
        "refine.backbones.lama.generator.LaMaConfig, width: 8, downsamplings: 2, blocks: 2, global_channels: 24}}",
    ]
    arguments = ["predict", f"input={tmp_path / 'in'}", f"output={tmp_path / 'out'}", *network, "refiner.steps=1"]
    assert refine(*arguments).status == 0
    assert "1 already there" in refine(*arguments).err
    outcome = refine(*arguments, "+backbone.seed=1")
    assert outcome.status == 2 and "backbone.settings.seed: 0 -> 1" in outcome.err


def test_results_of_an_earlier_version_are_refused_by_name(tmp_path, predict, monkeypatch):
    pair(tmp_path / "in", "a")
    with monkeypatch.context() as patch:
        patch.setattr("refine.inference.fingerprint.__version__", "0.0.9")
        assert predict().status == 0
    before = stamps(tmp_path / "out")
    outcome = predict()
    assert outcome.status == 2 and "version of refine: 0.0.9 -> " in outcome.err and "overwrite=true" in outcome.err
    assert stamps(tmp_path / "out") == before


def test_overwrite_replaces_what_another_configuration_made(tmp_path, predict):
    pair(tmp_path / "in", "a")
    assert predict().status == 0
    first = (tmp_path / "out" / "a.png").read_bytes()
    assert predict("preset=plain", "refiner.steps=0", "overwrite=true").status == 0
    assert (tmp_path / "out" / "a.png").read_bytes() != first
    assert "0 done, 1 already there" in predict("preset=plain", "refiner.steps=0").err
    assert predict().status == 2


def test_changed_input_and_changed_result_are_refused(tmp_path, predict):
    pair(tmp_path / "in", "a")
    assert predict().status == 0
    pair(tmp_path / "in", "a", seed=5)
    outcome = predict()
    assert outcome.status == 2 and "of other input files.\n  the image file of a\nUse another" in outcome.err
    assert predict("overwrite=true").status == 0
    replaced(tmp_path / "out" / "a.png", lambda data: data + b"\0")
    outcome = predict()
    assert outcome.status == 2 and "not made by refine, or changed since" in outcome.err


def test_results_from_before_files_were_noted_are_refused_without_a_name(tmp_path, predict):
    pair(tmp_path / "in", "a")
    assert predict().status == 0
    rows = tmp_path / "out" / ".refine" / "rows-0.jsonl"
    rows.write_text(json.dumps({k: v for k, v in json.loads(rows.read_text()).items() if k != "contents"}))
    pair(tmp_path / "in", "a", seed=5)
    assert "of other input files.\nUse another output" in predict().err


def test_files_of_others_are_not_overwritten(tmp_path, predict):
    pair(tmp_path / "in", "a")
    mine = save(tmp_path / "out" / "a.png", photo(seed=9))
    before = mine.read_bytes()
    assert predict().status == 2
    assert mine.read_bytes() == before and os.listdir(tmp_path / "out") == ["a.png"]


def test_records_cut_short_by_a_kill(tmp_path, predict):
    for stem in ("a", "b", "c"):
        pair(tmp_path / "in", stem)
    assert predict().status == 0
    before, inside = stamps(tmp_path / "out"), tmp_path / "out" / ".refine"
    (tmp_path / "out" / "b.png").unlink()  # its row was there first
    (inside / "unfinished" / "half").write_bytes(b"half")
    rows = (inside / "rows-0.jsonl").read_text()
    (inside / "rows-0.jsonl").write_text(rows + '\n{"output": "b.png", "config')
    assert "1 done, 2 already there" in predict().err
    after = stamps(tmp_path / "out")
    assert list(after) == ["a.png", "b.png", "c.png"] and after["a.png"] == before["a.png"]
    assert list((inside / "unfinished").iterdir()) == []
    assert [row["output"] for row in table(inside / "rows.csv")] == ["a.png", "b.png", "c.png"]


def test_a_living_runs_temporaries_are_left_alone(tmp_path):
    first, second = RunFolder(tmp_path, {"a": 1}), RunFolder(tmp_path, {"a": 1})
    first.open()
    half = tmp_path / ".refine" / "unfinished" / "half"
    half.write_bytes(b"half")
    second.open()
    assert half.exists()
    second.release()
    first.release()
    RunFolder(tmp_path, {"a": 1}).open()
    assert not half.exists()


def test_two_runs_of_other_settings_exclude_each_other(tmp_path, predict):
    pair(tmp_path / "in", "a")
    other = RunFolder(tmp_path / "out", {"a": 1})
    other.open()
    outcome = predict()
    assert outcome.status == 2 and "another run, of other settings, is at work" in outcome.err
    other.release()
    assert predict().status == 0


def no_room_for(name, monkeypatch):
    """The disk is full whenever this result is to be written."""
    replace = os.replace

    def refuse(source, target):
        if str(target).endswith(name):
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", refuse)


def test_a_kill_between_the_row_and_its_file_forgets_nothing(tmp_path, predict, monkeypatch):
    pair(tmp_path / "in", "a")
    assert predict().status == 0
    before = stamps(tmp_path / "out")
    no_room_for("a.png", monkeypatch)
    assert predict("preset=plain", "refiner.steps=0", "overwrite=true").status == 1
    monkeypatch.undo()
    assert table(tmp_path / "out" / ".refine" / "rows.csv") == []  # its row tells of a file that is not there
    assert "1 already there" in predict().err and stamps(tmp_path / "out") == before
    assert [row["levels"] for row in table(tmp_path / "out" / ".refine" / "rows.csv")] == ["2"]


# Hostile inputs

ODD_NAMES = [
    "with blanks  two",
    "äöü 画像 🙂",
    "a=b",
    "a,b",
    "a(b)[c]{d}",
    "#hash&and",
    "it's",
    'say "hi"',
    "$HOME ${x} ${oc.env:HOME}",
    "back\\slash",
    "back\\${x}",
    "new\nline",
    "-dash",
    "~tilde",
    "%d %s",
    "*?<>|;!`",
    "a..b...",
    "null",
    os.fsdecode(b"not utf-8 \xff\xfe"),
    "x" * 240,
]


def test_odd_names_in_a_folder(tmp_path, predict):
    image, mask = pair(tmp_path, "a").read_bytes(), (tmp_path / "a_mask.png").read_bytes()
    for stem in ODD_NAMES:
        (tmp_path / "in" / stem).mkdir(parents=True)
        (tmp_path / "in" / stem / f"{stem}.png").write_bytes(image)
        (tmp_path / "in" / stem / f"{stem}_mask.png").write_bytes(mask)
    outcome = predict("refiner.steps=0")
    assert outcome.status == 0, outcome.err
    assert results(tmp_path / "out") == sorted(f"{stem}/{stem}.png" for stem in ODD_NAMES)
    assert {row["key"] for row in table(tmp_path / "out" / ".refine" / "rows.csv")} == {f"{s}/{s}" for s in ODD_NAMES}
    assert f"0 done, {len(ODD_NAMES)} already there" in predict("refiner.steps=0").err


@pytest.mark.parametrize("name", [name for name in ODD_NAMES if len(name) < 200])
def test_odd_names_as_overrides(tmp_path, tiny, tiny_weights, name):
    image, mask = save(tmp_path / name / "in" / "a.png", photo()), save(tmp_path / name / f"{name}.png", hole())
    weights = tmp_path / name / f"{name}.safetensors"
    weights.write_bytes(tiny_weights.read_bytes())
    overrides = [*tiny, f"backbone.weights={weights}", "refiner.steps=0"]
    output = tmp_path / name / name
    outcome = refine("predict", f"input={image}", f"mask={mask}", f"output={output}", *overrides)
    assert outcome.status == 0, outcome.err
    assert results(output) == ["a.png"]


def test_names_of_255_bytes(tmp_path, predict):
    stem = "ü" * 125 + "x"  # 251 bytes and the suffix
    for folder, values in (("in", photo()), ("holes", hole())):
        save(tmp_path / folder / f"{stem}.png", values)
    assert predict(f"masks={tmp_path / 'holes'}").status == 0
    assert results(tmp_path / "out") == [f"{stem}.png"]
    outcome = predict(f"masks={tmp_path / 'holes'}", f"output={tmp_path / 'longer'}", "format=tiff")
    assert outcome.status == 1 and "File name too long" in outcome.err
    assert results(tmp_path / "longer") == []


def huge_header(data: bytes) -> bytes:
    """A PNG that says it is 65535x65535."""
    head = b"IHDR" + struct.pack(">II", 65535, 65535) + data[24:29]
    return data[:12] + head + struct.pack(">I", zlib.crc32(head)) + data[33:]


HOSTILE = {
    "truncated": ("cut short", lambda image, mask: replaced(image, lambda data: data[: len(data) // 2])),
    "empty": ("it is empty", lambda image, mask: image.write_bytes(b"")),
    "text": ("no image of a supported kind", lambda image, mask: image.write_text("not an image")),
    "huge": ("in case a file is an attack", lambda image, mask: replaced(image, huge_header)),
    "eps": (
        "no image of a supported kind",
        lambda image, mask: save(image.with_suffix(".eps"), photo()).replace(image),
    ),
    "flipped": ("cut short", lambda image, mask: replaced(image, lambda data: data[:60] + b"\xff" + data[61:])),
    "dangling": ("No such file", lambda image, mask: (image.unlink(), image.symlink_to("nowhere"))),
    "looping": ("symbolic links", lambda image, mask: (image.unlink(), image.symlink_to(image))),
    "pipe": ("not a file", lambda image, mask: (image.unlink(), os.mkfifo(image))),
    "maskless": ("has no mask", lambda image, mask: mask.unlink()),
    "imageless": ("without its image", lambda image, mask: image.unlink()),
    "mask_truncated": ("cut short", lambda image, mask: replaced(mask, lambda data: data[: len(data) - 20])),
    "mask_empty": ("it is empty", lambda image, mask: mask.write_bytes(b"")),
    "mask_smaller": ("is 8x8, but image", lambda image, mask: save(mask, hole(8, 8))),
    "mask_turned": ("is 40x48, but image", lambda image, mask: save(mask, hole(40, 48))),
    "mask_pipe": ("not a file", lambda image, mask: (mask.unlink(), os.mkfifo(mask))),
}
HARMLESS = {
    "gif": lambda image, mask: save(image.with_suffix(".gif"), photo()).replace(image),
    "wrong_suffix": lambda image, mask: save(image.with_suffix(".jpg"), photo()).replace(image),
    "one_pixel": lambda image, mask: (save(image, photo(1, 1)), save(mask, hole(1, 1))),
    "linked": lambda image, mask: (
        image.rename(image.with_suffix(".dat")),
        image.symlink_to(image.with_suffix(".dat")),
    ),
}


@pytest.fixture(scope="module")
def hostile(tmp_path_factory, tiny):
    """One folder with all of them and three good images between; run once."""
    root = tmp_path_factory.mktemp("hostile")
    for name, spoil in [*((n, s) for n, (_, s) in HOSTILE.items()), *HARMLESS.items()]:
        image = pair(root / "in", name)
        spoil(image, image.with_name(f"{name}_mask.png"))
    for name in ("a_good", "m_good", "z_good"):
        pair(root / "in", name)
    (root / "in" / "loop").symlink_to(root / "in")
    return root / "out", refine("predict", f"input={root / 'in'}", f"output={root / 'out'}", *tiny)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_input_is_told_by_name(hostile, name):
    output, outcome = hostile
    reasons = {key.removesuffix(".png").removesuffix("_mask"): reason for key, reason in failures(output).items()}
    assert HOSTILE[name][0] in reasons[name]
    assert reasons[name] in outcome.err and "\n" not in reasons[name]
    assert not (output / f"{name}.png").exists()


def test_hostile_inputs_stop_nothing_else(hostile):
    output, outcome = hostile
    assert outcome.status == 1
    assert results(output) == sorted(f"{name}.png" for name in ("a_good", "m_good", "z_good", *HARMLESS))
    assert f"{3 + len(HARMLESS)} done, {len(HOSTILE)} failed" in outcome.err
    assert list((output / ".refine" / "unfinished").iterdir()) == []


class Canary:
    """Runs a command when unpickled without care."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self):
        return os.system, (f"touch '{self.file}'",)


def canary_weights(tmp_path: Path) -> Path:
    torch.save({"state_dict": {"x": Canary(tmp_path / "in" / "canary")}}, tmp_path / "evil.ckpt")
    return tmp_path / "evil.ckpt"


def junk(tmp_path: Path, data: bytes, name: str = "junk.pt") -> Path:
    (tmp_path / name).write_bytes(data)
    return tmp_path / name


WEIGHTS = {
    "runs code": canary_weights,
    "runs code, bare pickle": lambda tmp_path: junk(tmp_path, pickle.dumps(Canary(tmp_path / "in" / "canary"))),
    "junk": lambda tmp_path: junk(tmp_path, b"junk" * 100),
    "empty": lambda tmp_path: junk(tmp_path, b""),
    "junk safetensors": lambda tmp_path: junk(tmp_path, b"\xff" * 100, "junk.safetensors"),
    "an image": lambda tmp_path: tmp_path / "in" / "a.png",
    "gone": lambda tmp_path: tmp_path / "gone.pt",
    "an empty folder": lambda tmp_path: (tmp_path / "folder").mkdir() or tmp_path / "folder",
    "other network": lambda tmp_path: torch.save({"fc.weight": torch.ones(2)}, tmp_path / "o.pt") or tmp_path / "o.pt",
}


@pytest.mark.parametrize("kind", WEIGHTS)
def test_unusable_weights(tmp_path, predict, kind):
    pair(tmp_path / "in", "a")
    weights = WEIGHTS[kind](tmp_path)
    outcome = predict(f"backbone.weights={weights}")
    assert outcome.status == 2 and str(weights) in outcome.err
    assert not (tmp_path / "in" / "canary").exists() and not (tmp_path / "out").exists()


SENSELESS = {
    "backbone=none": "there is no backbone=none. There are: ",
    "backbone=/no/such.yaml": "cannot read it",
    "preset=none": "there is no preset=none. There are: ",
    "objective=none": "there is no objective=none. There are: ",
    "backbone.weigths=x": "did you mean backbone.weights",
    "steps=3": "did you mean refiner.steps",
    "refiner.steps=-1": "refiner.steps must be an integer >= 0",
    "refiner.steps=abc": "refiner.steps must be an integer >= 0",
    "refiner.steps=1.5": "refiner.steps must be an integer >= 0",
    "refiner.steps=[]": "refiner.steps",
    "refiner.steps=1,2": "refiner.steps=[...]",
    "refiner.steps=": "refiner.steps",
    "refiner.lr=0": "refiner.lr must be a number > 0",
    "refiner.lr=nan": "refiner.lr",
    "refiner.lr=inf": "refiner.lr must be a number > 0",
    "refiner.lr=${nothing}": "Interpolation key 'nothing' not found",
    "refiner.keep=none": "refiner.keep",
    "refiner.optimize=[trunk]": "has no layer 'trunk'",
    "refiner.optimizer._target_=torch.optim.None": "torch.optim.None",
    "+refiner.nothing=1": "nothing",
    "backbone.cut=99": "backbone.cut",
    "backbone.cut=x": "backbone.cut",
    "backbone.multiple_of=3": "backbone.multiple_of",
    "backbone.multiple_of=x": "multiple_of",
    "backbone.native_size=x": "x",
    "backbone.native_size=0": "0",
    "pyramid.smallest_side=0": "smallest_side",
    "pyramid.max_levels=0": "max_levels",
    "pyramid.factor=1": "factor",
    "pyramid.factor=x": "factor",
    "pyramid.padding=none": "padding",
    "objective.erosion=-1": "erosion",
    "objective.erosion=x": "erosion",
    "objective.known_weight=-1": "known_weight",
    "mask_threshold=2": "mask_threshold=2: expected a number less than or equal to 1",
    "mask_threshold=-0.1": "mask_threshold=-0.1: expected a number greater than or equal to 0",
    "mask_channel=yellow": "mask_channel=yellow: expected 'auto', 'luminance'",
    "mask_threshold=x": "mask_threshold=x",
    "mask_invert=maybe": "mask_invert=maybe: expected true or false",
    "mask_dilate=-1": "mask_dilate=-1",
    "mask_dilate=1.5": "mask_dilate=1.5",
    "overwrite=no": "overwrite=no: expected true or false",
    "format=gif": "format=gif: expected 'png', 'jpg'",
    "device=warp": "device=warp: expected auto, cpu",
    "device=meta": "device=meta: expected auto, cpu",
    "device=cpu:1": "device=cpu:1",
    "device=cuda:99": "device=cuda:99",
    "device=null": "device=None",
    "trainer.accelerator=warp": "trainer",
    "trainer.devices=abc": "trainer",
    "trainer.precision=7": "precision",
    "trainer.inference_mode=true": "trainer.inference_mode=false",
    "+trainer.nothing=1": "nothing",
    "input=": "predict needs input=",
    "input=/no/such/folder": "no such file or folder",
    "output=": "predict needs output=",
    "output=/proc/none": "cannot be written",
    "output={in}": "is the folder of the inputs",
    "output={in}/a.png": "is a file",
    "output={in}/a.png/out": "cannot be written",
    "output={in}/new.png": "looks like an image",
    "output={in}/../out/../in": "is the folder of the inputs",
    "mask={in}/none.png": "no such file",
    "masks={in}/none": "no such folder",
    "masks={in}": "is the folder of the images",
    "config_dir=/no/such": "config_dir=/no/such: no such folder",
    "malformed": "cannot read the override 'malformed'",
    "mal formed=[": "cannot read the override",
    "~backbone": "cannot be deleted",
    "--multirun": "cannot read the override",
}


@pytest.mark.parametrize("override", SENSELESS)
def test_requests_without_sense(tmp_path, predict, override):
    pair(tmp_path / "in", "a")
    outcome = predict(override.replace("{in}", str(tmp_path / "in")))
    assert outcome.status == 2, outcome.err
    assert "refine: error: " in outcome.err and SENSELESS[override] in outcome.err
    assert sorted(os.listdir(tmp_path / "in")) == ["a.png", "a_mask.png"]
    assert not (tmp_path / "out").exists() or results(tmp_path / "out") == []


def test_a_result_never_replaces_an_input(tmp_path, predict):
    image = pair(tmp_path / "in", "a")
    mask = tmp_path / "in" / "a_mask.png"
    before = image.read_bytes(), mask.read_bytes()
    (tmp_path / "lists").mkdir()
    for name in ("a", "a_mask"):
        (tmp_path / "lists" / "list.csv").write_text(f"image,mask,name\n../in/a.png,../in/a_mask.png,{name}\n")
        outcome = predict(f"input={tmp_path / 'lists' / 'list.csv'}", f"output={tmp_path / 'in'}", "overwrite=true")
        assert outcome.status == 2 and "would overwrite an input" in outcome.err
    assert (image.read_bytes(), mask.read_bytes()) == before


@pytest.mark.parametrize("names", [("a.png", "a.jpg"), ("x/a.png", "x/a.tif")])
def test_two_images_of_one_name(tmp_path, predict, names):
    for name in names:
        save(tmp_path / "in" / name, photo())
    outcome = predict(f"mask={save(tmp_path / 'm.png', hole())}")
    assert outcome.status == 2 and "several inputs would write the result" in outcome.err
    assert not (tmp_path / "out").exists()


def test_empty_folder_and_manifest_with_wrong_columns(tmp_path, predict):
    (tmp_path / "in").mkdir()
    assert "no image found" in predict().err
    (tmp_path / "list.csv").write_text("picture,hole\na,b\n")
    outcome = predict(f"input={tmp_path / 'list.csv'}")
    assert outcome.status == 2 and "needs the columns image,mask" in outcome.err


def test_a_format_that_loses_something_is_told_per_image(tmp_path, predict):
    pair(tmp_path / "in", "a")
    save(tmp_path / "in" / "b.png", photo(channels=4))
    save(tmp_path / "in" / "b_mask.png", hole())
    assert predict("format=jpg").status == 1
    assert results(tmp_path / "out") == ["a.jpg"] and "has no alpha" in failures(tmp_path / "out")["b"]


def test_a_folder_in_the_way_of_one_result(tmp_path, predict):
    pair(tmp_path / "in", "a")
    pair(tmp_path / "in" / "b.png", "c")  # b.png is a folder in the output as well
    save(tmp_path / "in" / "b.jpg", photo())
    save(tmp_path / "in" / "b_mask.png", hole())
    outcome = predict()
    assert outcome.status == 1 and "1 failed" in outcome.err
    assert "a.png" in results(tmp_path / "out") and list((tmp_path / "out" / ".refine" / "unfinished").iterdir()) == []


@pytest.mark.parametrize("workers", [0, 2])
def test_a_full_disk_is_told_per_image(tmp_path, predict, monkeypatch, workers):
    for stem in ("a", "b"):
        pair(tmp_path / "in", stem)
    no_room_for("a.png", monkeypatch)
    assert predict(f"workers={workers}").status == 1
    assert results(tmp_path / "out") == ["b.png"] and "No space left" in failures(tmp_path / "out")["a"]
    monkeypatch.undo()
    assert predict(f"workers={workers}").status == 0


def test_our_own_fault_costs_one_image_and_its_traceback_is_logged(tmp_path, predict, monkeypatch):
    for stem in ("a", "b"):
        pair(tmp_path / "in", stem)
    from refine.core.refiner import Refiner

    refined = Refiner.__call__

    def fail(self, image, mask, key, **options):
        if key == "a":
            raise RuntimeError("a fault of ours")
        return refined(self, image, mask, key=key, **options)

    monkeypatch.setattr(Refiner, "__call__", fail)
    outcome = predict()
    assert outcome.status == 1 and "RuntimeError: a fault of ours" in outcome.err
    assert results(tmp_path / "out") == ["b.png"]
    assert "Traceback" in (tmp_path / "out" / ".refine" / "log.txt").read_text()


@pytest.mark.filterwarnings("default:.*RANDOM weights")
def test_warnings_come_once_and_reach_the_log(tmp_path, predict):
    for number in range(3):
        pair(tmp_path / "in", f"im{number}", number, 12, 12)
    outcome = predict("backbone=lama", "backbone.weights=random", "backbone.sizes.width=4", "backbone.sizes.blocks=1",
                      "backbone.sizes.downsamplings=2", "backbone.sizes.global_channels=12")  # fmt: skip
    assert outcome.status == 0
    text = (tmp_path / "out" / ".refine" / "log.txt").read_text()
    for said in (outcome.err, text):
        assert said.count("RANDOM weights") == 1 and said.count("gives one level") == 1
    assert "too small: 3 of 3 images have one level and keep the plain prediction" in outcome.err
    assert len(outcome.err.splitlines()) == 5  # jobs, two warnings, what is too small, summary


# The terminal


def drawn(key: str, expected: dict[str, float]) -> str:
    console = Console(file=io.StringIO(), force_terminal=True, width=80, color_system=None)
    bar = ProgressBar(console)
    module = type("Module", (), {"listeners": [], "expected": expected})()
    bar.on_predict_start(SimpleNamespace(is_global_zero=True, num_predict_batches=[3]), module)
    bar.on_predict_batch_start(None, module, type("Batch", (), {"key": key})())
    (listen,) = module.listeners
    listen(Step(1, 3, 4, 15, 0.01234, lambda: torch.zeros(0)))
    bar.progress.refresh()
    bar.on_predict_batch_end()
    bar.on_predict_end()
    return console.file.getvalue()


@pytest.mark.parametrize("key", ["photo", "with [red]tags[/red]", "back\\[slash", "new\nline", "x" * 250])
def test_progress_shows_image_level_step_and_loss(key):
    text = drawn(key, {})
    assert "level 2/3 step 4/15 loss 0.0123" in text and "0/3" in text
    assert repr(key)[1:-1][-8:] in text
    assert not [line for line in text.replace("\r", "\n").splitlines() if len(line) > 100]


def test_progress_shows_the_time_that_the_plan_gives():
    """Rich alone would know nothing before the first image is done."""
    assert "1:02:05" in drawn("photo", {"photo": 5, "other": 3720})
    assert "-:--:--" in drawn("photo", {})


def test_the_time_left_is_predicted_and_corrected_by_what_images_took():
    now = [100.0]
    left = TimeLeft({"a": 10, "b": 20, "c": 40}, clock=lambda: now[0])
    assert left.seconds() == 70
    left.begin("a")
    now[0] += 4
    assert left.seconds() == 66
    now[0] += 16  # twice the time predicted
    assert left.seconds() == 60
    left.end()
    assert left.seconds() == 120
    left.begin("unreadable")
    now[0] += 1
    left.end()
    left.begin("b")
    now[0] += 30
    assert left.seconds() == 90
    left.end()  # three quarters of it: 50 s of 30 predicted
    assert left.seconds() == pytest.approx(40 * 50 / 30)


def test_without_a_terminal_there_is_no_bar():
    console = Console(file=io.StringIO())
    bar = ProgressBar(console)
    bar.on_predict_start(
        SimpleNamespace(is_global_zero=True, num_predict_batches=[3]), SimpleNamespace(listeners=[], expected={})
    )
    bar.on_predict_end()
    assert console.file.getvalue() == ""


# Processes

COUNT = 16


@pytest.fixture
def folder(tmp_path, tiny):
    """Images that take a moment each, more than a busy machine finishes between two looks, and their command."""
    for number in range(COUNT):
        pair(tmp_path / "in", f"im{number}", number, 90, 70)
    return ["predict", f"input={tmp_path / 'in'}", f"output={tmp_path / 'out'}", *tiny, "refiner.steps=8"]


@pytest.mark.slow
def test_killed_four_times_and_continued(tmp_path, process, folder):
    output, seen = tmp_path / "out", {}
    for _ in range(4):
        started = process(*folder)
        assert started.signal_when(signal.SIGKILL, lambda: len(results(output)) > len(seen)) == -signal.SIGKILL  # noqa: B023
        now = stamps(output)
        assert seen.items() <= now.items() and len(now) > len(seen)
        for name in now:
            Image.open(output / name).load()
        seen = now
    assert len(seen) < COUNT
    assert process(*folder).status() == 0
    assert seen.items() <= stamps(output).items()
    assert results(output) == sorted(f"im{number}.png" for number in range(COUNT))
    assert list((output / ".refine" / "unfinished").iterdir()) == []

    assert refine(*folder, f"output={tmp_path / 'undisturbed'}").status == 0
    for name in results(output):
        assert (output / name).read_bytes() == (tmp_path / "undisturbed" / name).read_bytes()


@pytest.mark.parametrize(
    ("number", "status", "workers"),
    [
        (signal.SIGINT, 130, 0),
        (signal.SIGTERM, 143, 2),
        pytest.param(signal.SIGINT, 130, 2, marks=pytest.mark.thorough),
        pytest.param(signal.SIGTERM, 143, 0, marks=pytest.mark.thorough),
    ],
)
def test_interrupted_and_continued(tmp_path, process, folder, number, status, workers):
    output = tmp_path / "out"
    folder = [*folder, f"workers={workers}"]
    started = process(*folder)
    assert started.signal_when(number, lambda: len(results(output)) >= 2) == status
    said, before = started.said(), stamps(output)
    assert 2 <= len(before) < COUNT
    assert f"{len(before)} done, {COUNT - len(before)} left; run the same command to continue" in said
    assert "Traceback" not in said
    assert failures(output) == {} and len(table(output / ".refine" / "rows.csv")) == len(before)
    assert list((output / ".refine" / "unfinished").iterdir()) == []
    assert process(*folder).status() == 0
    assert before.items() <= stamps(output).items() and len(results(output)) == COUNT


def test_interrupted_before_the_work(tmp_path, monkeypatch, predict):
    def interrupt(*_):
        raise KeyboardInterrupt

    pair(tmp_path / "in", "a")
    monkeypatch.setattr("refine.inference.session.make_refiner", interrupt)
    outcome = predict()
    assert outcome.status == 130 and outcome.err == "refine: interrupted\n"


SEEN = "must not see the truth: what is in the hole changes the prediction"


def test_a_backbone_that_sees_the_truth_is_not_scored(tmp_path, predict, monkeypatch):
    pair(tmp_path / "in", "a")
    front = LaMa.front
    monkeypatch.setattr(LaMa, "front", lambda self, level: front(self, replace(level, mask=level.mask * 0)))
    outcome = predict("truth=input")
    assert outcome.status == 2 and not results(tmp_path / "out")
    assert f"backbone 'lama' {SEEN}" in outcome.err
    assert predict("truth=input", "evaluate=false").status == 0
    assert SEEN in predict("truth=input").err  # nor are the scores added to results that are there
    monkeypatch.setattr(LaMa, "front", front)
    assert predict("truth=input", f"output={tmp_path / 'blind'}").status == 0


def test_blindness_is_checked_only_where_there_is_something_to_score(tmp_path, predict, monkeypatch):
    checked = []
    monkeypatch.setattr("refine.inference.pipeline.check_blindness", checked.append)
    pair(tmp_path / "in", "a")
    assert predict("truth=input").status == 0 and len(checked) == 1
    for overrides in (["truth=input"], ["truth=input", "gather=true"], ["evaluate=false", "overwrite=true"]):
        assert predict(*overrides).status == 0 and len(checked) == 1


def test_a_replayed_network_that_sees_the_truth_is_not_scored(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pair(tmp_path / "in", "a")
    (tmp_path / "seeing.py").write_text(
        "from torch import nn\n\n\ndef build():\n    return nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), "
        "nn.Conv2d(4, 3, 3, padding=1), nn.Sigmoid())\n"
    )
    network = ["backbone=replay", "backbone.native_size=32", "backbone.multiple_of=4", "backbone.minimum_side=8"]
    network += ["backbone.weights=random", "backbone.cut=['1']", "backbone.network={_target_: seeing.build}"]
    network += ["device=cpu", "truth=input", "input=in"]
    assert refine("predict", *network, "output=blind").status == 0
    outcome = refine("predict", *network, "output=seeing", "backbone.fill=null")
    assert outcome.status == 2 and SEEN in outcome.err


# Scores that are asked for later


@pytest.fixture
def squeezenet_weights(tmp_path):
    with torch.random.fork_rng(devices=[]):
        torch.save(squeezenet().state_dict(), tmp_path / "squeezenet.pth")
    return ["metrics=[lpips_squeeze]", f"lpips_weights={tmp_path / 'squeezenet.pth'}", "truth=input"]


@pytest.mark.parametrize("before", [["truth=input"], ["truth=input", "evaluate=false"]])
def test_scores_asked_for_later_are_those_of_a_run_that_had_them(tmp_path, predict, squeezenet_weights, before):
    for stem, seed in (("a", 0), ("b", 1)):
        pair(tmp_path / "in", stem, seed, 70, 66)
    assert predict(*before).status == 0
    stamped = stamps(tmp_path / "out")
    outcome = predict(*squeezenet_weights)
    assert outcome.status == 0 and "0 done, 2 already there" in outcome.err
    assert "added from the files of results that are there already: lpips_squeeze_box_refine" in outcome.err
    assert stamps(tmp_path / "out") == stamped
    assert predict(*squeezenet_weights, f"output={tmp_path / 'at_once'}").status == 0
    rows, expected = (table(tmp_path / place / ".refine" / "rows.csv") for place in ("out", "at_once"))
    scores = [name for name in expected[0] if "refine" in name or "torchmetrics" in name or "lama" in name]
    of_refinement = {name for name in scores if any(part in name for part in ("known_", "guide_", "seam_"))}
    unknown = of_refinement if len(before) > 1 else set()
    for row, other in zip(rows, expected, strict=True):
        assert {name: row[name] for name in scores if name not in unknown} == {
            name: other[name] for name in scores if name not in unknown
        }
        assert row["updates"] == other["updates"] and row["verdict"] == other["verdict"]
    assert "added" not in predict(*squeezenet_weights).err


def test_scores_asked_for_later_of_a_lossy_file(tmp_path, predict, squeezenet_weights):
    pair(tmp_path / "in", "a", 0, 70, 66)
    assert predict("truth=input", "format=jpg").status == 0
    outcome = predict(*squeezenet_weights, "format=jpg")
    assert outcome.status == 0 and "no lpips_squeeze_box_refine, lpips_squeeze_image_refine" in outcome.err
    assert "(images: 1)" in outcome.err and "overwrite=true" in outcome.err
    assert "1 done in" in predict(*squeezenet_weights, "format=jpg", "overwrite=true").err
    assert "no lpips" not in predict(*squeezenet_weights, "format=jpg").err
