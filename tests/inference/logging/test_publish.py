"""What W&B, CSV and TensorBoard are told, read back from their files; and that none of them can hurt a run."""

import csv
import json
import math
import os
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import wandb
from generated import hole, pair, photo, refine, save
from offline import LITTLE, OfflineRun, runs
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from refine.inference.logging.curves import flat
from refine.inference.module import InpaintingModule
from refine.inference.panels import HOLE


@pytest.fixture(autouse=True)
def elsewhere(tmp_path_factory, monkeypatch):
    """An empty working directory, in which nothing may be left; and nothing of the user's W&B."""
    folder = tmp_path_factory.mktemp("cwd")
    monkeypatch.chdir(folder)
    for name in ("MODE", "API_KEY", "PROJECT", "ENTITY", "RUN_GROUP", "TAGS", "RUN_ID", "SWEEP_ID"):
        monkeypatch.delenv(f"WANDB_{name}", raising=False)
    for name, value in LITTLE.items():
        monkeypatch.setenv(name, value)
    for name in ("WANDB_DATA_DIR", "WANDB_CONFIG_DIR", "HOME"):
        monkeypatch.setenv(name, str(tmp_path_factory.mktemp(name)))
    yield folder
    assert list(folder.iterdir()) == []


@pytest.fixture
def photos(tmp_path) -> Path:
    """Three photos of two sizes: two have two refined levels, one has one."""
    for name, (width, height) in {"a": (70, 66), "sub/b": (48, 40), "c": (72, 68)}.items():
        save(tmp_path / "in" / f"{name}.png", photo(width, height, seed=len(name)))
    return tmp_path / "in"


@pytest.fixture
def predict(tmp_path, tiny):
    """Run the command on ``in`` into ``out``; overrides come last and win."""

    def run(*overrides: str, masks: str | None = "medium"):
        given = [f"input={tmp_path / 'in'}", f"output={tmp_path / 'out'}", *([f"masks={masks}"] if masks else [])]
        return refine("predict", *given, *tiny, "refiner.steps=3", "panels.every=2", "objective.erosion=1", *overrides)

    return run


def rows(output: Path) -> list[dict[str, str]]:
    with (output / ".refine" / "rows.csv").open(newline="", encoding="utf-8", errors="surrogateescape") as stream:
        return list(csv.DictReader(stream))


def losses(output: Path) -> dict[str, list[list[float]]]:
    """Of each image, per level and update, from the rows of all processes."""
    lines = [line for file in (output / ".refine").glob("rows-*.jsonl") for line in file.read_text().split("\n")]
    return {row["key"]: row["losses"] for row in map(json.loads, filter(None, lines))}


def mean_losses(output: Path, level: int) -> dict[int, float]:
    lines = [curves[level - 1] for curves in losses(output).values() if len(curves) >= level]
    return dict(enumerate(np.mean(lines, axis=0).tolist()))


def pictures(run: OfflineRun, key: str) -> list[list[Path]]:
    """The files of each history row with pictures under a key."""
    found = [row[key] for row in run.history if key in row]
    names = [each.get("filenames") or [each["path"]] for each in found]
    return [[run.folder / "files" / name for name in each] for each in names]


def image(path: Path) -> np.ndarray:
    values = cv2.imread(str(path))
    assert values is not None, path
    return values[..., ::-1]


# W&B


