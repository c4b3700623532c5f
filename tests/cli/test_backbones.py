"""`refine backbones`: the list, and what it says of weights."""

import json

import pytest
import torch
from generated import refine

from refine.backbones import aot_gan
from refine.backbones.conformance.card import ENTRIES
from refine.backbones.lama import generator as ffc
from refine.backbones.migan import generator as migan_network
from refine.backbones.zits import networks as zits_networks
from refine.cli.backbones import entries, entry
from refine.config import CONFIGS, compose, names_in
from refine.factory import make_backbone
from refine.weights.download import cache_folder

SHIPPED = sorted(file.stem for file in (CONFIGS / "backbone").glob("*.yaml"))
MINE = "_target_: refine.backbones.lama.LaMa\nname: mine\nweights: null\nnative_size: 99\ncard: {paper: '[mine]'}\n"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "refine"


def listed(*overrides, status=0):
    outcome = refine("backbones", "json=true", *overrides)
    assert outcome.status == status and outcome.err == ""
    return {row["name"]: row for row in json.loads(outcome.out)}


def test_every_backbone_is_there_with_what_one_needs_to_know(cache):
    rows = listed()
    assert sorted(rows) == SHIPPED
    for name, row in rows.items():
        assert name == "replay" or all(row[entry] for entry in ENTRIES)
        assert isinstance(row["native_size"], int)
    states = {name: row["weights"]["state"] for name, row in rows.items()}
    assert (states["mini"], states["cv2_ns"], states["big_lama"], states["replay"]) == (
        "bundled",
        "none",
        "needed",
        "own",
    )


def test_the_table_reads(cache):
    outcome = refine("backbones")
    assert outcome.status == 0
    for text in (*SHIPPED, "51.0 M", "Zeng et al. 2021", "needs backbone.weights=<file>", "bundled", "none needed"):
        assert text in outcome.out


def test_cards_count_parameters_rightly():
    def millions(network):
        """But for MI-GAN's constant filters."""
        return f"{sum(p.numel() for k, p in network.named_parameters() if 'filter' not in k) / 1e6:.1f} M"

    sections = {name: compose("backbones", [f"backbone={name}"]).backbone for name in SHIPPED}
    with torch.device("meta"):
        assert millions(ffc.build(ffc.LaMaConfig())) == sections["big_lama"].card.parameters
        assert millions(ffc.build(ffc.LaMaConfig(blocks=9))) == sections["lama_fourier"].card.parameters
        assert millions(aot_gan.Generator(aot_gan.AOTGANConfig())) == sections["aot_gan"].card.parameters
        for name in ("migan", "migan_256"):
            sizes = migan_network.MIGANConfig(tuple(sections[name].sizes.channels))
            assert millions(migan_network.Generator(sizes)) == sections[name].card.parameters
        assert millions(zits_networks.Networks(zits_networks.ZITSConfig())) == sections["zits"].card.parameters
    assert millions(make_backbone(sections["mini"])) == sections["mini"].card.parameters


def test_a_folder_of_ones_own_and_a_broken_file_in_it(cache, tmp_path):
    (tmp_path / "backbone").mkdir()
    (tmp_path / "backbone" / "mine.yaml").write_text(MINE)
    (tmp_path / "backbone" / "broken.yaml").write_text("a: [")
    rows = listed(f"config_dir={tmp_path}", status=1)
    assert sorted(rows) == sorted([*SHIPPED, "mine", "broken"])
    assert rows["mine"]["native_size"] == 99
    assert "broken.yaml" in rows["broken"]["error"]
    assert "[mine]" in refine("backbones", f"config_dir={tmp_path}").out


def test_one_alone(tmp_path):
    (tmp_path / "my file.yaml").write_text(MINE.replace("null", "/somewhere/w.pt"))
    assert list(listed("backbone=mini")) == ["mini"]
    rows = listed(f"backbone={tmp_path / 'my file.yaml'}")
    assert rows["mine"]["weights"] == {"state": "given", "path": "/somewhere/w.pt", "text": "at /somewhere/w.pt"}


def test_cached_and_fetchable(cache, tmp_path):
    cache.mkdir(parents=True)
    (cache / "big_lama.zip").touch()
    (cache / "migan").mkdir()
    (cache / "mini.pt").touch()
    rows = listed()
    assert rows["big_lama"]["weights"]["path"] == str(cache / "big_lama.zip")
    assert rows["migan"]["weights"]["state"] == "cached"
    assert rows["mini"]["weights"]["state"] == "bundled"
    (tmp_path / "mine.yaml").write_text(MINE.replace("[mine]'", "', url: http://x/y.pt"))
    assert listed(f"backbone={tmp_path / 'mine.yaml'}")["mine"]["weights"]["state"] == "fetchable"


@pytest.mark.parametrize("wrong", ["jsn=true", "json=maybe", "backbone=[", "config_dir=/not/there"])
def test_what_makes_no_sense(wrong):
    outcome = refine("backbones", wrong)
    assert outcome.status == 2
    assert wrong.partition("=")[0] in outcome.err


@pytest.mark.parametrize("base", ["", "relative"])
def test_the_cache_folder_without_a_usable_setting(base, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", base)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "refine"


@pytest.mark.parametrize("setting", ["'${backbone.native_size}'", "99"])
def test_composed_together_or_one_by_one_the_rows_are_the_same(cache, tmp_path, setting):
    """An interpolation within a backbone refers to itself, not to the backbone that is listed before it."""
    (tmp_path / "backbone").mkdir()
    (tmp_path / "backbone" / "my net.v2.yaml").write_text(MINE.replace("paper: '[mine]'", f"parameters: {setting}"))
    overrides = [f"config_dir={tmp_path}"]
    available = names_in("backbone", overrides)
    if setting != "99":  # then they are composed one by one: a few do
        available = ["mini", "my net.v2", "small"]
    rows = entries(available, overrides)
    assert rows == [entry(f"backbone={name}", overrides) for name in available]
    assert {row["name"]: row.get("parameters") for row in rows}["mine"] == 99
