"""The package works outside of the checkout: configurations, studies and weights are inside, and its page reads."""

import os
import re
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_string
from email.message import Message
from pathlib import Path

import pytest
import yaml
from PIL import Image

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A folder with the source distribution and, in ``site``, the content of the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("built")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stdout + made.stderr
    (wheel,) = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "site")
    return folder


@pytest.fixture(scope="module")
def metadata(built) -> Message:
    """What a package index reads."""
    (file,) = (built / "site").glob("*.dist-info/METADATA")
    return message_from_string(file.read_text())


def run(built: Path, where: Path, *arguments: str) -> str:
    """Run Python in a folder with the wheel's ``refine``; what it printed."""
    environment = {**os.environ, "PYTHONPATH": str(built / "site")}
    command = [sys.executable, *arguments]
    outcome = subprocess.run(command, cwd=where, env=environment, capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome.stderr
    return outcome.stdout


def test_it_refines_without_the_checkout(built, tmp_path):
    for name in ("configs/predict.yaml", "configs/preset/paper.yaml", "weights/bundled/mini.safetensors", "py.typed"):
        assert (built / "site" / "refine" / name).is_file()
    where = run(built, tmp_path, "-c", "import refine; print(refine.__file__)")
    assert Path(where.strip()).is_relative_to(built / "site")
    Image.new("RGB", (40, 30), "gray").save(tmp_path / "photo.png")
    Image.new("L", (40, 30), "white").save(tmp_path / "hole.png")
    run(built, tmp_path, "-m", "refine", "predict", "input=photo.png", "mask=hole.png", "output=out", "device=cpu")
    assert Image.open(tmp_path / "out" / "photo.png").size == (40, 30)
    # nothing else is written into the working directory
    assert {path.name for path in tmp_path.iterdir()} == {"photo.png", "hole.png", "out"}


def test_studies_have_names_without_the_checkout(built, tmp_path):
    files = {file.relative_to(ROOT): yaml.safe_load(file.read_text()) for file in ROOT.glob("experiments/*/*.yaml")}
    inside = built / "site" / "refine"
    assert {file: yaml.safe_load((inside / file).read_text()) for file in files} == files
    program = "from refine.cli import study; from refine.studies.shipped import find_study; study.run([])"
    listed = run(built, tmp_path, "-c", f"{program}; print(find_study('which_layers'))")
    assert len(files) > 15 and all(study["question"] in " ".join(listed.split()) for study in files.values())
    assert listed.splitlines()[-1] == str(inside / "experiments" / "which_layers" / "study.yaml")


def test_its_page_on_an_index_needs_no_file_beside_it(built, metadata):
    """Links lead to other hosts, and what is named instead of a link is in the source distribution."""
    text = metadata.get_payload()
    assert re.findall(r"\]\((?!https://)[^)]*\)", text) == [] and "make demo" not in text
    (archive,) = built.glob("*.tar.gz")
    members = {name.partition("/")[2] for name in tarfile.open(archive).getnames()}
    folders = {parent.as_posix() for name in members for parent in Path(name).parents}
    named = re.findall(r" \(`([^`]+)`\)", text)
    links = re.findall(r"(?<!!)\[[^\]]*\]\((?!https://)([^)]+)\)", (ROOT / "README.md").read_text())
    assert len(named) > 15 and set(named) <= {target.rstrip("/") for target in links}
    assert set(named) <= members | folders


def test_who_made_it_is_told_once(metadata):
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert metadata["Author"] == ", ".join(author["name"] for author in cited["authors"])
    assert (metadata["Version"], metadata["License-Expression"]) == (cited["version"], cited["license"])
    assert f"Paper, {cited['preferred-citation']['url']}" in metadata.get_all("Project-URL")
