import csv

import cv2
import numpy as np
import pytest

import arms
import early_stop
from benchmarks import benchmark, explain
from training import scenes


def test_scenes_are_written_once_and_never_those_of_the_training(tmp_path):
    scenes.main([f"output={tmp_path / 'scenes'}", "count=2", "side=40"])
    first, second = sorted((tmp_path / "scenes").iterdir())
    assert np.array_equal(cv2.imread(str(second))[..., ::-1], scenes.render([0, scenes.UNSEEN + 1], 40))
    before = first.stat().st_mtime_ns
    second.unlink()
    scenes.main([f"output={tmp_path / 'scenes'}", "count=2", "side=40"])
    assert first.stat().st_mtime_ns == before and second.exists()
    with pytest.raises(SystemExit, match="another output"):
        scenes.main([f"output={tmp_path / 'scenes'}", "count=2", "side=50"])


@pytest.mark.parametrize("arguments", [[], ["outptu=x"]])
def test_scenes_say_what_they_need(arguments):
    with pytest.raises(SystemExit, match="output"):
        scenes.main(arguments)


def test_explained_gain(tmp_path, capsys):
    rows = [
        {
            name: str(value)
            for score, scale in (("psnr_hole_torchmetrics", 1), ("ssim_hole_refine", 0.01))
            for name, value in {
                score: scale * (10 + gain),
                f"plain.{score}": scale * (10 + i % 2),
                f"upscaled.{score}": scale * (10 + i % 2 + 2 * (gain - i % 2)),
            }.items()
        }
        | {"hole": "0.2", "guided": f"0.1 0.{i + 1}"}
        for i, gain in enumerate((3, -1, 1, 0))
    ]
    file = tmp_path / "rows.csv"
    with file.open("w", newline="") as opened:
        writer = csv.DictWriter(opened, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    explain.main([f"rows={file}"])
    told = capsys.readouterr().out
    assert "psnr_hole_torchmetrics: gain +0.2500" in told and "(n = 4)" in told
    assert "coarse result is better than the plain one: +2.0000 +- 1.0000 (n = 2)" in told
    assert "coarse result is not better than the plain one: -1.5000 +- 0.5000 (n = 2)" in told
    assert "correlation with advantage of the coarse result: +1.00" in told
    assert "correlation with hole: -" in told  # all alike


def test_explain_needs_controls(tmp_path):
    (tmp_path / "rows.csv").write_text("key,hole\nx,0.5\n")
    with pytest.raises(SystemExit, match="masks=thick"):
        explain.main([f"rows={tmp_path / 'rows.csv'}"])


def table(text):
    """The rows of a Markdown table by arm."""
    lines = [[cell.strip() for cell in line[1:-1].split("|")] for line in text.splitlines() if line.startswith("|")]
    return {row["arm"]: row for row in (dict(zip(lines[0], line, strict=True)) for line in lines[2:])}


@pytest.mark.slow
@pytest.mark.parametrize(("what", "size"), [("rear", 64), ("refinement", 256)])
def test_benchmark_compares_arms_of_fresh_processes(what, size, capsys):
    arms = "control,frozen,fold+channels_last+frozen" + ",fold+channels_last+frozen+signs" * (what == "rear")
    benchmark.main([f"what={what}", f"sizes={size}", "pairs=2", f"arms={arms}", "overrides=refiner.steps=2"])
    rows = table(capsys.readouterr().out)
    control, frozen, folded = rows["control"], rows["frozen"], rows["fold+channels_last+frozen"]
    assert float(control["ratio"]) == 1 and control["ratios"] == "1.000-1.000"
    assert float(frozen["ratio"]) > 0 and float(frozen["peak_MiB"]) > 0
    assert float(frozen["max_diff"]) == 0 < float(folded["max_diff"]) < 1e-3
    if what == "rear":
        assert float(frozen["live_MiB"]) < float(control["live_MiB"]) / 4
        assert float(frozen["gradient_error"]) == 0 < float(folded["gradient_error"])
        assert 0 < float(rows["fold+channels_last+frozen+signs"]["gradient_error"]) <= 1e-5


@pytest.mark.parametrize(("key", "value"), [("arms", "frozn"), ("what", "all"), ("dtype", "half"), ("outptu", "x")])
def test_benchmark_refuses_what_it_does_not_know(key, value):
    with pytest.raises(SystemExit, match=key if key == "outptu" else value):
        benchmark.main([f"{key}={value}"])


@pytest.mark.parametrize("option", ["what=refinement", "arms=control,frozen+checkpoint+signs"])
def test_benchmark_refuses_signs_where_they_have_no_effect(option):
    with pytest.raises(SystemExit, match="signs: give what=rear"):
        benchmark.main(["arms=control,frozen+signs", option])


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    scenes.main([f"output={folder}", "count=2", "side=256"])
    (folder / "README.md").touch()
    return folder


def test_arms_are_compared_with_the_first(photos, capsys):
    others = "refiner.frozen=false;preset=off"
    arms.main([f"photos={photos}", "side=0", "common=refiner.steps=1", f"arms=refiner.frozen=true;{others}"])
    first, control, off = table(capsys.readouterr().out).values()
    assert first["updates"] == control["updates"] == "1.0" and control["saved"] == "0%"
    assert first["d_psnr"] == "+0.0000" and float(first["max_to_control"]) == float(control["max_to_control"]) == 0
    assert off["psnr_hole"] != first["psnr_hole"] and float(off["max_to_control"]) > 0


def test_early_stop_reads_every_tolerance_off_one_run(photos, capsys):
    early_stop.main([f"photos={photos}", "side=0", "common=refiner.steps=6", "tolerances=0,0.9"])
    never, soon = table(capsys.readouterr().out).values()
    assert never["updates"] == "6.0" and float(never["max_to_control"]) == 0
    assert float(soon["updates"]) < 6 and float(soon["max_to_control"]) > 0
    with pytest.raises(SystemExit, match="give a side= that leads to one"):
        early_stop.main([f"photos={photos}", "side=600", "common=refiner.steps=1"])
