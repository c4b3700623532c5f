"""Every backbone that ships holds to the contract, and each way of breaking it comes out red."""

import copy
import functools
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from refine.__main__ import main
from refine.backbones.conformance import checks
from refine.backbones.conformance.card import check_card
from refine.backbones.conformance.contract import CHECKS, check
from refine.config import CONFIGS, compose
from refine.core.backbone import FrontRear
from refine.core.types import Features
from refine.factory import make_backbone
from refine.weights.checkpoint import hash_state

BACKBONES = sorted(file.stem for file in (CONFIGS / "backbone").glob("*.yaml"))
built = {}


def tiny(name):
    if name not in built:
        built[name] = make_backbone(compose("check", [f"backbone={name}"]).backbone, tiny=True)
    return built[name]


@functools.cache
def checked(name):
    """What all checks find, and whether they left the backbone, and the random state, as they were."""
    backbone, state = tiny(name), torch.get_rng_state()
    before = copy.deepcopy(backbone.state_dict())
    findings = {finding.check: finding for finding in check(backbone)}
    after = backbone.state_dict()
    same = all(torch.equal(after[key], value) and after[key].dtype == value.dtype for key, value in before.items())
    return findings, same and before.keys() == after.keys(), torch.equal(torch.get_rng_state(), state)


@pytest.mark.filterwarnings("ignore:.*RANDOM weights")
@pytest.mark.parametrize("entry", CHECKS, ids=lambda entry: entry.function.__name__)
@pytest.mark.parametrize("name", BACKBONES)
def test_every_shipped_backbone_holds_to_the_contract(name, entry):
    finding = checked(name)[0][entry.words]
    assert not finding.problem
    if finding.skipped:
        pytest.skip(finding.skipped)


@pytest.mark.parametrize("name", BACKBONES)
def test_every_shipped_backbone_says_what_it_is(name):
    section = compose("predict", [f"backbone={name}", "preset=plain"]).backbone
    assert section.name == name
    finding = check_card(section)
    assert not finding.problem
    assert name == "replay" or not finding.skipped  # the users' own networks
    assert "tiny" in section
    assert isinstance(section.native_size, int)


@pytest.mark.filterwarnings("ignore:.*RANDOM weights")
@pytest.mark.parametrize("name", [name for name in BACKBONES if not name.startswith("cv2")])
def test_the_check_leaves_the_backbone_as_it_was(name):
    findings, same_weights, same_randomness = checked(name)
    assert len(findings) == len(CHECKS) and same_weights and same_randomness


