"""The command that predicts what a run takes."""

import json

import cv2
import numpy as np
import pytest

from refine.analysis import calibration_cache
from refine.cli.main import main


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.setattr(calibration_cache, "SIDES", (32, 64))
    monkeypatch.setattr(calibration_cache, "_apart", lambda function, *args: function(*args))  # as on a GPU
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, size in (("a", (96, 128)), ("b", (64, 64))):
        cv2.imwrite(str(folder / f"{name}.png"), np.random.default_rng(0).integers(0, 255, (*size, 3), np.uint8))
    (folder / "broken.png").write_bytes(b"no image")
    return [f"data={folder}", "masks=thick", "backbone=mini", "backbone.native_size=32"]


def test_a_plan_names_levels_memory_seconds_and_problems(photos, capsys):
    assert main(["plan", *photos, "json=true"]) == 1
    rows = {row["image"]: row for row in json.loads(capsys.readouterr().out)["images"]}
    assert [level["size"] for level in rows["a"]["levels"]] == [[24, 32], [48, 64], [96, 128]]
    assert rows["a"]["mib"] > 0 and rows["a"]["seconds"] > rows["b"]["seconds"] > 0 and rows["a"]["how"] == ""
    assert "its contents are no image of a supported kind" in rows["broken"]["problem"]
    assert main(["plan", *photos, "memory=1MiB"]) == 1
    printed, said = capsys.readouterr()
    assert said.count("measuring memory and time of this network on this machine with ") == 2  # one way is known by now
    assert "128x96 px would take" in printed and "3 images: 0 s of refinement" in printed


@pytest.mark.parametrize("value", ["8", "GiB", "8 gigabytes", "0GiB", "-1GiB"])
def test_an_amount_of_memory_has_a_number_and_a_unit(photos, value, capsys):
    assert main(["plan", *photos, f"memory={value}"]) == 2
    assert "expected a number above 0 and one of MiB, GiB, MB, GB, such as 8GiB" in capsys.readouterr().err
