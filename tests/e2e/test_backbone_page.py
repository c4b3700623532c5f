"""The worked example of docs/backbone.md: in a folder outside of the project, and as a backbone that ships."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from generated import refine
from PIL import Image

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "backbone.md").read_text()


@pytest.mark.slow
def test_a_backbone_of_ones_own(tmp_path, monkeypatch):
    """Python finds the module beside the YAML, wherever the command is given; the installed command too."""
    blocks = re.findall(r"```(?:python|yaml)\n(.*?)```", TEXT, re.DOTALL)
    (tmp_path / "blur.py").write_text(next(text for text in blocks if "class Blur" in text))
    (tmp_path / "blur.yaml").write_text(next(text for text in blocks if "blur.Blur" in text and "_target_" in text))
    Image.new("RGB", (40, 30), "gray").save(tmp_path / "photo.png")
    Image.new("L", (40, 30), "white").save(tmp_path / "hole.png")
    (tmp_path / "elsewhere").mkdir()
    given = [f"backbone={tmp_path / 'blur.yaml'}", "device=cpu"]
    monkeypatch.chdir(tmp_path)
    checked = refine("check", *given)
    assert checked.status == 0, checked.out + checked.err
    command = str(Path(sys.executable).with_name("refine"))
    images = [f"input={tmp_path / 'photo.png'}", f"mask={tmp_path / 'hole.png'}", f"output={tmp_path / 'out'}"]
    ended = subprocess.run(
        [command, "predict", *images, *given], cwd=tmp_path / "elsewhere", capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout == "" and "1 done" in ended.stderr
    assert (tmp_path / "out" / "photo.png").is_file()


@pytest.mark.slow
def test_a_backbone_that_ships_passes_the_tests_that_find_it_by_themselves(tmp_path):
    for name in ("configs", "refine", "tests"):
        shutil.copytree(ROOT / name, tmp_path / name)  # with what is compiled already
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    blocks = re.findall(r"```(?:python|yaml)\n(.*?)```", TEXT, re.DOTALL)
    (tmp_path / "refine" / "backbones" / "blur.py").write_text(next(text for text in blocks if "class Blur" in text))
    yaml = next(text for text in blocks if "blur.Blur" in text and "_target_" in text)
    yaml = yaml.replace("blur.Blur", "refine.backbones.blur.Blur")
    (tmp_path / "configs" / "backbone" / "blur.yaml").write_text(yaml)
    tests = ["tests/backbones/test_conformance.py", "tests/autograd/test_selective.py", "tests/cli/test_backbones.py"]
    chosen = ["-k", "blur or every_backbone_is_there or table_reads"]
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", *chosen, *tests]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout
    for file in tests[:2]:  # those that run it; the third reads a list of all
        assert re.search(rf"^{re.escape(file)}::\S*blur\S* PASSED", ended.stdout, re.MULTILINE), ended.stdout
