"""The fingerprint of a backbone: what changes its prediction changes it, and nothing else does."""

import copy
import importlib
import json
import pickle
import sys

import pytest
import torch
from torch import nn

from refine.backbones.aot_gan import AOTGAN, AOTGANConfig
from refine.backbones.lama.adapter import LaMa
from refine.backbones.lama.generator import LaMaConfig
from refine.backbones.migan.adapter import MIGAN
from refine.backbones.migan.generator import MIGANConfig
from refine.backbones.opencv import Cv2
from refine.backbones.replay.adapter import Replay
from refine.core.backbone import FrontRear
from refine.core.types import Features

pytestmark = pytest.mark.filterwarnings("ignore:.*RANDOM weights")
SIZES = LaMaConfig(width=4, downsamplings=2, blocks=2, global_channels=12)


class Noisy(nn.Module):
    """Random at run time."""

    def __init__(self, scale=0.1, bias=True):
        super().__init__()
        self.first, self.dropout = nn.Conv2d(4, 4, 1, bias=bias), nn.Dropout(scale)
        self.last = nn.Conv2d(4, 3, 1)
        for parameter in self.parameters():
            nn.init.constant_(parameter, 0.1)

    def forward(self, x):
        x = self.first(x)
        return self.last(x + torch.rand_like(x))


def lama(**arguments):
    return LaMa(**{"weights": "random", "sizes": SIZES, **arguments})


def aot_gan(**arguments):
    return AOTGAN(**{"weights": "random", "sizes": AOTGANConfig(8, 2, (1, 2)), **arguments})


def migan(**arguments):
    return MIGAN(**{"weights": "random", "cut": 4, "sizes": MIGANConfig((12, 8, 6)), **arguments})


def opencv(**arguments):
    return Cv2(**{"method": "telea", **arguments})


def replay(scale=0.1, **arguments):
    return Replay(Noisy(scale), **{"cut": "first", **arguments})


@pytest.mark.parametrize(
    ("backbone", "setting"),
    [
        (lama, {"seed": 1}),
        (lama, {"cut": 1}),
        (lama, {"cut": [0, 1]}),
        (lama, {"native_size": 256}),
        (lama, {"multiple_of": 8}),
        (lama, {"fold": False}),
        (lama, {"channels_last": False}),
        (aot_gan, {"seed": 1}),
        (aot_gan, {"cut": 2}),
        (aot_gan, {"sizes": AOTGANConfig(8, 2, (1, 3))}),
        (migan, {"seed": 1}),
        (migan, {"cut": 8}),
        (opencv, {"method": "ns"}),
        (opencv, {"radius": 5}),
        (replay, {"seed": 1}),
        (replay, {"cut": "last"}),
        (replay, {"inputs": ["hole", "image"]}),
        (replay, {"image_range": [-1, 1]}),
        (replay, {"mask_range": [-1, 1]}),
        (replay, {"output_range": [-1, 1]}),
        (replay, {"fill": None}),
        (replay, {"multiple_of": 2}),
        (replay, {"minimum_side": 8}),
        (replay, {"scale": 0.2}),  # of a layer without weights
    ],
)
def test_what_changes_the_prediction_changes_it(backbone, setting):
    assert backbone(**setting).fingerprint() != backbone().fingerprint()


def test_a_network_that_draws_random_numbers_is_another_with_another_seed():
    one, other = replay(seed=0), replay(seed=1)
    level = one._probe(0, 8)
    assert not torch.equal(one.whole(level), other.whole(level))
    assert one.weights_hash == other.weights_hash
    assert one.fingerprint() != other.fingerprint()


@pytest.mark.parametrize("backbone", [lama, aot_gan, migan, replay, opencv])
def test_names_and_copies_do_not_change_it_and_json_holds_it(backbone):
    one = backbone()
    expected = one.fingerprint()
    assert json.loads(json.dumps(expected)) == expected
    assert backbone(name="other").fingerprint() == expected
    assert copy.deepcopy(one).fingerprint() == expected
    assert pickle.loads(pickle.dumps(one)).fingerprint() == expected


