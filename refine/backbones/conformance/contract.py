"""What every adapter must hold to, also for users to check: ``refine check backbone=<name or YAML file>``."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from refine.backbones.conformance import checks
from refine.backbones.conformance.colors import NotJudged, colors
from refine.core.backbone import FrontRear


@dataclass(frozen=True)
class Check:
    """One clause of the contract.

    Attributes:
        words: What it says.
        function: Check from :mod:`refine.backbones.conformance.checks`; returns what is wrong, or an empty text, or
            raises :class:`refine.backbones.conformance.colors.NotJudged`.
        needs_layers: Whether it says anything of a backbone without ``layers``.
    """

    words: str
    function: Callable[[FrontRear], str]
    needs_layers: bool = False


CHECKS: Sequence[Check] = (
    Check("front and rear make the whole", checks.halves),
    Check("front and rear are pure", checks.purity),
    Check("two runs agree", checks.determinism),
    Check("mask: 1 = hole", checks.polarity),
    Check("predictions are raw, about [0, 1]", checks.nominal_range),
    Check("range and order of colors", colors),
    Check("predictions are not clamped", checks.unclamped, needs_layers=True),
    Check("any size", checks.sizes),
    Check("a batch equals its images", checks.batches),
    Check("a gradient reaches each layer", checks.gradients, needs_layers=True),
    Check("weights are frozen", checks.frozen),
    Check("precision and device are followed", checks.follows),
    Check("two updates lower the loss", checks.updates, needs_layers=True),
    Check("finished results can be recognized", checks.recognized),
)


@dataclass(frozen=True)
class Finding:
    """The outcome of one check.

    Attributes:
        check: What was checked, in words.
        problem: What is wrong; empty if nothing is.
        skipped: Why it does not apply or cannot be judged; empty if it does.
    """

    check: str
    problem: str = ""
    skipped: str = ""

    @property
    def failed(self) -> bool:
        """Whether something is wrong."""
        return bool(self.problem)


def check(backbone: FrontRear) -> list[Finding]:
    """Run all checks.

    Args:
        backbone: Backbone to check; its precision and weights and all random generators are left as they were.
    """
    return [run_check(backbone, entry) for entry in CHECKS]


def check_blindness(backbone: FrontRear) -> None:
    """Refuse a backbone that sees what is in the hole: scores against a truth that lies there would mean nothing.

    Args:
        backbone: Backbone to check, by two predictions at nearly the smallest size it takes. One that fails there
            has shown nothing: what is wrong with it will be told of the images.

    Raises:
        ValueError: If it does.
    """
    if run_check(backbone, Check("the hole is not seen", checks.blindness)).problem == checks.SEEN:
        raise ValueError(
            f"backbone '{backbone.name or type(backbone).__name__}' must not see the truth: {checks.SEEN} "
            "Let front() set the hole's pixels to a constant (image * (1 - mask)); evaluate=false runs without scores."
        )


def run_check(backbone: FrontRear, entry: Check) -> Finding:
    """Run one check; whatever the backbone raises is a finding.

    Args:
        backbone: Backbone to check.
        entry: Entry of :data:`CHECKS`.
    """
    if entry.needs_layers and not backbone.layers:
        return Finding(entry.words, skipped="it has no layers to optimize")
    devices = [backbone.device] if backbone.device.type == "cuda" else []
    with torch.random.fork_rng(devices), torch.no_grad(), warnings.catch_warnings():
        torch.manual_seed(0)
        try:
            return Finding(entry.words, entry.function(backbone))
        except NotJudged as reason:
            return Finding(entry.words, skipped=str(reason))
        except Exception as error:
            return Finding(entry.words, f"raised {type(error).__name__}: {str(error).strip() or 'without a message'}")
