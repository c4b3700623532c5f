"""Predicted levels, memory and seconds against what a refiner does, and the choice under a limit."""

import math
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import refine
from refine.analysis import calibration_cache as module
from refine.analysis.calibration import ENGINE_BYTES, RUN_BYTES, Calibration
from refine.analysis.calibration_cache import calibrated_ways, known_calibration
from refine.analysis.memory_limit import MemoryLimit
from refine.analysis.plan import LevelPlan, plan_levels
from refine.config import PlanConfig
from refine.core.memory import OutOfMemory, exact_ways
from refine.core.objective import MultiscaleL1
from refine.core.pyramid import Pyramid
from refine.core.refiner import Refiner
from refine.factory import make_refiner

LINES = Calibration(mib=(50.0, 1000.0), update=(0.1, 4.0), forward=(0.05, 1.0), plain_mib=(20.0, 500.0))


@pytest.fixture(scope="module")
def refiner(tiny_weights):
    return refine.load("lama", f"backbone.weights={tiny_weights}", "backbone.native_size=32", steps=3)


def windowed(refiner, **settings):
    return Refiner(refiner.backbone, refiner.pyramid, refiner.objective, steps=[3, 2], **settings)


def test_levels_and_their_parts_are_what_the_network_is_given(refiner, monkeypatch):
    given = []
    front = type(refiner.backbone).front

    def noting(self, level):
        given.append(tuple(level.image.shape[-2:]))
        return front(self, level)

    monkeypatch.setattr(type(refiner.backbone), "front", noting)
    image, mask = torch.rand(1, 3, 150, 201), torch.zeros(1, 1, 150, 201)
    mask[..., 60:90, 70:100] = 1
    for case in (
        windowed(refiner),
        windowed(refiner, window="auto", context=16),
        windowed(refiner, window=40, context=8),
    ):
        given.clear()
        case(image, mask)
        levels = plan_levels(case, (150, 201), mask)
        assert [part for level in levels for part in level.parts] == given
        assert [level.size for level in levels] == list(case.pyramid.sizes(150, 201))
        assert [level.updates for level in levels] == [0, 3, 2]


def test_memory_is_that_of_the_largest_part_and_of_the_image():
    whole = [LevelPlan((500, 1000), ((500, 1000),), 2)]
    run = 0.5e6 * RUN_BYTES / 2**20
    assert LINES.memory(whole) == pytest.approx(50 + 1000 * 0.5 + run)
    assert LINES.memory([replace(whole[0], updates=0)]) == pytest.approx(20 + 500 * 0.5 + run)
    part = [LevelPlan((250, 500), ((250, 500),), 2), LevelPlan((500, 1000), ((200, 500), (100, 100)), 2)]
    assert LINES.memory(part) == pytest.approx(50 + 1000 * 0.125 + 0.375e6 * ENGINE_BYTES / 2**20 + run)
    assert LINES.seconds(whole) == pytest.approx(2 * (0.1 + 4 * 0.5) + 0.05 + 0.5)
    assert LINES.seconds(part) == pytest.approx(2 * (0.3 + 4 * 0.235) + 3 * 0.05 + 0.235)
    beside = replace(LINES, outside=(0.0, 10.0))
    assert beside.seconds(whole) == LINES.seconds(whole)
    assert beside.seconds(part) == pytest.approx(LINES.seconds(part) + 10 * (0.5 - 0.11))


