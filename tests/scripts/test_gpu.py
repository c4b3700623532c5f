"""The rows that a GPU is measured by, at toy size on the CPU."""

import json

import pytest

from benchmarks import gpu
from benchmarks.gpu_rows import ROWS

TRIED = [
    "about",
    "parity",
    "twice",
    "graph",
    "batch",
    "deterministic",
    "speed 1024 control",
    "speed 1024 bf16",
    "window",
]


def test_without_a_gpu_it_says_so_and_is_content(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(gpu.torch.cuda, "is_available", lambda: False)
    assert gpu.main([f"output={tmp_path / 'gpu'}"]) == 0
    assert capsys.readouterr().out.startswith("no CUDA device here") and not (tmp_path / "gpu").exists()


@pytest.mark.parametrize(
    "name",
    ["about", "parity", "twice", "graph", "batch", "deterministic", "speed 1024 control", "speed 1024 bf16", "window"],
)
def test_a_row_measures_at_toy_size(name):
    measured = ROWS[name](gpu.torch.device("cpu"), True)
    assert measured and "failed" not in measured
    assert all(value >= 0 for value in measured.values() if isinstance(value, float))
    assert all(value == 0 for key, value in measured.items() if key in ("max difference", "deterministic twice"))
    json.dumps(measured)


def test_a_row_that_fails_or_hangs_does_not_end_the_rest(tmp_path, monkeypatch):
    def measured(name, options, seconds):
        return {"failed": "crashed"} if name == "about" else {"seconds": 0.5}

    monkeypatch.setattr(gpu, "measure", measured)
    assert gpu.main([f"output={tmp_path}", "device=cpu", "toy=true", "rows=about,twice"]) == 0
    assert [row.get("seconds") for row in json.loads((tmp_path / "gpu.json").read_text())] == [None, 0.5]
    assert "| about | failed | crashed |" in (tmp_path / "gpu.md").read_text()


def test_a_row_is_not_begun_without_time_and_is_stopped_in_time():
    options = {"device": "cpu", "toy": "true"}
    assert gpu.measure("about", options, 0.5) == {"failed": "no time was left"}
    assert gpu.measure("twice", options, 1)["failed"] == "stopped after 1 s"


@pytest.mark.thorough
def test_a_row_in_a_process_of_its_own():
    assert gpu.measure("about", {"device": "cpu", "toy": "true"}, 120)["device"] == "CPU"
    assert "KeyError" in gpu.measure("no such row", {"device": "cpu", "toy": "true"}, 120)["failed"]


def test_an_unknown_row_is_named():
    with pytest.raises(SystemExit, match="no row is called fast; there are: about, parity"):
        gpu.main(["rows=fast"])