class Good(FrontRear):
    """A network with a skip and a stride of 4, as it should be."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.down = nn.Conv2d(4, 8, 4, 4)
            self.dropout = nn.Dropout(0.5)
            self.up = nn.ConvTranspose2d(8, 3, 4, 4)
        self.layers, self.multiple_of, self.native_size = ("features",), 4, 32
        self.weights_hash = hash_state(self.state_dict())
        self.freeze()

    def enter(self, level):
        return torch.cat([level.image * (1 - level.mask), level.mask], dim=1)

    def front(self, level):
        x = self.enter(level)
        return Features({"features": self.down(x).tanh()}, x.mean((2, 3), keepdim=True)[:, :3])

    def rear(self, features):
        return self.up(self.dropout(features.z["features"])) + features.context * 0.1 + 0.4


class WrongPolarity(Good):
    def enter(self, level):
        return torch.cat([level.image * level.mask, 1 - level.mask], dim=1)


class BlindToTheMask(Good):
    def enter(self, level):
        return torch.cat([level.image, level.image[:, :1]], dim=1)


class KeepsItsContext(Good):
    def front(self, level):
        features = super().front(level)
        self.context = features.context
        return Features(features.z)

    def rear(self, features):
        return super().rear(Features(features.z, self.context))


class ChangesZ(Good):
    def rear(self, features):
        with torch.no_grad():
            features.z["features"].clamp_(min=0)
        return super().rear(features)


class DropoutLeftOn(Good):
    def __init__(self):
        super().__init__()
        self.dropout.train()


class WrongMultiple(Good):
    def __init__(self):
        super().__init__()
        self.multiple_of = 2


class DetachedZ(Good):
    def rear(self, features):
        return super().rear(Features({"features": features.z["features"].detach()}, features.context))


class Clamped(Good):
    def rear(self, features):
        return super().rear(features).clamp(0, 1)


class Composited(Good):
    def front(self, level):
        features = super().front(level)
        return Features(features.z, (features.context, level))

    def rear(self, features):
        context, level = features.context
        return torch.where(level.mask > 0, super().rear(Features(features.z, context)), level.image)


class OwnRange(Good):
    def rear(self, features):
        return super().rear(features) * 255


class Thawed(Good):
    def __init__(self):
        super().__init__()
        self.up.requires_grad_(True)


class Single(Good):
    def rear(self, features):
        return super().rear(features).float()


class MixesTheBatch(Good):
    def rear(self, features):
        return super().rear(Features(features.z, features.context.mean(0, keepdim=True)))


class OtherNames(Good):
    def __init__(self):
        super().__init__()
        self.layers = ("z",)


class OtherWhole(Good):
    def whole(self, level):
        return self.rear(self.front(level)) + 0.01


class Unrecognizable(Good):
    def __init__(self):
        super().__init__()
        self.weights_hash = ""


class Restless(Good):
    output_settings = ("now",)
    now = property(lambda self: time.perf_counter())


class Uphill(Good):
    """Its gradient points the other way."""

    class Negated(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            return -gradient

    def rear(self, features):
        return super().rear(Features({"features": self.Negated.apply(features.z["features"])}, features.context))


class Failing(Good):
    def rear(self, features):
        raise RuntimeError("no such thing")


class Signed(Good):
    def rear(self, features):
        return super().rear(features).tanh()


def test_a_good_adapter_is_all_green():
    findings = {finding.check: finding for finding in check(Good())}
    assert "as with random weights" in findings.pop("range and order of colors").skipped
    assert not [finding for finding in findings.values() if finding.problem or finding.skipped]


@pytest.mark.parametrize(
    ("broken", "red", "message"),
    [
        (WrongPolarity, "mask: 1 = hole", "is the mask's polarity wrong"),
        (BlindToTheMask, "mask: 1 = hole", "what is in the hole changes the prediction"),
        (KeepsItsContext, "front and rear are pure", "keep what it needs in Features.context"),
        (ChangesZ, "front and rear are pure", "it changes z in place"),
        (DropoutLeftOn, "two runs agree", "something random is left on (dropout"),
        (WrongMultiple, "any size", "multiple_of=2 or minimum_side=1 is wrong"),
        (DetachedZ, "a gradient reaches each layer", "no gradient reaches 'features': it is detached"),
        (Clamped, "predictions are not clamped", "the prediction is clamped to [0, 1]"),
        (Composited, "predictions are raw, about [0, 1]", "the prediction is composited"),
        (OwnRange, "predictions are raw, about [0, 1]", "expected about [0, 1]. Map the network's range"),
        (
            Signed,
            "range and order of colors",
            "ends in [-1, 1], as a tanh does; expected [0, 1]. Return (output + 1) / 2",
        ),
        (Thawed, "weights are frozen", "2 parameters require gradients, such as up.weight"),
        (Single, "precision and device are followed", "is torch.float32"),
        (MixesTheBatch, "a batch equals its images", "differ from each alone"),
        (OtherNames, "front and rear make the whole", "layers says z"),
        (OtherWhole, "front and rear make the whole", "differs from the whole network"),
        (Uphill, "two updates lower the loss", "two updates do not lower the loss"),
        (Unrecognizable, "finished results can be recognized", "self.weights_hash = hash_state(self.state_dict())"),
        (Restless, "finished results can be recognized", "two fingerprints differ"),
        (Failing, "front and rear make the whole", "raised RuntimeError: no such thing"),
    ],
)
def test_a_broken_adapter_is_red_with_the_reason(broken, red, message):
    problems = {finding.check: finding.problem for finding in check(broken()) if finding.failed}
    assert message in problems[red]


@pytest.mark.parametrize("broken", [WrongPolarity, KeepsItsContext, Clamped, Signed, Thawed, MixesTheBatch])
def test_nothing_else_is_red(broken):
    assert len([finding for finding in check(broken()) if finding.failed]) == 1


CARD = {"paper": "of mine", "license": "MIT", "parameters": "1 M"}


@pytest.mark.parametrize(
    ("section", "problem", "skipped"),
    [
        ({"card": CARD}, "", ""),
        ({"card": CARD, "weights": "w.pt"}, "", ""),
        ({"card": CARD | {"url": "https://x/w.pt", "sha256": "ab"}, "weights": None}, "", ""),
        ({"card": CARD | {"url": "https://x/w.pt"}}, "card.url without card.sha256", ""),
        ({"card": CARD | {"url": "https://x/w.pt", "sha256": ""}}, "Set it to what `refine fetch` prints", ""),
        ({"card": CARD | {"license": None}}, "", "not there: card.license; needed where a backbone ships"),
        ({"card": CARD, "weights": None}, "", "or card.manual (where its weights are)"),
        ({}, "", "not there: card.paper, card.license, card.parameters"),
    ],
)
def test_a_card_is_asked_for_what_the_commands_need_of_it(section, problem, skipped):
    finding = check_card(section)
    assert (bool(finding.problem), bool(finding.skipped)) == (bool(problem), bool(skipped))
    assert problem in finding.problem and skipped in finding.skipped


def test_the_command_prints_a_table(capsys):
    assert main(["check", "backbone=cv2_telea"]) == 0
    printed = capsys.readouterr().out
    assert "backbone cv2_telea" in printed
    assert printed.count(" ok ") + printed.count("skipped") == len(CHECKS) + 1  # the card


def test_the_command_takes_a_file_and_ends_with_1_if_something_is_wrong(tmp_path, capsys, monkeypatch):
    (tmp_path / "broken.py").write_text(
        "import torch\nfrom refine.backbones.opencv import Cv2\n"
        "class Clumsy(Cv2):\n    def rear(self, features):\n        return super().rear(features) * 255\n"
    )
    (tmp_path / "mine.yaml").write_text("_target_: broken.Clumsy\nname: mine\nmethod: ns\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["check", f"backbone={tmp_path / 'mine.yaml'}"]) == 1
    printed = " ".join(capsys.readouterr().out.split())
    assert "backbone mine" in printed
    assert "wrong" in printed


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["backbone=aot_gan"], "backbone 'aot_gan' needs its weights"),
        (["backbone=nothing"], "nothing"),
        (["device=cuda:77"], "device=cuda:77"),
    ],
)
def test_the_command_says_what_it_cannot_do(overrides, message, capsys):
    assert main(["check", *overrides]) == 2
    assert message in capsys.readouterr().err


def test_no_two_yaml_files_say_the_same():
    files = [file.read_text() for file in Path(CONFIGS / "backbone").glob("*.yaml")]
    assert len(set(files)) == len(files)


class Deep(Good):
    """Damps z so much that only a large one shows what the end does."""

    def rear(self, features):
        return self.end(super().rear(Features({"features": 1e-3 * features.z["features"]}, features.context)))


@pytest.mark.parametrize(
    ("end", "clamps"),
    [
        (lambda x: x.clamp(0, 1), True),
        (lambda x: (nn.functional.hardtanh(2 * x - 1) + 1) / 2, True),
        (lambda x: x, False),
        (lambda x: (4 * x).sigmoid(), False),
        (lambda x: (x.tanh() + 1) / 2, False),
    ],
)
def test_a_clamp_is_told_from_an_activation_that_saturates(end, clamps):
    backbone = Deep()
    backbone.end = end
    assert bool(checks.unclamped(backbone)) == clamps