def test_each_way_is_calibrated_once_on_a_machine_in_a_process_of_its_own(tiny_weights, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SIDES", (32, 64))
    settings = ["backbone=lama", f"backbone.weights={tiny_weights}", "backbone.native_size=32", "device=cpu"]
    config = PlanConfig.compose([*settings, "refiner.steps=3", f"input={tmp_path}"])
    refiner, asked = make_refiner(config), []
    apart = {True: module._apart, False: lambda *args: LINES}

    def ways(really=False, again=False, **changed):
        monkeypatch.setattr(module, "_apart", lambda *args: asked.append(args[-2]) or apart[really](*args))
        changed = {"memory": 4096, **changed}
        return calibrated_ways(refiner, config.model_copy(update=changed), again, tmp_path)

    ((name, way, lines),) = ways(really=True, memory=None)  # without a limit the others need no measurement
    assert (name, way) == ("", refiner) and known_calibration(refiner, 1, tmp_path) == lines
    assert all(math.isfinite(number) for line in (lines.mib, lines.update, lines.forward) for number in line)
    assert lines.update[0] + lines.update[1] * 64 * 64 / 1e6 > 0
    found = ways()
    assert [name for name, *_ in found] == [name for name, _ in exact_ways(refiner)]
    assert asked == [0, 1, 2] and found[0][2] == lines  # the first was known
    assert len(list((tmp_path / "calibration").iterdir())) == 3
    ways(threads=2)
    ways(again=True)
    assert asked == [0, 1, 2] * 3
    assert refiner.steps == (3,) and refiner.pyramid.max_levels is None


@pytest.mark.thorough
def test_a_process_that_measures_ends_with_the_one_that_started_it(tmp_path, process):
    script, told = tmp_path / "measure.py", tmp_path / "pid"
    work = f"echo $PPID > {told}.part; mv {told}.part {told}; sleep 20"
    script.write_text(
        "import os\nfrom refine.analysis.calibration_cache import _apart\n"
        f"if __name__ == '__main__':\n    _apart(os.system, {work!r})\n"
    )
    running = process(str(script))
    assert running.signal_when(signal.SIGKILL, told.exists) == -signal.SIGKILL
    child, deadline = Path(f"/proc/{told.read_text().strip()}"), time.monotonic() + 15
    while child.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not child.exists()


def test_the_first_way_that_fits_is_taken_and_none_is_a_sentence(refiner):
    less = replace(LINES, mib=(20.0, 400.0))
    ways = [(name, way, lines) for (name, way), lines in zip(exact_ways(refiner), (LINES, less, less), strict=True)]
    sizes = {"": (500, 1000), "refiner.gradient_checkpointing=true": (1000, 1000)}
    limit = MemoryLimit(700, ways, before=100)
    for expected, size in sizes.items():
        chosen = limit.choose(size)
        assert chosen.setting == expected and chosen.mib <= 700
        assert chosen.refiner.gradient_checkpointing == bool(expected)
    needed = 100 + 20 + 400 * 4 + 4e6 * RUN_BYTES / 2**20
    said = rf"2000x2000 px would take {needed:.0f} MiB .*memory=700MiB; refiner.window=\d+"
    with pytest.raises(OutOfMemory, match=said) as raised:
        limit.choose((2000, 2000))
    side, context = (int(part.split("=")[1]) for part in str(raised.value).split(";")[1].split()[:2])
    assert 2 * context < side
    fitting = [LevelPlan((2000, 2000), ((side, side),), 1)]
    assert 680 <= 100 + less.memory(fitting) <= 700
    with pytest.raises(OutOfMemory, match=r"no window is small enough, memory=\d+MiB is the least"):
        limit.choose((6000, 6000))


def test_a_run_takes_the_way_that_fits(refiner):
    from refine.core.types import Sample
    from refine.data.pairs import Failure
    from refine.inference.module import InpaintingModule

    image, mask = torch.rand(1, 3, 64, 64), torch.zeros(1, 1, 64, 64)
    mask[..., 16:48, 16:48] = 1
    plain = Refiner(refiner.backbone, Pyramid(32), MultiscaleL1(3), steps=1)
    ways = [(name, way, LINES) for name, way in exact_ways(plain)]
    fits, too_large = (InpaintingModule(plain, MemoryLimit(mib, ways, before=0)) for mib in (55, 53))
    assert torch.equal(fits.predict_step(Sample("a", image, mask), 0).image, plain(image, mask).image)
    failed = too_large.predict_step(Sample("a", image, mask), 0)
    assert isinstance(failed, Failure) and "would take 54 MiB with refiner.gradient_checkpointing=true" in failed.reason
