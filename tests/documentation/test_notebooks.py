"""The notebooks: their code runs, and what they show stands in the file and on the site."""

import json
from pathlib import Path

import pytest
import torch

from documentation import notebooks

FILE = Path(__file__).parents[2] / "docs" / "notebooks" / "paper_figure.ipynb"


@pytest.fixture(scope="module")
def kept() -> dict:
    """The notebook as it is in the repository."""
    return json.loads(FILE.read_text())


def code(notebook) -> list[dict]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def kinds(notebook) -> list[list[str]]:
    return [[output["output_type"] for output in cell["outputs"]] for cell in code(notebook)]


def test_its_code_runs_and_shows_what_the_file_shows(kept):
    """On a smaller photo, with a smaller network: as many texts and figures, and what is claimed of them."""
    notebook = json.loads(FILE.read_text())
    names = notebooks.run(notebook, side=128, smallest=64, steps=2, backbone="mini")
    assert kinds(notebook) == kinds(kept) and sum(map(len, kinds(kept))) == 5
    image, mask, result = (names[name] for name in ("image", "mask", "result"))
    assert torch.equal(result.image * (1 - mask), image * (1 - mask)) and set(names["alone"]) == {1}
    assert result.levels[1].losses.min() < result.levels[1].losses[0]
    assert set(names["scores"]) == {"network alone", "enlarged", "cut 0", "cut 2", "cut 4", "cut 6"}
    assert len({round(score, 3) for score in names["scores"].values()}) == 6  # each cut has an effect of its own


def test_its_outputs_are_kept_and_small(kept):
    assert FILE.stat().st_size < 400_000
    assert [cell["execution_count"] for cell in code(kept)] == list(range(1, len(code(kept)) + 1))
    text, images = notebooks.page(FILE)
    assert len(images) == 3 and all(image.startswith(b"\xff\xd8") for image in images.values())
    assert all(f'src="{name}"' in text for name in images) and "PSNR in the hole" in text.split("```text")[-1]