def test_wandb_offline_run_says_everything(tmp_path, photos, predict):
    said = predict("logger=wandb", "logger.group=study", "logger.tags=[x,y]", "panels.keys=[a,sub/b]")
    assert said.status == 0, said.err
    (run,), output = runs(tmp_path / "out"), tmp_path / "out"
    assert (run.run.project, run.run.run_group, run.run.job_type) == ("refine", "study", "predict")
    assert run.run.display_name == "out" and list(run.run.tags) == ["x", "y"] and run.exit_code == 0
    table = rows(output)

    assert run.config["refiner"]["steps"] == 3 and run.config["masks"] == "medium"
    assert run.config["configuration"] == table[0]["configuration"]
    assert len(run.config["settings"]["backbone"]["weights"]) == 64

    for level in (1, 2):
        assert run.metrics[f"loss/level{level}"] == "update"
        assert run.series(f"loss/level{level}", "update") == pytest.approx(mean_losses(output, level))
    own = run.series("loss/level2/a", "update")
    assert list(own.values()) == losses(output)["a"][1] and len(own) == 4
    assert "loss/level1/c" not in run.metrics  # not a chosen one

    for name in ("psnr_hole_torchmetrics", "plain.psnr_hole_torchmetrics", "seconds", "peak_memory_mib"):
        assert list(run.series(f"image/{name}", "image").values()) == [float(row[name]) for row in table]
    gains = [float(row["psnr_hole_torchmetrics"]) - float(row["upscaled.psnr_hole_torchmetrics"]) for row in table]
    assert list(run.series("image/gain.upscaled.psnr_hole_torchmetrics", "image").values()) == pytest.approx(gains)

    summary = json.loads((output / ".refine" / "summary.json").read_text())
    assert summary["scores"]["psnr_hole_torchmetrics"]["n"] == 3
    for name, value in flat(summary).items():
        assert run.summary[name] == value
    assert {name for name in run.summary if name.startswith("summary/")} == set(flat(summary))
    assert "image/psnr_hole_torchmetrics" not in run.summary  # that of the last image sums nothing up
    assert run.summary["loss/level1"] == pytest.approx(mean_losses(output, 1)[3])


