"""Python of the pages, run as it stands on tiny data."""

import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from generated import hole, photo, save
from safetensors.torch import load_file
from shell_lines import blocks

import refine
from documentation import figure

ROOT = Path(__file__).parents[2]


@pytest.fixture
def place(tmp_path, monkeypatch, tiny_weights):
    """A folder with the files that the blocks name: the weights are those of a tiny LaMa."""
    save(tmp_path / "photo.jpg", photo(), quality=95)
    save(tmp_path / "hole.png", hole())
    weights = {key: value for key, value in load_file(tiny_weights).items()}
    torch.save({"state_dict": weights}, tmp_path / "best.ckpt")
    with zipfile.ZipFile(tmp_path / "big-lama.zip", "w") as archive:
        archive.write(tmp_path / "best.ckpt", "big-lama/models/best.ckpt")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", ["docs/index.md", "docs/python.md", "README.md"])
def test_blocks_run_one_after_the_other(page, place):
    names: dict = {"image": torch.rand(1, 3, 40, 48), "mask": torch.zeros(1, 1, 40, 48)}
    names["mask"][..., 10:20, 10:20] = 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # such a small image has one level
        for block in blocks((ROOT / page).read_text(), "python"):
            exec(block.replace('device="cuda"', 'device="cpu"'), names)
    assert (place / "photo_inpainted.png").is_file()
    if page != "docs/index.md":
        result, image, mask = names["result"], names["image"], names["mask"]
        assert result.image.shape == image.shape and torch.equal(result.image * (1 - mask), image * (1 - mask))
        assert names["plain"].shape == image.shape


def test_the_objective_of_ones_own_moves_the_features(tiny):
    (block,) = blocks((ROOT / "docs/method.md").read_text(), "python")
    names: dict = {"__name__": "my_loss"}
    exec(block, names)
    plain = refine.load(*tiny, "objective.erosion=0")
    objective = names["MultiscaleL2"](erosion=0)
    refiner = refine.Refiner(plain.backbone, plain.pyramid, objective, steps=3)
    image, mask = torch.rand(1, 3, 32, 32), torch.zeros(1, 1, 32, 32)
    mask[..., 8:24, 8:24] = 1
    losses = refiner(image, mask).levels[-1].losses
    assert losses[-1] < losses[0]


def test_the_figure_of_the_method_draws_every_level(tiny, tmp_path):
    image = torch.from_numpy(photo(40, 40)).permute(2, 0, 1)[None].float() / 255
    mask = torch.from_numpy(hole(40, 40).astype(np.float32))[None, None]
    figure.draw(image, mask, refine.load(*tiny), tmp_path / "levels.png")
    assert (tmp_path / "levels.png").stat().st_size > 5000
