"""Whatever changes results is in the fingerprint of a run, and nothing else is."""

import shutil
import sys
from pathlib import Path

import pytest
import yaml
from generated import hole, pair, photo, save
from safetensors.torch import load_file, save_file

from refine.config import PredictConfig
from refine.config.overrides import CONFIGS
from refine.inference import fingerprint
from refine.inference.fingerprint import RunFingerprints

ADAPTER = "from refine.backbones.lama import LaMa\n\n\nclass Mine(LaMa):\n    pass\n"
LOSS = "from refine.core.objective import MultiscaleL1\n\n\nclass Mine(MultiscaleL1):\n    pass\n"


@pytest.fixture
def run(tmp_path, tiny_weights, monkeypatch):
    """A folder with photos, and a backbone, an objective and a preset of the user's own; gives a run's fingerprint."""
    monkeypatch.chdir(tmp_path)
    pair(tmp_path / "in", "a", 0, 64, 48), pair(tmp_path / "in", "b", 1, 64, 48)
    shutil.copytree(tmp_path / "in", tmp_path / "truth")
    shutil.copy(tiny_weights, tmp_path / "weights.safetensors")
    section = yaml.safe_load((CONFIGS / "backbone" / "lama.yaml").read_text())
    section |= {"_target_": "fingerprint_adapter.Mine", "weights": "weights.safetensors"}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(section | {"native_size": 16}))
    (tmp_path / "fingerprint_adapter.py").write_text(ADAPTER)
    (tmp_path / "fingerprint_loss.py").write_text(LOSS)
    (tmp_path / "configs" / "preset").mkdir(parents=True)
    (tmp_path / "configs" / "preset" / "house.yaml").write_text("# @package _global_\nrefiner: {steps: 2}\n")
    fixed = ["input=in", "truth=truth", "backbone=mine.yaml", "config_dir=configs", "preset=house", "device=cpu"]
    fixed += ["objective._target_=fingerprint_loss.Mine"]
    yield lambda *overrides: RunFingerprints()(PredictConfig.compose([*fixed, "output=out", *overrides]))
    for module in ("fingerprint_adapter", "fingerprint_loss"):
        sys.modules.pop(module, None)


def edit_weights(folder: Path) -> None:
    state = load_file(folder / "weights.safetensors")
    name = next(name for name in state if name.endswith("convl2l.weight"))
    save_file(state | {name: state[name] + 1}, folder / "weights.safetensors")


def edit_yaml(folder: Path) -> None:
    section = yaml.safe_load((folder / "mine.yaml").read_text())
    (folder / "mine.yaml").write_text(yaml.safe_dump(section | {"native_size": 32}))


EDITS = {
    "code of the adapter": lambda folder: (folder / "fingerprint_adapter.py").write_text(ADAPTER + "\n# changed\n"),
    "code of the objective": lambda folder: (folder / "fingerprint_loss.py").write_text(LOSS + "\n# changed\n"),
    "file of the backbone": edit_yaml,
    "preset in config_dir": lambda folder: (folder / "configs" / "preset" / "house.yaml").write_text(
        "# @package _global_\nrefiner: {steps: 3}\n"
    ),
    "weights": edit_weights,
    "an image": lambda folder: save(folder / "in" / "a.png", photo(64, 48, seed=7)),
    "a mask": lambda folder: save(folder / "in" / "a_mask.png", ~hole(64, 48)),
    "a truth": lambda folder: save(folder / "truth" / "a.png", photo(64, 48, seed=7)),
    "a further image": lambda folder: pair(folder / "in", "c", 2, 64, 48),
    "one image less": lambda folder: [(folder / "in" / name).unlink() for name in ("b.png", "b_mask.png")],
}


@pytest.mark.parametrize("edit", EDITS)
def test_a_changed_file_makes_another_run(run, tmp_path, edit):
    before = run()
    assert run() == before
    EDITS[edit](tmp_path)
    assert run() != before


@pytest.mark.parametrize(
    "override",
    [
        "refiner.steps=5",
        "refiner.lr=0.1",
        "refiner.optimizer._target_=torch.optim.SGD",
        "pyramid.max_levels=1",
        "objective.erosion=3",
        "mask_threshold=0.3",
        "mask_channel=red",
        "mask_dilate=1",
        "data.limit=1",
        "data.side=32",
        "format=webp",
        "metrics=[fid]",
        "evaluate=false",
    ],
)
def test_a_changed_setting_makes_another_run(run, override):
    assert run(override) != run()


def test_another_version_makes_another_run(run, monkeypatch):
    before = run()
    monkeypatch.setattr(fingerprint, "__version__", "another")
    assert run() != before


@pytest.mark.parametrize(
    "override",
    ["output=elsewhere", "trainer=ddp", "logger=csv", "panels.count=0", "overwrite=true", "refiner.frozen=false"],
)
def test_what_changes_no_result_makes_the_same_run(run, override):
    assert run(override) == run()


def test_files_at_another_place_or_time_make_the_same_run(run, tmp_path):
    before = run()
    (tmp_path / "in").rename(tmp_path / "moved")
    (tmp_path / "moved" / "a.png").touch()
    assert run("input=moved") == before


def test_drawn_masks_and_their_seed(run):
    drawn = ["truth=null", "masks=thin"]
    assert run(*drawn) == run(*drawn) != run(*drawn, "mask_seed=1")