def test_pictures_of_a_relative_output_are_found(tmp_path, photos, predict, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert predict("logger=wandb", "panels.keys=[a]", "output=here").status == 0
    (run,) = runs(tmp_path / "here")
    assert pictures(run, "panels/a") and pictures(run, "evolution/a")


def test_wandb_has_a_table_pictures_and_an_artifact(tmp_path, photos, predict):
    assert predict("logger=wandb", "panels.count=2").status == 0
    (run,), table = runs(tmp_path / "out"), rows(tmp_path / "out")
    (file,) = (run.folder / "files" / "media" / "table").glob("images_*.table.json")
    told = json.loads(file.read_text())
    cells = [dict(zip(told["columns"], line, strict=True)) for line in told["data"]]
    assert [cell["key"] for cell in cells] == ["a", "c", "sub/b"]
    for cell, row in zip(cells, table, strict=True):
        assert cell["verdict"] == row["verdict"] and cell["seconds"] == float(row["seconds"])
        assert {"gain.plain.psnr_hole_torchmetrics", "gain.upscaled.ssim_hole_refine"} <= set(cell)

    (panel,) = pictures(run, "panels/a")
    (entry,) = [row["panels/a"] for row in run.history if "panels/a" in row]
    assert entry["captions"] == ["input", "plain", "upscaled", "refined", "truth"] and len(panel) == 5
    truth, result = image(photos / "a.png"), image(tmp_path / "out" / "a.png")
    assert np.array_equal(image(panel[4]), truth) and np.array_equal(image(panel[3]), result)
    inside = (image(panel[0]) == np.rint(np.array(HOLE) * 255)).all(-1)
    assert np.array_equal(image(panel[0])[~inside], truth[~inside])
    assert inside.mean() == pytest.approx(float(table[0]["hole"]), abs=1e-6)

    frames = [row for row in run.history if "evolution/a" in row]
    captions = [row["evolution/a"]["caption"].partition(", loss")[0] for row in frames]
    places = [f"level {level}, update {update}" for level in (1, 2) for update in (0, 2, 3)]
    assert captions == ["level 0, plain", *places]
    assert [row["frame"] for row in frames] == list(range(7)) and run.metrics["evolution/a"] == "frame"
    assert np.diff([row["_step"] for row in frames]).tolist() == [1] * 6  # one place of the slider each
    shown = [image(path) for (path,) in pictures(run, "evolution/a")]
    assert all(np.array_equal(each[~inside], truth[~inside]) for each in shown)
    assert len({each.tobytes() for each in shown}) == 7
    assert not pictures(run, "evolution/sub/b") and pictures(run, "evolution/c")

    (artifact,) = [each for each in run.artifacts if each.type == "results"]
    copies = {entry.path: Path(entry.local_path) for entry in artifact.manifest.contents}
    assert {"config.yaml", "rows.csv", "summary.json", "failures.csv", "rows-0.jsonl"} <= set(copies)
    assert copies["rows.csv"].is_relative_to(run.folder)
    assert copies["rows.csv"].read_bytes() == (tmp_path / "out" / ".refine" / "rows.csv").read_bytes()


@pytest.mark.slow
def test_jobs_of_a_multirun_are_runs_of_their_own(tmp_path, photos, tiny, process):
    script = tmp_path / "sweep.py"
    script.write_text(
        "import hydra\nfrom refine.cli.predict import run\n"
        "@hydra.main(version_base='1.3', config_path=None)\n"
        "def main(config):\n"
        f"    assert run({[f'input={photos}', 'masks=thin', *tiny, 'logger=wandb', 'panels.count=0']!r} + [\n"
        f"        f'output={tmp_path}/job{{config.steps}}', f'refiner.steps={{config.steps}}']) == 0\n"
        "main()\n"
    )
    overrides = ["+steps=1,2", f"hydra.sweep.dir={tmp_path}/sweep", "hydra.output_subdir=null"]
    done = process(script, "-m", *overrides)
    assert done.status() == 0, done.said()
    found = [runs(tmp_path / f"job{steps}") for steps in (1, 2)]
    assert [[run.config["refiner"]["steps"] for run in each] for each in found] == [[1], [2]]
    assert len({each[0].run.run_id for each in found}) == 2
    assert [len(each[0].series("loss/level1", "update")) for each in found] == [2, 3]
    assert [each[0].exit_code for each in found] == [0, 0]


# All loggers


def points(run: OfflineRun) -> dict[str, dict[int, float]]:
    """All numbers of a run: name -> place on its axis -> value."""
    found: dict[str, dict[int, float]] = {}
    for row in run.history:
        axis = next((axis for axis in ("progress", "update", "image") if axis in row), None)
        for name, value in row.items():
            if axis and "/" in name and isinstance(value, int | float | str):
                found.setdefault(name, {})[row[axis]] = float(value)
    summary = {name: value for name, value in run.summary.items() if name.startswith("summary/")}
    return found | {name: {0: float(value)} for name, value in summary.items() if isinstance(value, int | float)}


def csv_points(output: Path) -> dict[str, dict[int, float]]:
    found: dict[str, dict[int, float]] = {}
    with (output / ".refine" / "csv" / "version_0" / "metrics.csv").open(newline="") as stream:
        for row in csv.DictReader(stream):
            for name in (name for name, value in row.items() if value and name != "step"):
                found.setdefault(name, {})[int(row["step"])] = float(row[name])
    return found


def tensorboard_events(output: Path) -> EventAccumulator:
    events = EventAccumulator(str(output / ".refine" / "tensorboard" / "version_0"), {"scalars": 0, "images": 0})
    return events.Reload()


def test_all_loggers_hold_the_same_numbers(tmp_path, photos, predict):
    assert predict("logger=[csv,tensorboard,wandb]", "panels.count=1").status == 0
    (run,) = runs(tmp_path / "out")
    expected, table, events = points(run), csv_points(tmp_path / "out"), tensorboard_events(tmp_path / "out")
    assert {"loss/level1", "loss/level2/a", "image/seconds", "summary/scores/psnr_hole_torchmetrics/mean"} <= set(table)
    assert set(expected) == set(table) == set(events.Tags()["scalars"])
    for name, values in expected.items():
        assert table[name] == pytest.approx(values, nan_ok=True), name
        scalars = {event.step: event.value for event in events.Scalars(name)}
        assert scalars == pytest.approx(values, rel=1e-6, nan_ok=True), name  # float32
    assert len(events.Images("evolution/a")) == 7 and len(events.Images("panels/a/refined")) == 1
    for folder in ("csv", "tensorboard"):
        settings = (tmp_path / "out" / ".refine" / folder / "version_0" / "hparams.yaml").read_text()
        assert "steps: 3" in settings


def test_an_earlier_run_that_is_continued_is_told_too(tmp_path, photos, predict):
    (photos / "c.png").rename(tmp_path / "c.png")
    assert predict("logger=wandb", "panels.keys=[a]").status == 0
    (tmp_path / "c.png").rename(photos / "c.png")
    said = predict("logger=[csv,wandb]", "panels.keys=[a,c]")
    assert said.status == 0 and "1 done, 2 already there" in said.err
    first, second = runs(tmp_path / "out")
    assert len(first.series("image/seconds", "image")) == 2 and len(second.series("image/seconds", "image")) == 3
    assert pictures(second, "panels/a") and pictures(second, "panels/c") and pictures(second, "evolution/a")
    assert second.series("loss/level2", "update") == pytest.approx(mean_losses(tmp_path / "out", 2))
    assert csv_points(tmp_path / "out")["image/seconds"].keys() == {0, 1, 2}


def test_a_run_is_continued_by_the_same_configuration_alone(tmp_path, photos, predict):
    for steps in (3, 1, 3):
        assert predict("logger=wandb", f"refiner.steps={steps}", "overwrite=true", "panels.count=0").status == 0
    first, other, again = runs(tmp_path / "out")
    assert first.run.run_id == again.run.run_id != other.run.run_id
    # What W&B makes of it offline: one more folder, which says everything anew, from step 0 on.
    assert len({run.folder for run in (first, other, again)}) == 3
    assert not again.run.resumed and again.run.starting_step == 0 == again.history[0]["_step"]
    assert again.series("image/seconds", "image").keys() == first.series("image/seconds", "image").keys() == {0, 1, 2}
    assert {name for name in first.summary if name.startswith("summary/")} <= again.summary.keys()


def test_the_id_of_the_environment_wins_and_is_kept(tmp_path, photos, predict, monkeypatch):
    assert predict("logger=wandb", "panels.count=0").status == 0
    with monkeypatch.context() as patch:
        patch.setenv("WANDB_RUN_ID", "0123")
        assert predict("logger=wandb", "panels.count=0").status == 0
    assert predict("logger=wandb", "panels.count=0").status == 0
    assert predict("logger=wandb", "panels.count=0", "logger.id=45").status == 0
    first, *others = (run.run.run_id for run in runs(tmp_path / "out"))
    assert len(first) == 8 and others == ["0123", "0123", "45"]


def test_pictures_of_another_configuration_are_not_shown(tmp_path, photos, predict):
    assert predict("logger=csv").status == 0
    assert predict("logger=none", "refiner.steps=1", "overwrite=true").status == 0
    assert predict("logger=wandb", "refiner.steps=1").status == 0  # all are there already
    (run,) = runs(tmp_path / "out")
    assert not pictures(run, "panels/a") and len(run.series("image/seconds", "image")) == 3


def test_without_truth_curves_seconds_and_pictures_are_there(tmp_path, predict):
    pair(tmp_path / "in", "a", width=70, height=66)
    assert predict("logger=[csv,wandb]", masks=None).status == 0
    (run,) = runs(tmp_path / "out")
    assert run.series("loss/level2", "update") == pytest.approx(mean_losses(tmp_path / "out", 2))
    (entry,) = [row["panels/a"] for row in run.history if "panels/a" in row]
    assert entry["captions"] == ["input", "plain", "refined"]
    assert "image/seconds" in run.metrics and "image/psnr_hole_torchmetrics" not in run.metrics
    plain, refined = (image(path) for path in pictures(run, "panels/a")[0][1:])
    inside = hole(70, 66)
    assert np.array_equal(plain[~inside], refined[~inside]) and not np.array_equal(plain[inside], refined[inside])


@pytest.mark.parametrize(
    "override",
    [
        "evaluate=false",
        "preset=plain",
        pytest.param("preset=upscaled", marks=pytest.mark.thorough),
        pytest.param("refiner.steps=0", marks=pytest.mark.thorough),
    ],
)
def test_runs_with_less_to_tell(tmp_path, photos, predict, override):
    said = predict("logger=[csv,tensorboard,wandb]", override)
    assert said.status == 0 and "failed" not in said.err, said.err
    (run,) = runs(tmp_path / "out")
    assert len(run.series("image/seconds", "image")) == 3 and pictures(run, "panels/a")


def test_pictures_cost_no_pixel_and_none_are_made_without_a_logger(tmp_path, photos, predict):
    assert predict("logger=csv").status == 0 and predict(f"output={tmp_path / 'plain'}").status == 0
    for name in ("a.png", "c.png", "sub/b.png"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "plain" / name).read_bytes()
    assert (tmp_path / "out" / ".refine" / "panels").is_dir()
    assert not (tmp_path / "plain" / ".refine" / "panels").exists()


def test_large_images_are_shown_downscaled(tmp_path, photos, predict):
    assert predict("logger=csv", "panels.side=24", "panels.count=1").status == 0
    files = list((tmp_path / "out" / ".refine" / "panels").glob("a-*/*.png"))
    assert len(files) == 12 and {image(file).shape for file in files} == {(23, 24, 3)}


def test_odd_names(tmp_path, predict):
    names = ["ä b=1,[x]#%", os.fsdecode(b"not\xfftext"), "#", "a:b"]
    for number, name in enumerate(names):
        pair(tmp_path / "in", name, seed=number)
    said = predict("logger=[csv,tensorboard,wandb]", masks=None)
    assert said.status == 0 and "logger" not in said.err, said.err
    (run,) = runs(tmp_path / "out")
    keys = [name.encode(errors="replace").decode() for name in names]
    assert all(pictures(run, f"evolution/{key}") for key in keys)
    assert all(path.is_file() for key in keys for path in pictures(run, f"panels/{key}")[0])
    assert len(list((tmp_path / "out" / ".refine" / "panels").iterdir())) == 4


def test_a_logger_of_ones_own(tmp_path, photos, predict):
    file = tmp_path / "configs" / "logger" / "mine.yaml"
    file.parent.mkdir(parents=True)
    file.write_text("_target_: lightning.pytorch.loggers.CSVLogger\nsave_dir: null\nname: mine\n")
    assert predict("logger=mine", f"config_dir={tmp_path / 'configs'}").status == 0
    assert (tmp_path / "out" / ".refine" / "mine" / "version_0" / "metrics.csv").is_file()


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("panels.keys=[d]", "panels.keys: there is no image 'd'; there are a, c, sub/b"),
        ("panels.count=-1", "panels.count=-1"),
        ("panels.every=0", "panels.every=0"),
        ("panels.side=0", "panels.side=0"),
        ("logger=wandbb", "wandbb"),
        ("logger.ofline=true", "there is no setting 'logger.ofline'"),
    ],
)
def test_nonsense_is_refused(tmp_path, photos, predict, override, reason):
    said = predict("logger=wandb", override)
    assert said.status == 2 and reason in said.err
    assert not list((tmp_path / "out").rglob("*.png"))


