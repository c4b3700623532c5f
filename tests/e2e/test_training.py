"""Training as it is started: a process of its own, from any folder."""

import csv
from pathlib import Path

import cv2
import pytest
import torch
from safetensors.torch import load_file

from refine.backbones.lama.adapter import LaMa
from refine.backbones.lama.generator import LaMaConfig
from refine.core.types import Level
from training.scenes import render

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "training" / "train_mini.py"
TINY = ["steps=3", "interval=1", "threads=1", "trainer.accelerator=cpu", "network.width=4", "network.blocks=1"]
TINY += ["data.crop=32", "data.batch=2", "data.scenes=2", "data.scene_size=48", "data.held_out=1", "data.workers=1"]
TINY += ["loss.from=0.5", "loss.width=4", "optimizer.calibration=1"]


@pytest.mark.slow
def test_a_run_writes_into_its_folder_alone_and_lama_loads_the_weights(tmp_path, process):
    out, photos, elsewhere = (tmp_path / name for name in ("out", "photos", "elsewhere"))
    photos.mkdir()
    elsewhere.mkdir()
    for i in range(3):
        cv2.imwrite(str(photos / f"{i}.png"), render(100 + i, 40))
    run = process(SCRIPT, *TINY, f"out={out}", f"photos={photos}", folder=elsewhere)
    assert run.status() == 0, run.said()
    assert not list(elsewhere.iterdir())
    files = {"config.yaml", "curves.csv", "last.ckpt", "mini.safetensors", "scenes"}
    assert {path.name for path in out.iterdir()} <= files
    with (out / "curves.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["1", "2", "3"]
    assert rows[0]["train/critic"] == "" and rows[2]["train/critic"] != ""  # it joins late
    assert all(float(row["val/photos_psnr"]) > 0 and float(row["val/scenes_psnr"]) > 0 for row in rows)
    assert not any(key.endswith("num_batches_tracked") for key in load_file(out / "mini.safetensors"))
    network = LaMa(out / "mini.safetensors", native_size=128)
    assert network.sizes == LaMaConfig("ffc", 4, 2, 1, 12)
    level = Level(torch.rand(1, 3, 32, 32), torch.ones(1, 1, 32, 32), (32, 32))
    assert network.rear(network.front(level)).shape == (1, 3, 32, 32)
