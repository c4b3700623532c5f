"""The entry point: usage, help, version, and what is no command."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from generated import photo, refine, save

import refine as package
from refine.cli.main import main
from refine.config import CONFIGS


def test_no_arguments_show_the_usage():
    outcome = refine()
    assert outcome.status == 2 and outcome.out.startswith("usage: refine <command>") and outcome.err == ""


@pytest.mark.parametrize("flag", ["-h", "--help", "help"])
def test_help(flag):
    outcome = refine(flag)
    assert outcome.status == 0
    assert "  predict   Fill the holes of one image or of a folder." in outcome.out


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_of_a_command_shows_settings_and_choices(flag):
    outcome = refine("predict", "input=x", flag)
    assert outcome.status == 0 and outcome.err == ""
    for setting in ("input:", "output:", "mask_threshold: 0.5", "format: png", "overwrite: false", "device: auto"):
        assert f"\n{setting}" in outcome.out
    for group in ("backbone", "preset", "objective", "pyramid", "refiner"):
        (line,) = [line for line in outcome.out.splitlines() if line.startswith(f"  {group}= ")]
        assert set(line.split()[1:]) == {file.stem for file in (CONFIGS / group).glob("*.yaml")}
    assert "???" not in outcome.out


@pytest.mark.parametrize("command", [[str(Path(sys.executable).with_name("refine"))], [sys.executable, "-m", "refine"]])
@pytest.mark.parametrize("flag", ["-V", "--version"])
def test_version(command, flag):
    ended = subprocess.run([*command, flag], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, f"refine {package.__version__}\n", "")


@pytest.mark.parametrize("command", ["prdict", "input=a.png", "--verbos", "", "os.path", "../x"])
def test_unknown_commands(command):
    outcome = refine(command, "input=x")
    assert outcome.status == 2
    assert outcome.err.startswith(f"refine: error: there is no command '{command}'; there are: ")
    assert "predict" in outcome.err


def test_what_needs_no_network_does_not_wait_for_torch():
    code = "import sys, refine.__main__ as m; m.main(['--version']); sys.exit('torch' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (0, f"refine {package.__version__}\n")


def test_our_own_faults_keep_their_traceback(monkeypatch):
    def fail(overrides):
        raise RuntimeError("ours")

    monkeypatch.setattr("refine.cli.predict.run", fail)
    with pytest.raises(RuntimeError, match="ours"):
        refine("predict")


def test_a_misspelled_command_is_told_what_it_may_have_meant(capsys):
    assert main(["predct"]) == 2
    assert "Did you mean predict?" in capsys.readouterr().err


def test_help_shows_the_settings_of_groups_with_their_meaning(capsys):
    assert main(["predict", "--help"]) == 0
    assert "  steps: 15             # updates per level" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["predict"], "predict needs input=, for example input="),
        (["predict", "input=a.png", "mask=b.png"], "predict needs output=, for example output=results"),
        (["predict", "input=a.png", "output=null"], "predict needs output=, for example output=results"),
        (["predict", "input=a.png", "output=b", "workers=-1"], "workers=-1: expected"),
        (["predict", "input=a.png", "output=b", "metrics=[psnr]"], "metrics.0=psnr: expected"),
    ],
)
def test_what_is_missing_or_wrong_is_told_by_the_name_of_the_setting(arguments, told):
    outcome = refine(*arguments)
    assert outcome.status == 2 and f"refine: error: {told}" in outcome.err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["predict", "mask_dilate=x"], "mask_dilate=x: expected a whole number"),
        (["predict", "shards=2", "shard=3"], "shard=3: expected 0 to 1"),
        (["predict", "refiner.steps=abc"], "refiner.steps must be an integer >= 0"),
        (["predict", "objective.ksize=2"], "there is no setting"),
        (["layers", "size=x"], "size=x: expected a whole number"),
        (["check", "tiny=perhaps"], "tiny=perhaps: expected true or false"),
        (["masks", "kind=thik"], "kind=thik: expected"),
        (["study", "experiments/steps_lr", "page_mib=0"], "page_mib=0: expected a number greater than 0"),
        (["study", "experiments/steps_lr", "refiner.lr=-1"], "arm plain: refiner.lr must be a number > 0"),
        (["study", "experiments/steps_lr", "mask_dilate=x"], "arm plain: mask_dilate=x: expected a whole number"),
        (["study"], "study needs study="),
        (["fetch"], "fetch needs a backbone"),
    ],
)
def test_cfg_refuses_what_a_run_refuses(arguments, told, monkeypatch):
    monkeypatch.chdir(CONFIGS.parent)
    outcome = refine(*arguments, "--cfg")
    assert (outcome.status, outcome.out) == (2, "") and told in outcome.err


@pytest.mark.parametrize("command", ["predict", "masks", "layers", "check", "backbones", "fetch big_lama"])
def test_cfg_prints_what_a_run_would_need_too(command):
    outcome = refine(*command.split(), "--cfg")
    assert outcome.status == 0 and outcome.err == ""
    settings = yaml.safe_load(outcome.out)
    assert [key for key, value in settings.items() if value == "???"] == (
        ["input", "output"] if command in ("predict", "masks") else []
    )


def test_cfg_of_shards_shows_the_launcher_beside_the_settings():
    outcome = refine("predict", "shards=2", "launcher=joblib", "hydra.launcher.n_jobs=2", "--cfg")
    settings = yaml.safe_load(outcome.out)
    assert outcome.status == 0 and settings["shards"] == 2
    assert settings["launcher"] == ["launcher=joblib", "hydra.launcher.n_jobs=2"]


def test_cfg_of_a_study_shows_its_settings_and_the_overrides_of_each_job(monkeypatch, tmp_path):
    monkeypatch.chdir(CONFIGS.parent)
    folder = "experiments/steps_lr"
    settings = yaml.safe_load(refine("study", folder, "input=tests", "output=x", "launcher=joblib", "--cfg").out)
    assert settings["study"] == folder and settings["launcher"] == ["launcher=joblib"]
    assert {"plain", "upscaled"} <= set(settings["jobs"])
    assert all(f"input={CONFIGS.parent / 'tests'}" in job for job in settings["jobs"].values())
    assert not Path("x").exists()


def test_cfg_prints_the_configuration_and_runs_nothing(tmp_path, capsys):
    assert main(["predict", "input=no", f"output={tmp_path / 'o'}", "refiner.steps=3", "--cfg"]) == 0
    assert "\n  steps: 3\n" in capsys.readouterr().out and not (tmp_path / "o").exists()


def test_a_reader_that_closes_the_pipe_is_no_error():
    reader, writer = os.pipe()
    os.close(reader)
    code = "from refine.cli.main import main; raise SystemExit(main(['--help']))"
    ended = subprocess.run([sys.executable, "-c", code], stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (0, b"")


def test_a_misspelled_kind_of_masks_is_told_what_it_may_have_meant(tmp_path):
    save(tmp_path / "photos" / "a.png", photo())
    outcome = refine("predict", f"input={tmp_path / 'photos'}", f"output={tmp_path / 'o'}", "masks=thik")
    assert outcome.status == 2 and "Did you mean masks=thick?" in outcome.err
