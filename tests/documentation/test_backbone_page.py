"""The worked examples of docs/backbone.md and docs/python.md, taken from their text and run as they stand."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from generated import hole, photo

import refine
from refine.__main__ import main

DOCS = Path(__file__).parents[2] / "docs"
TEXT = (DOCS / "backbone.md").read_text() + (DOCS / "python.md").read_text()


def block(language: str, holding: str) -> str:
    return next(text for text in re.findall(rf"```{language}\n(.*?)```", TEXT, re.S) if holding in text)


@pytest.fixture
def blur(tmp_path, monkeypatch):
    """The three files of a new backbone, in a folder of a user's own."""
    (tmp_path / "blur.py").write_text(block("python", "class Blur"))
    (tmp_path / "blur.yaml").write_text(block("yaml", "blur.Blur"))
    (tmp_path / "test_blur.py").write_text(block("python", "def test_what_is_special"))
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("blur", None)


def test_the_smallest_backbone_refines(blur):
    refiner = refine.load("backbone=blur.yaml", "refiner.steps=3", "objective.narrowest=null", device="cpu")
    image, mask = torch.rand(1, 3, 64, 72), torch.zeros(1, 1, 64, 72)
    mask[..., 20:50, 20:50] = 1
    result = refiner(image, mask)
    losses = result.levels[1].losses[:, 0]
    assert losses[-1] < losses[0]
    assert torch.equal(result.image[..., :20, :], image[..., :20, :])


def test_the_smallest_backbone_keeps_the_contract(blur, capsys):
    assert main(["check", "backbone=blur.yaml"]) == 0, capsys.readouterr().out
    assert "skipped" not in capsys.readouterr().out  # its colors come back, and its card is complete


def test_the_test_of_the_smallest_backbone_passes(blur):
    names: dict = {}
    exec((blur / "test_blur.py").read_text(), names)
    names["test_what_is_special_about_it"]()


@pytest.fixture
def filler(tiny):
    names: dict = {}
    exec(block("python", "class Filler"), names)
    return names["Filler"](*tiny)


def test_a_tool_of_ones_own(filler):
    image, mask, told = photo(60, 50), hole(60, 50), []
    filled = filler(image, mask, told.append)
    assert filled.dtype == np.uint8 and np.array_equal(filled[~mask], image[~mask])
    assert not np.array_equal(filled[mask], image[mask])
    assert told == sorted(told) and len(told) == 6 and told[-1] == 1  # two refined levels, two updates each


def test_a_tool_that_cancels(filler):
    def cancel(share: float) -> None:
        raise InterruptedError(share)

    with pytest.raises(InterruptedError):
        filler(photo(60, 50), hole(60, 50), cancel)
