"""The wheel works outside the checkout: configurations and weights are inside."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_wheel_refines_without_the_checkout(tmp_path):
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    for name in ("configs/predict.yaml", "configs/preset/paper.yaml", "weights/bundled/mini.safetensors", "py.typed"):
        assert (tmp_path / "site" / "refine" / name).is_file()
    Image.new("RGB", (40, 30), "gray").save(tmp_path / "photo.png")
    Image.new("L", (40, 30), "white").save(tmp_path / "hole.png")
    command = [
        sys.executable,
        "-m",
        "refine",
        "predict",
        "input=photo.png",
        "mask=hole.png",
        "output=out",
        "device=cpu",
    ]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    where = "import refine; print(refine.__file__)"
    found = subprocess.run([sys.executable, "-c", where], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert Path(found.stdout.strip()).is_relative_to(tmp_path / "site")
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert Image.open(tmp_path / "out" / "photo.png").size == (40, 30)
    left = {path.name for path in tmp_path.iterdir()} - {wheel.name, "site", "photo.png", "hole.png"}
    assert left == {"out"}  # nothing else is written into the working directory
