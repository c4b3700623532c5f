"""Completion in a shell: what is offered, and that bash takes it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from generated import refine

from refine.cli.completion import candidates


@pytest.fixture
def here(tmp_path, monkeypatch):
    for name in ("photos/inside", "experiments"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("photo.png", "mine.yaml", ".hidden"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("refine pre", ["predict"]),
        ("refine nothing ", []),
        ("refine predict refiner.st", ["refiner.steps="]),
        (
            "refine predict backbone=min",
            ["backbone=mine.yaml", "backbone=mini", "backbone=mini_aot", "backbone=mini_regular"],
        ),
        ("refine predict backbone=mi input=a,b c=[ -q preset=pa", ["preset=paper"]),
        ("refine predict backbone=aot_gan backbone.ra", ["backbone.rates="]),  # which mini does not have
        ("refine predict input=pho", ["input=photo.png", "input=photos/"]),
        ("refine predict input=photos/", ["input=photos/inside/"]),
        ("refine predict backbone=./m", ["backbone=./mine.yaml"]),
        ("refine predict masks=th", ["masks=thin", "masks=thick"]),
        ("refine predict --c", ["--cfg"]),
        ("refine study experiments/x refiner.optimize", ["refiner.optimize=", "refiner.optimizer."]),
        ("refine study experiments/x report", ["report_only="]),
        ("refine study exper", ["experiments/"]),
        ("refine study which", ["which_layers", "which_layers/at_four_times"]),
        ("refine study study=eros", ["study=erosion"]),
        ("refine study m", ["mine.yaml"]),
        ("refine study input=pho", ["input=photo.png", "input=photos/"]),
        ("refine study report", ["report_only="]),
        ("refine fetch big", ["big_lama"]),
        ("refine check tin", ["tiny="]),
    ],
)
def test_what_a_line_may_go_on_with(here, line, offered):
    assert candidates(line) == offered


def test_settings_and_groups_are_offered_at_the_start_of_a_word(here):
    offered = candidates("refine predict ")
    assert {"input=", "backbone=", "backbone.", "mask_dilate=", "preset="} <= set(offered)
    assert not [text for text in offered if text.startswith("hydra")]
    assert candidates("refine ") == [
        "app",
        "backbones",
        "check",
        "fetch",
        "layers",
        "masks",
        "plan",
        "predict",
        "study",
    ]


@pytest.mark.skipif(not Path("/bin/bash").exists(), reason="no bash")
@pytest.mark.parametrize(("words", "reply"), [("predict refiner.st", "refiner.steps="), ("pred", "predict")])
def test_bash_completes(here, words, reply):
    parts = ["refine", *words.split()]
    script = f"""
    eval "$(refine -sc install=bash)"
    COMP_LINE='{" ".join(parts)}'
    COMP_POINT=${{#COMP_LINE}}; COMP_WORDS=({" ".join(parts)}); COMP_CWORD={len(parts) - 1}
    $(complete -p refine | sed 's/.*-F \\([^ ]*\\).*/\\1/')
    printf '%s\n' "${{COMPREPLY[@]}}"
    """
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    ended = subprocess.run(["/bin/bash", "-c", script], capture_output=True, text=True, env=environment)
    assert (ended.stdout.split(), ended.stderr) == ([reply], "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_scripts_for_shells(shell):
    outcome = refine("-sc", f"install={shell}")
    assert outcome.status == 0 and "-sc query=" in outcome.out
    assert "refine" in outcome.out.rstrip().splitlines()[-1]
    assert refine("--shell-completion", f"uninstall={shell}").status == 0


@pytest.mark.parametrize("wrong", [[], ["install=tcsh"], ["install"], ["bash"]])
def test_what_is_no_shell_is_told_which_there_are(wrong):
    outcome = refine("-sc", *wrong)
    assert outcome.status == 2 and "with one of bash, zsh, fish" in outcome.err
