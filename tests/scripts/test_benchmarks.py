import csv

import pytest

from benchmarks import benchmark, explain, folder


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
    with file.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    explain.main([f"rows={file}"])
    output = capsys.readouterr().out
    assert "psnr_hole_torchmetrics: gain +0.2500" in output and "(n = 4)" in output
    assert "coarse result is better than the plain one: +2.0000 +- 1.0000 (n = 2)" in output
    assert "coarse result is not better than the plain one: -1.5000 +- 0.5000 (n = 2)" in output
    assert "correlation with advantage of the coarse result: +1.00" in output
    assert "correlation with hole: -" in output  # all alike


def test_explain_needs_controls(tmp_path):
    (tmp_path / "rows.csv").write_text("key,hole\nx,0.5\n")
    with pytest.raises(SystemExit, match="masks=thick"):
        explain.main([f"rows={tmp_path / 'rows.csv'}"])


def table(text):
    """The rows of a Markdown table by arm."""
    lines = [[cell.strip() for cell in line[1:-1].split("|")] for line in text.splitlines() if line.startswith("|")]
    return {row["arm"]: row for row in (dict(zip(lines[0], line, strict=True)) for line in lines[2:])}


@pytest.fixture
def measured_here(monkeypatch):
    """Arms are measured in this process; tests/e2e starts processes."""
    monkeypatch.setattr(benchmark, "_measure_in_fresh_process", benchmark._measure)


def test_benchmark_compares_updates_of_the_rear(measured_here, capsys):
    arms = "control,frozen,fold+channels_last+frozen,fold+channels_last+frozen+signs"
    benchmark.main(["sizes=64", "pairs=1", f"arms={arms}"])
    control, frozen, folded, signs = table(capsys.readouterr().out).values()
    assert float(control["ratio"]) == 1
    assert float(frozen["ratio"]) > 0 and float(frozen["peak_MiB"]) > 0
    assert float(frozen["max_diff"]) == 0 < float(folded["max_diff"]) < 1e-3
    assert float(frozen["live_MiB"]) < float(control["live_MiB"]) / 4
    assert float(frozen["gradient_error"]) == 0 < float(folded["gradient_error"])
    assert 0 < float(signs["gradient_error"]) <= 1e-5


def test_benchmark_compares_refinements(measured_here, capsys):
    arms = "control,frozen,frozen+gradient_checkpointing,fold+channels_last+frozen"
    overrides = "refiner.steps=1,backbone.native_size=32,pyramid.max_levels=2"
    benchmark.main(["what=refinement", "sizes=64", "pairs=1", f"arms={arms}", f"overrides={overrides}"])
    control, frozen, checkpointed, folded = table(capsys.readouterr().out).values()
    assert float(control["ratio"]) == 1 and float(frozen["ratio"]) > 0 and control["live_MiB"] == ""
    assert float(frozen["max_diff"]) == float(checkpointed["max_diff"]) == 0 < float(folded["max_diff"]) < 1e-3


def test_backbones_without_bundled_weights_get_random_ones(measured_here, capsys):
    sizes = ("width=4", "blocks=1", "downsamplings=2", "global_channels=12")
    overrides = ",".join(f"backbone.sizes.{size}" for size in sizes)
    benchmark.main(["sizes=64", "pairs=2", "backbones=lama", "arms=control,frozen", f"overrides={overrides}"])
    control, frozen = table(capsys.readouterr().out).values()
    assert control["ratios"] == "1.000-1.000" and float(frozen["max_diff"]) == 0


@pytest.mark.parametrize(("key", "value"), [("arms", "frozn"), ("what", "all"), ("dtype", "half"), ("outptu", "x")])
def test_benchmark_refuses_what_it_does_not_know(key, value):
    with pytest.raises(SystemExit, match=key if key == "outptu" else value):
        benchmark.main([f"{key}={value}"])


@pytest.mark.parametrize("option", ["what=refinement", "arms=control,frozen+gradient_checkpointing+signs"])
def test_benchmark_refuses_signs_where_they_have_no_effect(option):
    with pytest.raises(SystemExit, match="signs: give what=rear"):
        benchmark.main(["arms=control,frozen+signs", option])


def test_a_folder_besides_its_refinements(capsys):
    folder.main(["count=2", "side=64", "ms=30", "rounds=1", "overrides=workers=1"])
    files, drawn = table(capsys.readouterr().out).values()
    for row in (files, drawn):
        assert float(row["images per second"].split()[0]) < 1 / 0.030
        assert 0 < float(row["outside of the network"].split("%")[0]) <= 100
        assert float(row["processor time, ms"].split()[0]) > 0
