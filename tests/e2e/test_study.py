"""Studies run from their first arm to their report, in processes of their own."""

import json
import os
import re
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from finished import write_study
from generated import refine, save
from jobs import jobs_here
from PIL import Image

from refine.studies import pipeline

linux = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds processes in /proc, as Linux has")
ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "ablation.md").read_text()


def smooth(seed: int, width=64, height=48) -> np.ndarray:
    """A photo with something to continue."""
    colors = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(colors).resize((width, height), Image.Resampling.BICUBIC))


def photos(folder: Path, count: int) -> Path:
    for seed in range(count):
        save(folder / f"p{seed}.png", smooth(seed))
    return folder


@pytest.fixture(scope="module")
def common(tiny) -> list[str]:
    """Overrides that put the tiny network in the place of the guide's."""
    return [override for override in tiny if not override.startswith("refiner.steps")]


@pytest.fixture(scope="module")
def guide(tmp_path_factory, common) -> Path:
    """The guide's study, run by the guide's command on generated photos; gives the working directory."""
    place = tmp_path_factory.mktemp("guide")
    text = re.search(r"```yaml\n(.*?)```", GUIDE, re.S)[1]
    command = re.search(r"^refine (study .*)$", GUIDE, re.M)[1].split()
    write_study(place / "experiments" / "my_steps", text)
    shutil.copy(ROOT / "experiments" / "erosion" / "README.md", place / "experiments" / "my_steps")
    photos(place / "photos", 7)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        outcome = refine(*command, *common, "publish=true")
    assert outcome.status == 0, outcome.err
    (place / "said").write_text(outcome.out)
    return place


def test_your_first_ablation(guide):
    output = guide / "runs" / "my_steps"
    said = (guide / "said").read_text()
    assert "### psnr_hole_torchmetrics\n| arm | mean | - plain [95 %] | p (Holm) | wins |" in said
    assert all(f"\n| {arm} | " in said for arm in ("plain", "upscaled", "steps-1", "steps-3", "low_lr"))
    assert said == (output / "report.md").read_text()
    rows = pl.read_parquet(output / "results.parquet")
    assert rows.group_by("arm", maintain_order=True).len().rows() == [
        (arm, 7) for arm in ("plain", "upscaled", "low_lr", "steps-1", "steps-3")
    ]
    assert set(pl.read_csv(output / "comparisons.csv")["n"]) == {7}
    for name in ("differences.svg", "steps.svg", "cost.svg", "report.html", "steps-1/p0.png"):
        assert (output / name).is_file(), name
    cases = json.loads(re.search(r'id="data">(.*?)</script>', (output / "report.html").read_text())[1])["cases"]
    assert [set(case["images"]) for case in cases] == [{"input", "truth", *rows["arm"]}] * 6  # 2 best, median and worst
    # nothing else is left in the working directory
    assert {path.name for path in guide.iterdir()} == {"experiments", "photos", "runs", "said"}


def test_results_are_published_into_the_readme(guide):
    readme = (guide / "experiments" / "my_steps" / "README.md").read_text()
    assert "Not run yet" not in readme and "| steps-3 |" in readme and "![cost](cost.svg)" in readme
    assert str(guide) not in readme and "`refine study experiments/my_steps input=photos" in readme
    assert (guide / "experiments" / "my_steps" / "differences.svg").is_file()


def test_the_same_command_runs_nothing_again_and_says_the_same(guide, common, monkeypatch):
    monkeypatch.chdir(guide)
    output = guide / "runs" / "my_steps"
    page = (output / "report.html").read_bytes()
    outcome = refine("study", "experiments/my_steps", "input=photos", f"output={output}", *common)
    assert outcome.status == 0 and "5 jobs, 5 complete" in outcome.err
    again = refine("study", "experiments/my_steps", f"output={output}", "report_only=true")
    assert outcome.out == again.out == (guide / "said").read_text()
    assert (output / "report.html").read_bytes() == page


def test_the_plan_holds_every_setting_of_a_job(guide, common, monkeypatch):
    monkeypatch.chdir(guide)
    job = json.loads((guide / "runs" / "my_steps" / ".study" / "plan.json").read_text())["low_lr"]
    assert "refiner.lr=0.0005" in job["overrides"] and os.path.isabs(job["folder"])


@pytest.fixture(scope="module")
def small(tmp_path_factory, common) -> tuple[list[str], str, Path]:
    """A study of one arm on three photos, run whole in this process: command without output, what it said, output."""
    place = tmp_path_factory.mktemp("small")
    folder = write_study(place / "q", "{question: '?', base: [masks=thick], arms: {a: [refiner.steps=2]}}")
    command = ["study", str(folder), f"input={photos(place / 'in', 3)}", *common]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "launch", jobs_here)
        outcome = refine(*command, f"output={place / 'out'}")
    assert outcome.status == 0, outcome.err
    return command, outcome.out, place / "out"