def test_neither_the_place_of_the_weights_nor_what_they_replace_changes_it(tiny_weights, tmp_path):
    (tmp_path / "elsewhere.safetensors").write_bytes(tiny_weights.read_bytes())
    one, other = LaMa(tiny_weights), LaMa(tmp_path / "elsewhere.safetensors", seed=3, sizes=LaMaConfig(width=8))
    assert one.fingerprint() == other.fingerprint()


def test_says_what_it_is_made_of():
    fingerprint = lama().fingerprint()
    assert fingerprint["class"] == "refine.backbones.lama.adapter.LaMa"
    modules = {"refine.backbones.lama.adapter", "refine.backbones.lama.fourier", "refine.backbones.sequential"}
    assert set(fingerprint["source"]) == modules
    assert set(replay().fingerprint()["source"]) == {"refine.backbones.replay.adapter", Noisy.__module__}
    assert fingerprint["settings"]["activation"] == "Sigmoid"
    assert fingerprint["settings"]["cuts"] == [0]


USERS = """
from refine import Features, FrontRear
from refine.weights import hash_state
from torch import nn

class Mine(FrontRear):
    layers, multiple_of = ("z",), 1

    def __init__(self, strength, weights=None, *, native_size=32, name="mine", **others):
        super().__init__()
        self.native_size = native_size
        self.layer = nn.Conv2d(4, 3, 1)
        nn.init.zeros_(self.layer.weight), nn.init.zeros_(self.layer.bias)
        self.weights_hash = hash_state(self.state_dict())
        self.freeze()

    def front(self, level):
        return Features({"z": level.image})

    def rear(self, features):
        return features.z["z"]
"""


@pytest.fixture
def users(tmp_path, monkeypatch):
    """Write a user's module anew and import it."""
    monkeypatch.syspath_prepend(tmp_path)

    def imported(text):
        sys.modules.pop("users_adapter", None)
        (tmp_path / "users_adapter.py").write_text(text)
        importlib.invalidate_caches()
        return importlib.import_module("users_adapter")

    yield imported
    sys.modules.pop("users_adapter", None)


def test_a_users_adapter_that_declares_nothing_has_all_its_arguments_recorded(users):
    mine = users(USERS).Mine
    expected = mine(0.5).fingerprint()
    assert expected["settings"] == {"strength": 0.5, "native_size": 32, "multiple_of": 1, "minimum_side": 1}
    assert mine(strength=0.5, weights="elsewhere.pt", name="other").fingerprint() == expected
    for change in ({"strength": 0.6}, {"native_size": 64}, {"anything": [1, 2]}):
        assert mine(**{"strength": 0.5, **change}).fingerprint() != expected
    assert copy.deepcopy(mine(0.5)).fingerprint() == expected


def test_another_source_is_another_fingerprint(users):
    before = users(USERS).Mine(0.5).fingerprint()
    assert users(USERS).Mine(0.5).fingerprint() == before
    after = users(USERS.replace('features.z["z"]', 'features.z["z"] / 2')).Mine(0.5).fingerprint()
    assert after != before
    assert {key for key in after if after[key] != before[key]} == {"source"}


def test_a_subclass_inherits_what_is_declared_and_adds_the_arguments_of_its_own_constructor():
    class Twice(Cv2):
        def __init__(self, passes, method="ns"):
            super().__init__(method)

    class Same(Cv2):
        pass

    assert Twice(1).fingerprint()["settings"].items() >= {"passes": 1, "radius": 3, "method": "ns"}.items()
    assert Twice(1).fingerprint() != Twice(2).fingerprint()
    assert set(Same("ns").fingerprint()["settings"]) == set(Cv2("ns").fingerprint()["settings"])


def test_code_without_a_source_is_known_by_its_version():
    names = {"__name__": "typed_in"}
    exec(USERS, names)
    assert names["Mine"](1).fingerprint()["source"] == {"typed_in": "no source; typed_in, version unknown"}


def test_weights_without_a_hash_are_refused_with_the_way_out():
    class Forgetful(FrontRear):
        layers, multiple_of, native_size = (), 1, 32

        def front(self, level):
            return Features({})

        def rear(self, features):
            return torch.zeros(1)

    with pytest.raises(ValueError, match=r"'Forgetful' .*self.weights_hash = hash_state\(self.state_dict\(\)\)"):
        Forgetful().fingerprint()
