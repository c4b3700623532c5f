"""The benchmark as it is started: each arm in a fresh process."""

from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.mark.slow
def test_benchmark_compares_arms_of_fresh_processes(tmp_path, process):
    script = SCRIPTS / "benchmarks" / "benchmark.py"
    run = process(script, "sizes=64", "pairs=1", "arms=control,frozen", folder=tmp_path)
    assert run.status() == 0, run.said()
    table = [line for line in run.said().splitlines() if line.startswith("|")]
    lines = [[cell.strip() for cell in line[1:-1].split("|")] for line in table]
    control, frozen = (dict(zip(lines[0], line, strict=True)) for line in lines[2:])
    assert control["arm"] == "control" and float(control["ratio"]) == 1 and float(control["peak_MiB"]) > 0
    assert frozen["arm"] == "frozen" and float(frozen["max_diff"]) == float(frozen["gradient_error"]) == 0
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_scenes_are_written_by_a_process_of_its_own(tmp_path, process):
    run = process(SCRIPTS / "training" / "make_scenes.py", "output=scenes", "count=1", "side=32", folder=tmp_path)
    assert run.status() == 0, run.said()
    assert [path.name for path in (tmp_path / "scenes").iterdir()] == ["scene_0000.png"]
