"""What a run says of its time before it begins, and by what it divides images."""

import cv2
import numpy as np
import pytest

from refine.analysis import calibration_cache
from refine.analysis.calibration import Calibration
from refine.analysis.memory_limit import MemoryLimit
from refine.api import load
from refine.cli.main import main
from refine.data.dataset import PairDataset
from refine.data.discovery import find_pairs
from refine.inference import foresight
from refine.inference.foresight import duration, foresee, predicted_costs
from refine.io.mask import MaskOptions

LINES = Calibration(mib=(50.0, 1000.0), update=(30.0, 0.0), forward=(10.0, 0.0), plain_mib=(20.0, 500.0))


@pytest.fixture
def photos(tmp_path):
    """A photo with a small hole in the middle, one with a large hole, and one whose mask is no image."""
    folder = tmp_path / "in"
    folder.mkdir()
    for name, side in (("large", 80), ("small", 12), ("unmasked", 0)):
        mask = np.zeros((96, 128), np.uint8)
        mask[8 : 8 + side, 20 : 20 + side] = 255
        cv2.imwrite(str(folder / f"{name}.png"), np.random.default_rng(0).integers(0, 255, (96, 128, 3), np.uint8))
        cv2.imwrite(str(folder / f"{name}_mask.png"), mask)
    (folder / "unmasked_mask.png").write_bytes(b"no image")
    return folder


def dataset(folder):
    return PairDataset(find_pairs(str(folder), None, None, str(folder / "out")).pairs, MaskOptions(), "png")


def test_windows_decide_the_cost_of_a_photo(photos, tiny):
    large, small, unmasked = predicted_costs(dataset(photos), load(*tiny))
    assert large == small == unmasked > 0  # only the headers are read
    large, small, unmasked = predicted_costs(dataset(photos), load(*tiny, "refiner.window=auto", "refiner.context=8"))
    assert large > 2 * small > 0 == unmasked


def test_plans_leave_out_what_cannot_be_read_or_does_not_fit(photos, tiny):
    refiner = load(*tiny, "refiner.window=auto", "refiner.context=8")
    plans = {mib: foresee(dataset(photos), MemoryLimit(mib, [("", refiner, LINES)], 0)) for mib in (1000, 55)}
    assert set(plans[1000]) == {"large", "small"} and set(plans[55]) == {"small"}


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (99.4, "99 s"), (100, "2 min"), (7150, "119 min"), (9700, "2 h 42 min")]
)
def test_a_time_is_told_in_few_words(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize("settings", [[], ["memory=4GiB"]])
def test_a_run_on_a_measured_machine_says_how_long_it_will_be(photos, tiny, tmp_path, monkeypatch, capsys, settings):
    (photos / "unmasked.png").unlink()
    (photos / "unmasked_mask.png").unlink()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(calibration_cache, "_apart", lambda *args: LINES)
    command = [f"input={photos}", *tiny]
    assert main(["plan", *command, *settings]) == 0
    monkeypatch.setattr(calibration_cache, "_apart", lambda *args: pytest.fail("measured unasked"))
    capsys.readouterr()
    assert main(["predict", *command, f"output={tmp_path / 'out'}", *settings]) == 0
    # Each of two photos takes 4 levels of 10 s and, at 3 of them, two updates of 30 s
    assert "about 7 min of refinement, " in capsys.readouterr().err
    monkeypatch.setattr(foresight, "LONG", 441)
    assert main(["predict", *command, f"output={tmp_path / 'short'}", *settings]) == 0
    assert "of refinement, " not in capsys.readouterr().err


def test_a_run_on_another_machine_measures_nothing(photos, tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(calibration_cache, "_apart", lambda *args: pytest.fail("measured unasked"))
    assert main(["predict", f"input={photos}", f"output={tmp_path / 'out'}", *tiny]) == 1  # one mask is no image
    assert "of refinement, " not in capsys.readouterr().err
    assert len(list((tmp_path / "out").glob("*.png"))) == 2
