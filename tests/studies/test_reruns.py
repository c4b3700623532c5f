"""Commands run a second time after one thing has changed: results that it changes are made again, others are kept.

Everything is run for real, in this process: `refine predict`, and `refine study` with its jobs one after the other.
"""

import contextlib
import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import yaml
from finished import write_study
from generated import pair, photo, refine, save
from jobs import jobs_here
from PIL import Image
from safetensors.torch import load_file, save_file

from refine import __version__
from refine.config.overrides import CONFIGS
from refine.inference import fingerprint
from refine.studies import pipeline, plots
from refine.studies.spec import CONTROLS

SIZE = 40, 32
AMOUNT = "mine_terms/amount.py"
CODE = {
    "mine_adapter.py": "from mine_tone import TONE\n\nfrom refine.backbones.lama import LaMa\n\n\nclass Mine(LaMa):\n"
    "    def rear(self, features):\n        return super().rear(features) * TONE + features.z['local'].mean()\n",
    "mine_tone.py": "TONE = 0.9\n",
    "mine_loss.py": "from mine_terms.shade import shaded\n\nfrom refine.core.objective import MultiscaleL1\n\n\n"
    "class Mine(MultiscaleL1):\n    def prepare(self, level, guide):\n"
    "        return super().prepare(level, shaded(guide))\n",
    "mine_terms/__init__.py": "",
    "mine_terms/shade.py": "from . import amount\n\n\ndef shaded(guide):\n    return guide * amount.AMOUNT\n",
    AMOUNT: "AMOUNT = 0.8\n",
}
PREDICT = ["predict", "input=in", "output=out", "truth=input"]
STUDY = ["study", "q", "input=in", "output=study", "truth=input"]
FIXED = ["backbone=mine.yaml", "config_dir=configs", "preset=house", "objective._target_=mine_loss.Mine", "device=cpu"]
FIXED += ["objective.erosion=3", "objective.native_size=null", "objective.narrowest=null"]
DRAWN = ["masks=thick", "input=photos"]


def world(folder: Path, tiny_weights: Path) -> None:
    """An image with its mask, and a backbone, an objective and a preset of a user's own."""
    pair(folder / "in", "a", 0, *SIZE)
    soft = np.zeros(SIZE[::-1], np.uint8)
    soft[4:26, 6:30], soft[26:30, 6:30] = 255, 100
    save(folder / "in" / "a_mask.png", np.dstack([np.full_like(soft, 255)] * 3 + [soft]))  # alpha decides
    save(folder / "photos" / "a.png", photo(*SIZE))
    shutil.copy(tiny_weights, folder / "weights.safetensors")
    section = yaml.safe_load((CONFIGS / "backbone" / "lama.yaml").read_text())
    section |= {"_target_": "mine_adapter.Mine", "weights": "weights.safetensors", "native_size": 16}
    (folder / "mine.yaml").write_text(yaml.safe_dump(section))
    for name, text in CODE.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    (folder / "configs" / "preset").mkdir(parents=True)
    (folder / "configs" / "preset" / "house.yaml").write_text("# @package _global_\nrefiner: {steps: 2, lr: 0.03}\n")
    write_study(folder / "q", "{question: '?', arms: {a: []}}")