# What goes wrong


def results(output: Path) -> set[str]:
    return {str(file.relative_to(output)) for file in output.rglob("*.png") if ".refine" not in file.parts}


def test_wandb_not_installed(tmp_path, photos, predict, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)  # import wandb -> ImportError
    said = predict("logger=[csv,wandb]")
    assert said.status == 0 and results(tmp_path / "out") == {"a.png", "c.png", "sub/b.png"}
    assert said.err.count("pip install 'refine-inpainting[wandb]'") == 1
    assert len(csv_points(tmp_path / "out")["image/seconds"]) == 3


def test_tensorboard_not_installed(tmp_path, photos, predict, monkeypatch):
    monkeypatch.setattr("lightning.fabric.loggers.tensorboard._TENSORBOARD_AVAILABLE", False)
    monkeypatch.setattr("lightning.fabric.loggers.tensorboard._TENSORBOARDX_AVAILABLE", False)
    said = predict("logger=[csv,tensorboard]")
    assert said.status == 0 and "pip install 'refine-inpainting[tensorboard]'" in said.err
    assert len(csv_points(tmp_path / "out")["image/seconds"]) == 3


def test_wandb_that_cannot_begin(tmp_path, photos, predict, monkeypatch):
    def refuse(**_):
        raise wandb.errors.CommError("no such host")

    monkeypatch.setattr(wandb, "init", refuse)
    said = predict("logger=[wandb,csv]")
    assert said.status == 0 and said.err.count("logger wandb failed (CommError: no such host)") == 1
    assert len(csv_points(tmp_path / "out")["image/seconds"]) == 3 and results(tmp_path / "out")


