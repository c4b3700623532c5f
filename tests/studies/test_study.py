"""Studies: what they ask, how they run, and whether their statistics tell the truth."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from generated import refine, save
from omegaconf import OmegaConf
from PIL import Image
from scipy import stats

from refine.cli.study import absolute
from refine.config import compose
from refine.studies.launch import VISIBLE, keep_one_gpu
from refine.studies.plan import finish, problem, read_plan, write_plan
from refine.studies.plots import pareto
from refine.studies.report import BEGIN, END, publish
from refine.studies.spec import CONTROLS, StudyRun, make_runs, read_study
from refine.studies.statistics import compare, costs, gain, interval, read_rows

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "experiments" / "README.md").read_text()
SHIPPED = sorted(file.parent for file in (ROOT / "experiments").glob("*/study.yaml"))


def smooth(seed: int, width=64, height=48) -> np.ndarray:
    """A photo with something to continue."""
    colors = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(colors).resize((width, height), Image.Resampling.BICUBIC))


def photos(folder: Path, count: int) -> Path:
    for seed in range(count):
        save(folder / f"p{seed}.png", smooth(seed))
    return folder


def write_study(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.yaml").write_text(text)
    return folder


# --- statistics -------------------------------------------------------------------------------------------------------

SIMULATIONS = 1000


@pytest.mark.parametrize("n", [12, 24, 62])
def test_intervals_cover_what_they_say(n):
    differences = np.random.default_rng(n).normal(0.3, 1, (SIMULATIONS, n))
    low, high = interval(differences, resamples=2000)
    assert 0.93 <= np.mean((low <= 0.3) & (high >= 0.3)) <= 0.97


@pytest.mark.parametrize(("draw", "least"), [("standard_t", 0.93), ("exponential", 0.91)])
def test_intervals_of_other_shapes_are_as_the_docstring_says(draw, least):
    random = np.random.default_rng(1)
    differences = (
        random.standard_t(3, (SIMULATIONS, 62)) if draw == "standard_t" else random.exponential(1, (1000, 62)) - 1
    )
    low, high = interval(differences, resamples=2000)
    assert least <= np.mean((low <= 0) & (high >= 0)) <= 0.97


@pytest.mark.parametrize("effect", [0.0, 0.4, 0.8])
def test_planted_differences_are_found_as_often_as_theory_says(effect):
    n = 24
    low, _ = interval(np.random.default_rng(7).normal(effect, 1, (SIMULATIONS, n)), resamples=2000)
    expected = 1 - stats.nct.cdf(stats.t.ppf(0.975, n - 1), n - 1, effect * np.sqrt(n))  # power of Student's t test
    assert abs(np.mean(low > 0) - expected) < 0.03


def test_intervals_are_the_same_every_time_and_undefined_for_one_image():
    differences = np.random.default_rng(0).normal(size=9)
    assert interval(differences) == interval(differences)
    assert np.isnan(interval(np.ones(1))).all()


def test_which_way_is_better():
    assert gain("psnr_hole_torchmetrics", np.array(2.0)) == 2
    for score in ("l1_hole_refine", "known_l1_refine", "guide_l1_hole_refine", "lpips"):
        assert gain(score, np.array(2.0)) == -2
    assert gain("sharpness_hole_refine", np.array(1.25)) == gain("sharpness_hole_refine", np.array(0.75)) == -0.25


def test_pareto_front():
    assert pareto([(1, 1), (2, 3), (3, 2), (0.5, 0), (2, 2), (4, 4)]) == [3, 0, 1, 5]


# --- rows -------------------------------------------------------------------------------------------------------------


def planted(folder: Path, values: dict[str, dict[str, float | str]], seconds=1.0) -> StudyRun:
    """A job with rows by hand: image -> its score, or score and hash of inputs."""
    (folder / ".refine").mkdir(parents=True)
    rows = [
        {
            "output": f"{key}.png",
            "key": key,
            "inputs": "same",
            "psnr": 0,
            "seconds": seconds,
            "peak_memory_mib": 5,
            **row,
        }
        for key, row in values.items()
    ]
    pl.DataFrame(rows).write_csv(folder / ".refine" / "rows.csv")
    return StudyRun("", folder.name, folder, ())


@pytest.fixture
def two_arms(tmp_path):
    folder = write_study(tmp_path / "q", "{question: '?', arms: {a: [refiner.steps=1]}, scores: [psnr]}")
    return read_study(folder)


def test_only_the_same_images_and_masks_are_compared(tmp_path, two_arms):
    jobs = [
        planted(tmp_path / "off", {"x": {"psnr": 1}, "y": {"psnr": 2}, "z": {"psnr": 3}, "w": {"psnr": 9}}),
        planted(
            tmp_path / "a", {"x": {"psnr": 2}, "y": {"psnr": 2}, "z": {"psnr": 9, "inputs": "other"}, "v": {"psnr": 9}}
        ),
    ]
    compared = compare(two_arms, read_rows(two_arms, jobs))
    (row,) = compared.filter((pl.col("arm") == "a") & (pl.col("reference") == "off")).iter_rows(named=True)
    assert (row["n"], row["mean"], row["reference_mean"], row["difference"], row["wins"]) == (2, 2, 1.5, 0.5, 0.75)
    assert row["unpaired"] == 4  # z twice, v, w
    (alone,) = compared.filter((pl.col("arm") == "a") & (pl.col("reference") == "upscaled")).iter_rows(named=True)
    assert alone["n"] == 0 and np.isnan(alone["difference"])


def test_what_has_no_score_is_left_out(tmp_path, two_arms):
    jobs = [
        planted(tmp_path / "off", {"x": {"psnr": 1}, "y": {"psnr": float("nan")}}),
        planted(
            tmp_path / "a", {"x": {"psnr": 4, "guided": "0.1 0.5"}, "y": {"psnr": 2, "guided": "0.7"}}, seconds=3.0
        ),
    ]
    rows = read_rows(two_arms, jobs)
    assert compare(two_arms, rows).filter(pl.col("arm") == "a")["n"].to_list() == [1, 0]
    cost = costs(two_arms, rows)
    assert cost.select("arm", "seconds", "peak_memory_mib").rows() == [("off", 1, 5), ("a", 3, 5)]
    assert cost["guided"].to_list() == [None, pytest.approx(0.6)]  # of the last level


# --- what is asked ----------------------------------------------------------------------------------------------------


def test_grid_groups_and_controls(tmp_path):
    folder = write_study(
        tmp_path / "q",
        "{question: '?', base: [backbone=mini, refiner.steps=9], each: {masks: [thin, thick]}, reference: best,"
        " grid: {refiner.steps: [5, 15], refiner.lr: [0.001]}, arms: {best: [preset=paper]}}",
    )
    study = read_study(folder)
    assert list(study.arms) == ["off", "upscaled", "best", "steps-5_lr-0.001", "steps-15_lr-0.001"]
    assert study.references == ("off", "upscaled", "best") and study.axis == "refiner.steps"
    assert [study.place(arm) for arm in study.arms][2:] == [None, 5, 15]
    jobs = {job.name: job for job in make_runs(study, tmp_path / "out", ["refiner.lr=0.5", "device=cpu", "input=x"])}
    assert len(jobs) == 10 and jobs["thin/off"].folder == tmp_path / "out" / "thin" / "off"
    config = compose("predict", jobs["thick/steps-5_lr-0.001"].overrides)
    assert (config.refiner.steps, config.refiner.lr, config.masks, config.device) == (5, 0.001, "thick", "cpu")
    config = compose("predict", jobs["thin/off"].overrides)
    assert (config.refiner.steps, config.pyramid.max_levels) == (0, 1)  # a control stays one, whatever the base says
    assert compose("predict", jobs["thin/best"].overrides).refiner.lr == 0.5


def test_studies_share_controls_that_are_the_same_job(tmp_path):
    def controls(text, *common):
        study = read_study(write_study(tmp_path / str(len(text)), text))
        return [job.folder for job in make_runs(study, tmp_path / "out", common, tmp_path / "c") if job.arm in CONTROLS]

    first = controls("{question: '?', base: [backbone=mini, masks=thin], arms: {a: [refiner.steps=1]}}", "input=x")
    assert first == controls(
        "{question: '?', base: [masks=thin, backbone=mini], grid: {refiner.lr: [1, 2]}}", "input=x"
    )
    assert not {*first} & {*controls("{question: '?', base: [masks=thick], arms: {a: [refiner.steps=1]}}", "input=x")}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("arms: {a: [x=1]}", "expected a mapping with a question"),
        ("question: '?'", "has neither arms nor a grid"),
        ("{question: '?', armz: {a: [x=1]}}", "there is no key armz; expected some of arms"),
        ("{question: '?', arms: {a: x=1}}", "arms.a: expected a list of overrides"),
        ("{question: '?', arms: {a/b: [x=1]}}", "'a/b' is a folder's name"),
        ("{question: '?', arms: {'off': [x=1]}}", "off: there twice"),
        ("{question: '?', arms: {a: [x=1]}, reference: b}", "reference: b is no arm; there are: a"),
        ("{question: '?', arms: {a: [x=1]}, n: 1}", "n: expected a number of images, 2 or more"),
        ("{question: '?', arms: [", "no valid YAML"),
    ],
)
def test_studies_that_make_no_sense(tmp_path, text, said):
    outcome = refine("study", write_study(tmp_path / "q", text), "input=x", f"output={tmp_path / 'out'}")
    assert outcome.status == 2 and said in outcome.err and "study.yaml" in outcome.err
    assert not (tmp_path / "out").exists()


def test_requests_that_make_no_sense(tmp_path):
    folder = write_study(tmp_path / "q", "{question: '?', arms: {a: [refiner.step=1]}}")
    for overrides, said in [
        ([], "study needs study="),
        ([folder], "study needs output="),
        ([tmp_path, "output=x"], "a study is a folder with study.yaml"),
        ([folder, "output=x", "launcher=slurm"], "launcher=slurm: expected one of basic, joblib"),
        ([folder, f"output={tmp_path / 'x'}"], "arm a: there is no setting 'refiner.step'; did you mean refiner.steps"),
        ([folder, f"output={tmp_path / 'y'}", "report_only=true"], "no study was run there"),
    ]:
        outcome = refine("study", *overrides)
        assert outcome.status == 2 and said in outcome.err, outcome.err


def test_arms_find_paths_from_anywhere_and_take_no_word_for_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("input", "thick", "mini", "random"):
        (tmp_path / name).mkdir()
    (tmp_path / "my.yaml").touch()
    for override in ("truth=input", "masks=thick", "backbone=mini", "backbone.weights=random", "input=nowhere"):
        assert absolute(override) == override
    assert absolute("input=input") == f"input={tmp_path / 'input'}"
    assert absolute("backbone=my.yaml") == f"backbone={tmp_path / 'my.yaml'}"


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda folder: folder.name)
def test_shipped_studies_compose_and_have_a_place_for_their_answer(folder):
    study = read_study(folder)
    for job in make_runs(study, Path("out"), ["input=x"]):
        compose("predict", job.overrides)
    readme = (folder / "README.md").read_text()
    assert readme.startswith(f"# {study.question}\n") and BEGIN in readme and END in readme
    assert f"experiments/{folder.name}" in readme and f"[{folder.name}]({folder.name})" in GUIDE


# --- running ----------------------------------------------------------------------------------------------------------


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
    assert "### psnr_hole_torchmetrics\n| arm | mean | - off [95 %] | wins |" in said
    assert all(f"\n| {arm} | " in said for arm in ("off", "upscaled", "steps-1", "steps-3", "low_lr"))
    assert said == (output / "report.md").read_text()
    rows = pl.read_parquet(output / "results.parquet")
    assert rows.group_by("arm", maintain_order=True).len().rows() == [
        (arm, 7) for arm in ("off", "upscaled", "low_lr", "steps-1", "steps-3")
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


def test_what_makes_a_job_incomplete(tmp_path):
    (tmp_path / "photo.png").write_bytes(b"1")
    jobs = [StudyRun("", "a", tmp_path / "out" / "a", (f"input={tmp_path / 'photo.png'}", "output=somewhere"))]
    (job,) = write_plan(tmp_path / "out", jobs)
    assert read_plan(tmp_path / "out") == {"a": job}
    assert problem(job) == "not run, or not to its end"
    planted(job.folder, {"x": {}})
    finish(job, 1, "some images failed", "here")
    assert problem(job) == "some images failed"
    finish(job, 0, "", "here")
    assert problem(job) == "results were removed"
    (job.folder / "x.png").touch()
    assert problem(job) == ""
    (tmp_path / "photo.png").write_bytes(b"12")
    (changed,) = write_plan(tmp_path / "out", jobs)
    assert problem(changed) == "run with other settings or inputs"


@pytest.fixture(scope="module")
def small(tmp_path_factory, common) -> tuple[list[str], str]:
    """A study of one arm on three photos: its command without output, and what it said, run whole."""
    place = tmp_path_factory.mktemp("small")
    folder = write_study(place / "q", "{question: '?', base: [masks=thick], arms: {a: [refiner.steps=2]}}")
    command = ["study", str(folder), f"input={photos(place / 'in', 3)}", *common]
    outcome = refine(*command, f"output={place / 'out'}")
    assert outcome.status == 0, outcome.err
    return command, outcome.out


def without_cost(table: str) -> list[str]:
    """A table's lines without seconds, memory and machine."""
    lines = [line.split("|") for line in table.splitlines() if line.startswith("|")]
    return ["|".join(cells[:7]) for cells in lines]


