"""The rows that a GPU is measured by, at toy size on the CPU."""

import json
import time
from pathlib import Path

import pytest

from benchmarks import gpu
from benchmarks.gpu_rows import ROWS, photo

TRIED = ["about", "parity", "twice", "graph", "batch", "deterministic", "speed 1024", "speed 4096", "window"]


def test_without_a_gpu_it_says_so_and_is_content(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(gpu.torch.cuda, "is_available", lambda: False)
    assert gpu.main([f"output={tmp_path / 'gpu'}"]) == 0
    assert capsys.readouterr().out.startswith("no CUDA device here") and not (tmp_path / "gpu").exists()


@pytest.mark.parametrize("name", TRIED)
def test_a_row_measures_at_toy_size(name):
    parts = list(ROWS[name](gpu.torch.device("cpu"), True))
    measured = {key: value for part in parts for key, value in part.items()}
    assert measured and len(measured) == sum(map(len, parts))
    assert all(value >= 0 for value in measured.values() if isinstance(value, float))
    assert all(value == 0 for key, value in measured.items() if key in ("max difference", "deterministic twice"))
    json.dumps(parts)


def test_what_is_large_is_drawn_small():
    image, mask = photo(0, 1024)
    assert image.shape == (1, 3, 1024, 1024) and mask.shape == (1, 1, 1024, 1024)
    assert 0 <= image.min() < image.max() <= 1 and set(mask.unique().tolist()) == {0, 1}


def test_a_row_that_fails_or_hangs_does_not_end_the_rest(tmp_path, monkeypatch):
    def measured(name, options, seconds):
        return {"failed": "crashed"} if name == "about" else {"seconds": 0.5}

    monkeypatch.setattr(gpu, "measure", measured)
    assert gpu.main([f"output={tmp_path}", "device=cpu", "toy=true", "rows=about,twice"]) == 0
    assert [row.get("seconds") for row in json.loads((tmp_path / "gpu.json").read_text())] == [None, 0.5]
    assert "| about | failed | crashed |" in (tmp_path / "gpu.md").read_text()


def test_a_row_is_not_begun_without_time():
    assert gpu.measure("about", {"device": "cpu", "toy": "true"}, 0.5) == {"failed": "no time was left"}


def test_a_row_that_is_stopped_keeps_what_it_has_measured_and_ends_with_all_it_started(tmp_path, monkeypatch):
    script = tmp_path / "gpu.py"
    script.write_text(
        "import json, pathlib, subprocess, sys, time\n"
        "print(json.dumps({'first': 1.5}), flush=True)\n"
        "if sys.argv[2] == 'fails': raise KeyError('why')\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"pathlib.Path({str(tmp_path / 'child')!r}).write_text(str(child.pid))\n"
        "time.sleep(60)\n"
    )
    monkeypatch.setattr(gpu, "__file__", str(script))
    options = {"device": "cpu", "toy": "true"}
    found = gpu.measure("hangs", options, 8)
    assert (found["first"], found["failed"]) == (1.5, "stopped after 8 s")
    child = int((tmp_path / "child").read_text())
    for _ in range(100):
        status = Path(f"/proc/{child}/stat")
        if not status.exists() or status.read_text().split(") ")[1][0] == "Z":
            break
        time.sleep(0.05)
    else:
        raise AssertionError(f"process {child} lives on")
    failed = gpu.measure("fails", options, 60)
    assert (failed["first"], failed["failed"]) == (1.5, "KeyError: 'why'")


@pytest.mark.thorough
def test_a_row_in_a_process_of_its_own():
    assert gpu.measure("about", {"device": "cpu", "toy": "true"}, 120)["device"] == "CPU"


def test_an_unknown_row_is_named():
    with pytest.raises(SystemExit, match="no row is called fast; there are: about, on the card, parity"):
        gpu.main(["rows=fast"])