@pytest.mark.parametrize("calls", [0, pytest.param(2, marks=pytest.mark.thorough), 5])
def test_wandb_that_fails_in_the_middle(tmp_path, photos, predict, monkeypatch, calls):
    log, told = wandb.Run.log, []

    def lose(self, *arguments, **options):
        told.append(arguments)
        if len(told) > calls:
            raise ConnectionResetError("Connection lost")
        return log(self, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(wandb.Run, "log", lose)
        said = predict("logger=[wandb,csv]")
    assert said.status == 0 and said.err.count("logger wandb failed") == 1
    assert len(told) == calls + 1  # left alone from then on
    assert len(csv_points(tmp_path / "out")["image/seconds"]) == 3 and len(results(tmp_path / "out")) == 3
    assert predict("logger=wandb").status == 0  # the same command again tells it
    broken, whole = runs(tmp_path / "out")
    assert broken.exit_code == 1 and whole.exit_code == 0
    assert len(whole.series("image/seconds", "image")) == 3


def test_pictures_that_cannot_be_kept_hurt_nothing(tmp_path, photos, predict, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("refine.inference.callbacks.panels.encode", full)
        said = predict("logger=wandb")
    assert said.status == 0 and len(results(tmp_path / "out")) == 3
    assert "no pictures of a: " in said.err and "No space left on device" in said.err
    (run,) = runs(tmp_path / "out")
    assert not pictures(run, "panels/a") and len(run.series("image/seconds", "image")) == 3


def test_an_iterate_that_cannot_be_shown_hurts_nothing(tmp_path, photos, predict, monkeypatch):
    monkeypatch.setattr("refine.inference.callbacks.panels.composited", lambda *_: 1 / 0)
    said = predict("logger=csv")
    assert said.status == 0 and len(results(tmp_path / "out")) == 3 and "no pictures" in said.err


def test_a_run_that_is_stopped_or_breaks_is_closed(tmp_path, photos, predict, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(InpaintingModule, "predict_step", stop)
        assert predict("logger=wandb").status == 130
    with monkeypatch.context() as patch:
        patch.setattr("refine.inference.conclude.summarize", lambda *rows, **how: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            predict("logger=wandb")
    assert predict("logger=wandb").status == 0
    found = runs(tmp_path / "out")
    assert [run.exit_code for run in found] == [130, 1, 0]
    assert len({run.run.run_id for run in found}) == 1  # one run, continued twice
    assert found[0].config["refiner"]["steps"] == 3  # known from the start


def test_a_failed_image_shows_in_the_status(tmp_path, photos, predict):
    (photos / "d.png").write_bytes(b"no picture")
    assert predict("logger=wandb").status == 1
    (run,) = runs(tmp_path / "out")
    assert run.exit_code == 1 and len(run.series("image/seconds", "image")) == 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({}, "no API key; use `wandb login` or WANDB_API_KEY"),
        ({"WANDB_API_KEY": "a" * 40, "WANDB_BASE_URL": "http://127.0.0.1:9"}, "W&B cannot be used online"),
    ],
)
def test_online_falls_back_to_offline(tmp_path, photos, tiny, process, monkeypatch, environment, reason):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    online = ["logger=wandb", "logger.offline=false", "logger.wandb.settings.init_timeout=3"]
    run = process("predict", f"input={photos}", f"output={tmp_path / 'out'}", "masks=thin", *tiny, *online)
    assert run.status() == 0 and run.said().count(reason) == 1, run.said()
    assert "going on offline, nothing is lost. `wandb sync --id " in run.said() and "upload it with" in run.said()
    run = runs(tmp_path / "out")[-1]
    assert len(run.series("image/seconds", "image")) == 3 and run.exit_code == 0 and pictures(run, "panels/a")


@pytest.mark.slow
def test_the_rows_and_pictures_of_all_processes_are_told_once(tmp_path, photos, tiny, process):
    (photos / "broken.png").write_bytes(b"no image")
    shared = ["trainer.devices=2", "trainer.accelerator=cpu", "logger=wandb"]
    run = process("predict", f"input={photos}", f"output={tmp_path / 'out'}", "masks=thin", *tiny, *shared)
    assert run.status() == 1 and run.said().count("3 done, 1 failed") == 1, run.said()
    with (tmp_path / "out" / ".refine" / "failures.csv").open(newline="") as stream:
        assert [row["key"] for row in csv.DictReader(stream)] == ["broken"]
    assert len(rows(tmp_path / "out")) == 3
    assert len(list((tmp_path / "out" / ".refine").glob("rows-*.jsonl"))) == 2
    (run,) = runs(tmp_path / "out")
    assert run.series("loss/level1", "update") == pytest.approx(mean_losses(tmp_path / "out", 1))
    assert len(run.series("image/seconds", "image")) == 3
    assert all(pictures(run, f"evolution/{key}") for key in ("a", "c", "sub/b"))
    assert math.isfinite(run.summary["summary/seconds/mean"])
