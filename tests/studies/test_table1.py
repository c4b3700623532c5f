"""One table of every network, plain and refined: the script of experiments/table1 with tiny networks."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from generated import save
from jobs import jobs_here

from refine.studies import pipeline

SCRIPT = Path(__file__).parents[2] / "experiments" / "table1" / "table.py"


@pytest.fixture
def table1(tmp_path, monkeypatch):
    """The script with a study of one size of holes, and its README in a folder of its own."""
    spec = importlib.util.spec_from_file_location("table1", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "HERE", tmp_path)
    monkeypatch.setattr(pipeline, "launch", jobs_here)
    text = (SCRIPT.parent / "study.yaml").read_text().replace("[thin, medium, thick]", "[thick]")
    (tmp_path / "study.yaml").write_text(text)
    (tmp_path / "README.md").write_text("# Q\n<!-- results -->\nNot run yet.\n<!-- end of results -->\nend\n")
    return module


def test_a_network_without_weights_is_a_row(table1, tmp_path, capsys):
    assert table1.main(["input=x", f"output={tmp_path / 'out'}", "networks=[big_lama,nowhere]"]) == 0
    said = capsys.readouterr().out
    assert said.splitlines()[2:] == ["| big_lama | no weights |", "| nowhere | no such backbone |"]
    assert (tmp_path / "out" / "table1.md").read_text() == said
    with pytest.raises(SystemExit, match="needs output="):
        table1.main(["input=x"])


@pytest.mark.slow
def test_networks_are_compared_plain_and_refined(table1, tmp_path, capsys):
    for seed in range(2):
        save(tmp_path / "photos" / f"{seed}.png", np.random.default_rng(seed).integers(0, 256, (70, 80, 3), np.uint8))
    arguments = [
        f"input={tmp_path / 'photos'}",
        f"output={tmp_path / 'out'}",
        "tiny=true",
        "networks=[aot_gan,nowhere]",
    ]
    arguments += ["data.side=64", "pyramid.smallest_side=36", "refiner.steps=1", "device=cpu", "publish=true"]
    assert table1.main(arguments) == 0
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert rows[-5] == ["| network", "", "thick SSIM", "s/image |"]
    assert [row[:2] for row in rows[-3:]] == [
        ["| aot_gan", "plain"],
        ["| aot_gan", "refined"],
        ["| nowhere", "no such backbone"],
    ]
    assert all(0 < float(row[2]) < 1 for row in rows[-3:-1])
    readme = (tmp_path / "README.md").read_text()
    assert readme.startswith(
        "# Q\n<!-- results -->\n`python experiments/table1/table.py input=photos output=out tiny=true"
    )
    assert (
        "| aot_gan | refined |" in readme
        and readme.endswith("<!-- end of results -->\nend\n")
        and "Not run" not in readme
    )
