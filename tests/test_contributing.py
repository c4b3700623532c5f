"""The worked example of CONTRIBUTING.md, taken from its text."""

import re
import sys
from pathlib import Path

import torch

import refine

TEXT = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text()
IMPORTS = """
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from refine.adapters.base import FrontRear
from refine.types import Features, Level
from refine.weights import hash_state
"""


def block(language):
    return re.search(rf"```{language}\n(.*?)```", TEXT, re.S)[1]


def test_the_smallest_backbone_refines(tmp_path, monkeypatch):
    (tmp_path / "blur.py").write_text(IMPORTS + block("python"))
    (tmp_path / "blur.yaml").write_text(block("yaml"))
    monkeypatch.syspath_prepend(tmp_path)
    refiner = refine.load(f"backbone={tmp_path / 'blur.yaml'}", "refiner.steps=3", "device=cpu")
    image, mask = torch.rand(1, 3, 64, 72), torch.zeros(1, 1, 64, 72)
    mask[..., 20:50, 20:50] = 1
    result = refiner(image, mask)
    losses = result.levels[1].losses[:, 0]
    assert losses[-1] < losses[0]
    assert torch.equal(result.image[..., :20, :], image[..., :20, :])
    del sys.modules["blur"]
