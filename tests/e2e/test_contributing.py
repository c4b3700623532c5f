"""The worked example of CONTRIBUTING.md by the ``refine`` command, from a folder outside of the project."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

TEXT = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text()


@pytest.mark.slow
def test_a_backbone_of_ones_own(tmp_path):
    """Python finds the module beside the YAML, wherever the command is given."""
    blocks = re.findall(r"```(?:python|yaml)\n(.*?)```", TEXT, re.DOTALL)
    (tmp_path / "blur.py").write_text(next(text for text in blocks if "class Blur" in text))
    (tmp_path / "blur.yaml").write_text(next(text for text in blocks if "blur.Blur" in text and "_target_" in text))
    Image.new("RGB", (40, 30), "gray").save(tmp_path / "photo.png")
    Image.new("L", (40, 30), "white").save(tmp_path / "hole.png")
    (tmp_path / "elsewhere").mkdir()
    command = str(Path(sys.executable).with_name("refine"))
    images = [f"input={tmp_path / 'photo.png'}", f"mask={tmp_path / 'hole.png'}", f"output={tmp_path / 'out'}"]
    for arguments, folder in ((["check"], tmp_path), (["predict", *images], tmp_path / "elsewhere")):
        ended = subprocess.run(
            [command, *arguments, f"backbone={tmp_path / 'blur.yaml'}", "device=cpu"],
            cwd=folder,
            capture_output=True,
            text=True,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout == "" and "1 done" in ended.stderr
    assert (tmp_path / "out" / "photo.png").is_file()
