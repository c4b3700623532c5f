"""``-q`` and ``-v``: how much a command says, in this process and in those it starts."""

import os
import subprocess
import sys

import pytest
from generated import pair, refine

from refine.cli.main import main
from refine.config.verbosity import VARIABLE


@pytest.fixture
def folder(tmp_path):
    pair(tmp_path / "photos", "a")
    (tmp_path / "photos" / "notes.txt").write_text("no picture")
    return tmp_path


def predict(folder, tiny, *flags, **settings):
    overrides = [f"{key}={value}" for key, value in settings.items()]
    paths = [f"input={folder / 'photos'}", f"output={folder / 'out'}"]
    return refine("predict", *flags, *paths, *tiny, *overrides)


@pytest.mark.parametrize("flag", ["-q", "--quiet"])
def test_quietly_a_good_run_says_nothing(folder, tiny, flag):
    outcome = predict(folder, tiny, flag)
    assert (outcome.status, outcome.out, outcome.err) == (0, "", "")
    assert "1 done" in (folder / "out" / ".refine" / "log.txt").read_text()  # the log has all
    assert VARIABLE not in os.environ


def test_quietly_warnings_and_failures_are_said(folder, tiny):
    (folder / "photos" / "b.png").write_bytes(b"broken")
    (folder / "photos" / "b_mask.png").write_bytes(b"broken")
    pair(folder / "photos", "c", width=20, height=10)  # one level
    outcome = predict(folder, tiny, "-q")
    assert outcome.status == 1
    lines = outcome.err.splitlines()
    assert [line for line in lines if line.startswith("failed: b: ")]
    assert [line for line in lines if "gives one level" in line]
    assert "done" not in outcome.err and "not used" not in outcome.err


def test_usually_the_outcome_is_said_and_details_are_not(folder, tiny):
    outcome = predict(folder, tiny)
    assert "1 done" in outcome.err and "not used: notes.txt" not in outcome.err


@pytest.mark.parametrize("flag", ["-v", "--verbose"])
def test_with_v_the_terminal_has_what_the_log_has(folder, tiny, flag):
    outcome = predict(folder, tiny, flag)
    assert "1 done" in outcome.err and "not used: notes.txt: .txt" in outcome.err


def test_with_v_an_error_says_where_it_comes_from(folder, capsys):
    for flags in ([], ["-v"]):
        assert main([*flags, "predict", f"input={folder}", f"output={folder / 'o'}", "mask_dilate=x"]) == 2
        told = capsys.readouterr().err
        assert ("Traceback" in told) == bool(flags) and told.endswith("expected a whole number.\n")


def test_both_exclude_each_other():
    outcome = refine("predict", "-q", "-v")
    assert outcome.status == 2 and "-q and -v exclude each other" in outcome.err


def test_quietly_a_check_prints_only_what_is_wrong(folder):
    assert refine("check", "backbone=cv2_ns", "-q").out == ""
    (folder / "clumsy.py").write_text(
        "from refine.backbones.opencv import Cv2\n"
        "class Clumsy(Cv2):\n    def rear(self, features):\n        return super().rear(features) * 255\n"
    )
    (folder / "mine.yaml").write_text("_target_: clumsy.Clumsy\nname: mine\nmethod: ns\n")
    outcome = refine("-q", "check", f"backbone={folder / 'mine.yaml'}")
    assert outcome.status == 1 and "Return output / 255" in outcome.out and " ok " not in outcome.out


def test_quietly_masks_are_drawn_in_silence_and_a_list_is_still_a_list(folder):
    quiet = refine("masks", f"input={folder / 'photos'}", f"output={folder / 'm'}", "kind=thin", "-q")
    assert (quiet.status, quiet.out, quiet.err) == (0, "", "") and (folder / "m").is_dir()
    assert "mini" in refine("backbones", "backbone=mini", "-q").out


def test_what_is_not_fetched_is_said_quietly_too(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert "license" in refine("fetch", "big_lama").out
    outcome = refine("fetch", "big_lama", "-q")
    assert outcome.status == 1 and "license" not in outcome.out and "fetch them by hand" in outcome.out


def test_a_warning_is_a_line_and_those_of_libraries_are_for_v():
    """In a process of its own: pytest has its own way with warnings."""
    code = (
        "import warnings, refine.cli.backbones as command\n"
        "from refine.cli.main import main\n"
        "def warn(_):\n"
        "    warnings.warn('ours', stacklevel=1); warnings.warn('theirs', DeprecationWarning, stacklevel=1); return 0\n"
        "command.run = warn\n"
        "for flags in ([], ['-q'], ['-v']): main(['backbones', *flags])\n"
    )
    ended = subprocess.run([sys.executable, "-W", "always", "-c", code], capture_output=True, text=True)
    *usually, ours, theirs = ended.stderr.splitlines()
    assert usually == ["refine: warning: ours"] * 2
    assert ours.startswith("refine: warning: ours (UserWarning, ") and "theirs (DeprecationWarning, " in theirs


def test_the_processes_of_a_study_are_quiet_too(folder, tiny, capfd):
    (folder / "q").mkdir()
    (folder / "q" / "study.yaml").write_text("{question: '?', arms: {a: []}}")
    outcome = refine("study", folder / "q", f"input={folder / 'photos'}", f"output={folder / 's'}", *tiny, "-q")
    seen = capfd.readouterr()
    assert (outcome.status, outcome.out, seen.out) == (0, "", "")
    assert "done" not in seen.err + outcome.err and "job" not in seen.err + outcome.err