@pytest.fixture(autouse=True, scope="module")
def quick():
    """Studies in this process, with one control and without plots: what is made again does not depend on them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "launch", jobs_here)
        patch.setattr(plots, "draw", lambda *_: {})
        patch.delitem(CONTROLS, "upscaled")
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_weights, quick):
    """Make a world with a finished run and a finished study, once for the same overrides."""
    made: dict[tuple[str, ...], Path] = {}

    def make(overrides: list[str]) -> Path:
        if tuple(overrides) not in made:
            folder = made[tuple(overrides)] = tmp_path_factory.mktemp("world")
            world(folder, tiny_weights)
            with contextlib.chdir(folder):
                for command in (PREDICT, STUDY):
                    outcome = refine(*command, *FIXED, *overrides)
                    assert outcome.status == 0, outcome.err
        return made[tuple(overrides)]

    return make


@pytest.fixture
def again(finished, tmp_path, monkeypatch, request):
    """Go to a copy of a finished world: code of the same names, in other files."""

    def copy(overrides: list[str]) -> Path:
        shutil.copytree(finished(overrides), tmp_path / "world")
        level = logging.getLogger("lightning.pytorch").level
        request.addfinalizer(lambda: logging.getLogger("lightning.pytorch").setLevel(level))
        monkeypatch.chdir(tmp_path / "world")
        return tmp_path / "world"

    return copy


def results(folder: Path) -> dict[Path, tuple[bytes, int, int]]:
    """Bytes, time and inode of all results."""
    files = [file for file in sorted(folder.rglob("a.*")) if {"out", "study", "new", "new_study"} & set(file.parts)]
    return {file: (file.read_bytes(), file.stat().st_mtime_ns, file.stat().st_ino) for file in files}


@dataclass(frozen=True)
class Change:
    """One thing that changes pixels.

    Attributes:
        named: What the refusals must say.
        overrides: Settings that change.
        edit: Function of the folder that changes a file.
        before: Settings of the first run and of the second.
        kept: Whether results of the same name were there before.
    """

    named: str
    overrides: list[str] = field(default_factory=list)
    edit: Callable[[Path], object] = lambda folder: None
    before: list[str] = field(default_factory=list)
    kept: bool = True


def replaced(name: str, old: str, new: str) -> Callable[[Path], object]:
    def edit(folder: Path) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new))

    return edit


def edit_weights(folder: Path) -> None:
    state = load_file(folder / "weights.safetensors")
    name = next(name for name in state if name.endswith("convl2l.weight"))
    save_file(state | {name: state[name] + 0.5}, folder / "weights.safetensors")


def edit_mask(folder: Path) -> None:
    with Image.open(folder / "in" / "a_mask.png") as mask:
        save(folder / "in" / "a_mask.png", np.asarray(mask)[::-1])


CHANGES = {
    "steps": Change("refiner.steps: 2 -> 3", ["refiner.steps=3"]),
    "learning rate": Change("refiner.lr: 0.03 -> 0.02", ["refiner.lr=0.02"]),
    "erosion": Change("objective.erosion: 3 -> 1", ["objective.erosion=1"]),
    "precision": Change("refiner.precision: 32 -> bf16", ["refiner.precision=bf16"]),
    "preset": Change("refiner.steps: 2 -> 0", ["preset=plain"]),
    "file of the preset": Change("refiner.steps: 2 -> 4", edit=replaced("configs/preset/house.yaml", ": 2", ": 4")),
    "file of the backbone": Change("native_size: 16 -> 24", edit=replaced("mine.yaml", "size: 16", "size: 24")),
    "weights": Change("content of the weights", edit=edit_weights),
    "code of the backbone": Change("source of mine_adapter", edit=replaced("mine_adapter.py", "* TONE", "* TONE / 2")),
    "code that the backbone imports": Change("source of mine_tone", edit=replaced("mine_tone.py", "0.9", "0.5")),
    "code of the objective": Change("source of mine_loss", edit=replaced("mine_loss.py", "shaded(guide)", "guide * 2")),
    "code that the objective imports": Change("source of mine_terms.amount", edit=replaced(AMOUNT, "0.8", "1.5")),
    "image": Change("the image file of a", edit=lambda folder: save(folder / "in" / "a.png", photo(*SIZE, seed=7))),
    "mask": Change("the mask file of a", edit=edit_mask),
    "mask_threshold": Change("mask_threshold: 0.5 -> 0.3", ["mask_threshold=0.3"]),
    "mask_dilate": Change("mask_dilate: 0 -> 2", ["mask_dilate=2"]),
    "mask_invert": Change("mask_invert: False -> True", ["mask_invert=true"]),
    "mask_channel": Change("mask_channel: auto -> luminance", ["mask_channel=luminance"]),
    "seed of drawn masks": Change("seed=0", ["mask_seed=1"], before=DRAWN),
    "format": Change("", ["format=jpg"], kept=False),
}  # fmt: skip


ALONE = {
    *("file of the preset", "precision", "learning rate", "mask_threshold", "mask_dilate", "mask_invert"),
    *("mask_channel", "code of the backbone", "code that the objective imports"),
    *("erosion", "code of the objective", "mask"),
}
"""Changes that `make test` tries with `refine predict` alone: there the study meets others of their kind."""

TRIED = [(name, name not in ALONE) for name in CHANGES]
TRIED += [pytest.param(name, True, marks=pytest.mark.thorough) for name in CHANGES if name in ALONE]


@pytest.mark.parametrize(("name", "studied"), TRIED)
def test_what_changes_pixels_makes_results_again(again, name, studied):
    change = CHANGES[name]
    folder = again(change.before)
    before = results(folder)
    change.edit(folder)
    predict, study = ([*command, *FIXED, *change.before, *change.overrides] for command in (PREDICT, STUDY))
    if change.kept:
        refused = refine(*predict)
        assert refused.status == 2 and change.named in refused.err and "overwrite=true" in refused.err
        assert results(folder) == before
    extra = ["overwrite=true"] if change.kept else []
    outcome = refine(*predict, *extra)
    assert outcome.status == 0 and "1 done in" in outcome.err
    made = (folder / "out" / ("a.png" if change.kept else "a.jpg")).read_bytes()
    assert made != before[folder / "out" / "a.png"][0]
    if not studied:
        return
    before = results(folder / "study")
    if change.kept:
        refused = refine(*study)
        assert refused.status == 1 and "incomplete: a: output=" in refused.err and "| a |" not in refused.out
        assert change.named in refused.err.partition("incomplete: a: ")[2]
        assert results(folder / "study") == before
    outcome = refine(*study, *extra)
    assert outcome.status == 0 and "2 of 2 jobs complete" in outcome.err and "| a |" in outcome.out
    assert (folder / "study" / "a" / ("a.png" if change.kept else "a.jpg")).read_bytes() == made
    assert change.kept or before.items() < results(folder / "study").items()


def rename(**names: str) -> Callable[[Path], object]:
    return lambda folder: [(folder / old).rename(folder / new) for old, new in names.items()]


def touch(folder: Path) -> None:
    for file in (file for file in folder.rglob("*") if not {"out", "study"} & set(file.relative_to(folder).parts)):
        os.utime(file, (1e9, 1e9))


KEPT = {
    "name of the results' folder": Change("", ["output=new"], rename(out="new", study="new_study")),
    "place of the inputs": Change("", ["input=moved"], rename(**{"in": "moved"})),
    "place of the weights": Change("", ["backbone.weights=moved"], rename(**{"weights.safetensors": "moved"})),
    "time of the files": Change("", edit=touch),
    "level of the log": Change("", edit=lambda _: logging.getLogger("lightning.pytorch").setLevel(logging.DEBUG)),
    "processes": Change("", ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=1"]),
    "shards": Change("", ["shards=2", "shard=0", "gather=true"]),
    "progress bar": Change("", ["trainer.enable_progress_bar=true"]),
    "logger": Change("", ["logger=csv"]),
    "pictures for loggers": Change("", ["panels.count=0", "panels.every=2"]),
    "memory": Change("", ["refiner.gradient_checkpointing=true", "refiner.frozen=false"]),
    "setting that says what is so": Change("", ["refiner.steps=2"]),
}


@pytest.mark.parametrize("name", KEPT)
def test_what_changes_no_pixel_keeps_results(again, name):
    change = KEPT[name]
    folder = again(change.before)
    before = [value for _, value in sorted(results(folder).items())]
    change.edit(folder)
    overrides = [override for override in change.overrides if not override.startswith("output=")]
    outcome = refine(*PREDICT, *FIXED, *change.overrides)
    assert outcome.status == 0 and "0 done, 1 already there" in outcome.err
    output = ["output=new_study"] if len(overrides) < len(change.overrides) else []
    outcome = refine(*STUDY, *FIXED, *overrides, *output)
    assert outcome.status == 0 and "2 jobs, 2 complete" in outcome.err and "| a |" in outcome.out
    assert before == [value for _, value in sorted(results(folder).items())]


def test_overwrite_makes_a_finished_study_again(again):
    folder = again([])
    records = [folder / "study" / arm / ".refine" for arm in ("a", "plain")]
    before = [(record / "rows-0.jsonl").read_text().count("sha256") for record in records]
    outcome = refine(*STUDY, *FIXED, "overwrite=true")
    assert outcome.status == 0 and "2 jobs, 0 complete" in outcome.err and "2 of 2 jobs complete" in outcome.err
    assert [(record / "rows-0.jsonl").read_text().count("sha256") for record in records] == [n + 1 for n in before]
    assert all((record / "log.txt").read_text().count("1 done in") == 2 for record in records)


def test_a_study_of_before_has_no_record_of_what_decided_it(again):
    folder = again([])
    (record,) = (folder / "study" / "a" / ".refine").glob("study-*.json")
    record.unlink()
    replaced("mine_tone.py", "0.9", "0.5")(folder)
    refused = refine(*STUDY, *FIXED)
    assert refused.status == 1 and "incomplete: a: output=" in refused.err and "source of mine_tone" in refused.err


def test_a_study_of_an_earlier_version_is_refused_by_name(again, monkeypatch):
    folder = again([])
    before = results(folder)
    monkeypatch.setattr(fingerprint, "__version__", "9.9")
    refused = refine(*STUDY, *FIXED)
    assert refused.status == 1 and f"version of refine: {__version__} -> 9.9" in refused.err
    assert "| a |" not in refused.out and results(folder) == before


def test_an_arm_whose_backbone_sees_the_truth_has_no_number(again):
    folder = again([])
    seeing = (
        "    def enter(self, level):\n        return super().enter(replace(level, mask=level.mask * 0))\n\n    def rear"
    )
    replaced("mine_adapter.py", "    def rear", seeing)(folder)
    replaced("mine_adapter.py", "from mine_tone", "from dataclasses import replace\n\nfrom mine_tone")(folder)
    outcome = refine(*STUDY, *FIXED, "output=seeing")
    assert outcome.status == 1 and "incomplete: a: backbone 'lama' must not see the truth" in outcome.err
    assert "| a |" not in outcome.out and not list((folder / "seeing").rglob("a.png"))