def without_cost(table: str) -> list[str]:
    """A table's lines without seconds, memory and machine."""
    lines = [line.split("|") for line in table.splitlines() if line.startswith("|")]
    return ["|".join(cells[:7]) for cells in lines]


@pytest.mark.slow
@pytest.mark.parametrize("launched", [False, pytest.param(True, marks=pytest.mark.thorough)])
def test_a_failed_arm_and_a_failed_image_leave_the_rest_alone(tmp_path, common, monkeypatch, launched):
    if not launched:
        monkeypatch.setattr(pipeline, "launch", jobs_here)
    text = "{question: '?', base: [masks=thick], arms: {good: [refiner.steps=1], bad: ['refiner.optimize=[nowhere]']}}"
    photos(tmp_path / "in", 2)
    (tmp_path / "in" / "broken.png").write_bytes(b"no image")
    folder = write_study(tmp_path / "q", text)
    outcome = refine("study", folder, f"input={tmp_path / 'in'}", f"output={tmp_path / 'out'}", *common)
    assert outcome.status == 1
    assert "incomplete: bad: backbone 'lama' has no layer 'nowhere'" in outcome.err
    assert "incomplete: good: some images failed" in outcome.err
    assert "- bad: backbone 'lama' has no layer" in outcome.out and "\n| good |" in outcome.out
    assert "2 images per comparison" in outcome.out


@pytest.mark.slow
@linux
def test_killed_and_continued_gives_the_same_table(tmp_path, small, process, monkeypatch):
    command, said, _ = small
    command = [*command, f"output={tmp_path}"]
    run = process(*command, folder=tmp_path)
    assert run.signal_when(signal.SIGKILL, (tmp_path / "plain" / ".refine" / "job.json").exists) == -signal.SIGKILL
    wait_for(run.is_gone)  # no orphan works on
    done = {file: file.stat().st_mtime_ns for file in tmp_path.glob("*/*.png")}
    assert 3 <= len(done) < 9
    monkeypatch.setattr(pipeline, "launch", jobs_here)
    continued = refine(*command)
    assert continued.status == 0 and "3 jobs, 0 complete" not in continued.err
    assert all(file.stat().st_mtime_ns == stamp for file, stamp in done.items())
    assert without_cost(continued.out) == without_cost(said)


@pytest.mark.slow
@linux
@pytest.mark.parametrize(
    ("moment", "launcher"),
    [
        (".study/jobs/jobs.json", "basic"),
        ("plain/.refine/config.yaml", "joblib"),
        pytest.param("a/*.png", "basic", marks=pytest.mark.thorough),
        pytest.param(".study/jobs/jobs.json", "joblib", marks=pytest.mark.thorough),
        pytest.param("plain/.refine/config.yaml", "basic", marks=pytest.mark.thorough),
        pytest.param("a/*.png", "joblib", marks=pytest.mark.thorough),
    ],
)
def test_ctrl_c_says_in_a_sentence_what_is_done(tmp_path, common, process, launcher, moment):
    """Before, between and during the work of the jobs."""
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    folder = write_study(tmp_path / "q", "{question: '?', base: [masks=thick], arms: {a: [refiner.steps=40]}}")
    output = tmp_path / "out"
    command = ["study", str(folder), f"input={photos(tmp_path / 'in', 6)}", *common, f"output={output}"]
    run = process(*command, f"launcher={launcher}", folder=tmp_path)
    wait_for(lambda: list(output.glob(moment)), 240)
    run.interrupt()
    status = run.status()
    wait_for(run.is_gone)
    said = run.said()
    complete = sum(json.loads(job.read_text())["status"] == 0 for job in output.glob("*/.refine/job.json"))
    assert status == 130 and "Traceback" not in said, said
    outcome = f"refine study: interrupted: {complete} of 3 jobs complete, {3 - complete} left; run the same command to"
    assert said.splitlines()[-1] == f"{outcome} continue" and said.count("refine study: interrupted") == 1
    if launcher == "basic" and moment == "a/*.png":  # that the same command continues is tested after a SIGKILL
        assert re.search(r"\n[1-6] done, [0-5] left; run the same command to continue in", said)


def wait_for(ready: Callable[[], object], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [pytest.param("joblib", marks=pytest.mark.thorough), "submitit_local"])
def test_launchers_give_the_same_table(tmp_path, small, launcher):
    pytest.importorskip(f"hydra_plugins.hydra_{launcher.partition('_')[0]}_launcher")
    command, said, there = small
    shutil.copytree(there / "upscaled", tmp_path / "upscaled")  # complete, so that two jobs are left
    outcome = refine(*command, f"output={tmp_path}", f"launcher={launcher}")
    assert "3 jobs, 1 complete" in outcome.err
    assert outcome.status == 0, outcome.err
    assert without_cost(outcome.out) == without_cost(said)