@pytest.mark.slow
def test_a_failed_arm_and_a_failed_image_leave_the_rest_alone(tmp_path, common):
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
def test_killed_and_continued_gives_the_same_table(tmp_path, small):
    command, said = small
    command = [*command, f"output={tmp_path}"]
    run = [sys.executable, "-m", "refine", *command]
    with subprocess.Popen(run, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        wait_for(tmp_path / "off" / ".refine" / "job.json")
        process.send_signal(signal.SIGKILL)
        process.stderr.read()  # until the last process that holds it is gone: no orphan works on
    done = {file: file.stat().st_mtime_ns for file in tmp_path.glob("*/*.png")}
    assert 3 <= len(done) < 9
    continued = refine(*command)
    assert continued.status == 0 and "3 jobs, 0 complete" not in continued.err
    assert all(file.stat().st_mtime_ns == stamp for file, stamp in done.items())
    assert without_cost(continued.out) == without_cost(said)


def wait_for(file: Path, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not file.exists():
        assert time.monotonic() < end, f"{file} did not appear"
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_launchers_give_the_same_table(tmp_path, small, launcher):
    pytest.importorskip(f"hydra_plugins.hydra_{launcher.partition('_')[0]}_launcher")
    command, said = small
    outcome = refine(*command, f"output={tmp_path}", f"launcher={launcher}")
    assert outcome.status == 0, outcome.err
    assert without_cost(outcome.out) == without_cost(said)


@pytest.mark.parametrize(
    ("given", "taken"), [("3,5", "35"), ("GPU-ab", ["GPU-ab", "GPU-ab"]), (None, "01"), ("", ["", ""])]
)
def test_jobs_beside_each_other_take_gpus_in_turn(monkeypatch, given, taken):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    for number, expected in enumerate(taken):
        monkeypatch.delenv(VISIBLE, raising=False)
        if given is not None:
            monkeypatch.setenv(VISIBLE, given)
        keep_one_gpu(number)
        assert os.environ[VISIBLE] == expected
        keep_one_gpu(number + 1)  # the same process again: CUDA has read it
        assert os.environ[VISIBLE] == expected


def test_without_gpus_nothing_is_taken(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    monkeypatch.delenv(VISIBLE, raising=False)
    keep_one_gpu(1)
    assert VISIBLE not in os.environ


def test_the_plan_holds_every_setting_of_a_job(guide, common, monkeypatch):
    monkeypatch.chdir(guide)
    job = json.loads((guide / "runs" / "my_steps" / ".study" / "plan.json").read_text())["low_lr"]
    assert "refiner.lr=0.0005" in job["overrides"] and os.path.isabs(job["folder"])


def test_the_sweep_for_agents_composes():
    sweep = OmegaConf.to_container(OmegaConf.load(ROOT / "experiments" / "sweep.yaml"))
    command = sweep["command"][3].partition("predict ")[2].removesuffix(' "$@"').split()
    # The names of loggers are another file's affair.
    common = [override for override in command if not override.startswith("logger")]
    chosen = [
        f"{key}={(values.get('values') or [values.get('value')])[-1]}" for key, values in sweep["parameters"].items()
    ]
    config = compose("predict", [*common, *chosen])
    assert (config.refiner.steps, config.refiner.lr, config.masks) == (45, 0.008, "thick")


def test_another_file_of_a_study_is_published_at_its_own_mark(tmp_path):
    study, output = tmp_path / "q", tmp_path / "out"
    study.mkdir()
    output.mkdir()
    (study / "larger.yaml").write_text("question: '?'")
    marks = f"{BEGIN}\nmain\n{END}\n<!-- results: larger -->\n{END}\n"
    (study / "README.md").write_text(marks)
    (study / "cost.svg").write_text("main")
    (output / "report.md").write_text("table\n")
    (output / "cost.svg").write_text("other")
    publish(study / "larger.yaml", output, ["q/larger.yaml", "publish=true"])
    main, other = (study / "README.md").read_text().split("<!-- results: larger -->")
    assert (
        "main" in main and "table" in other and "`refine study q/larger.yaml`" in other and "larger_cost.svg" in other
    )
    assert ((study / "cost.svg").read_text(), (study / "larger_cost.svg").read_text()) == ("main", "other")
