"""The choices of the page -> refiners; the latest stay loaded."""

import threading
from collections import OrderedDict
from collections.abc import Sequence

from refine.config import AppConfig, names_in
from refine.core.refiner import Refiner
from refine.factory import make_refiner

LOADED = 2  # refiners that stay loaded; each holds its network


class Networks:
    """Backbones and presets that the page offers.

    What the command line says of the backbone holds for the backbone that it names; all else holds for every choice.

    Args:
        overrides: Hydra's ``key=value`` that the page was started with.
        backbones: Names that are offered besides the one of the command line.

    Attributes:
        config: Settings of the page.
        backbones: Names on offer, the one of the command line first.
        presets: Names on offer.
    """

    def __init__(self, overrides: Sequence[str], backbones: Sequence[str]) -> None:
        self._overrides = list(overrides)
        self.config = AppConfig.compose(overrides)
        self.default = str(self.config.backbone.get("name", "backbone"))
        self.backbones = list(dict.fromkeys([self.default, *backbones]))
        self.presets = sorted(names_in("preset", overrides), key=lambda name: (name != "default", name))
        self._loaded: OrderedDict[tuple[str, str], Refiner] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def preset(self) -> str:
        """The preset of the command line."""
        given = [override.partition("=")[2] for override in self._overrides if override.startswith("preset=")]
        return {"off": "plain"}.get(given[-1], given[-1]) if given else "default"

    def refiner(self, backbone: str, preset: str) -> Refiner:
        """The refiner of a choice.

        Args:
            backbone: One of the names on offer.
            preset: One of the names on offer.

        Raises:
            ConfigError: If the settings make no sense for this choice.
            UnusableWeights: If the weights cannot be used.
            ValueError: If a value is out of range, or the name is not on offer.
        """
        if backbone not in self.backbones or preset not in self.presets:
            raise ValueError(f"backbone {backbone!r} with preset {preset!r} is not on offer.")
        with self._lock:
            if (backbone, preset) not in self._loaded:
                made = make_refiner(AppConfig.compose(self._of(backbone, preset)))
                self._loaded[backbone, preset] = made
            self._loaded.move_to_end((backbone, preset))
            while len(self._loaded) > LOADED:
                self._loaded.popitem(last=False)
            return self._loaded[backbone, preset]

    def _of(self, backbone: str, preset: str) -> list[str]:
        dropped = ["preset"] if backbone == self.default else ["preset", "backbone"]
        kept = [override for override in self._overrides if _group(override) not in dropped]
        return kept + [f"preset={preset}"] + ([] if backbone == self.default else [f"backbone={backbone}"])


def _group(override: str) -> str:
    """``backbone`` for ``backbone=small`` and ``+backbone.cut=2``."""
    return override.partition("=")[0].lstrip("+").partition(".")[0]
