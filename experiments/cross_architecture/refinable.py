"""Which architectures can be refined at all? What an update of each cut does to the loss, how far it reaches, its cost.

    python experiments/cross_architecture/refinable.py            # prints the table

Bundled networks with their weights, the others in the sizes of SIZES with random ones, at twice their native size, on
generated scenes with a hole. Every cut a network offers is refined by itself.
"""

import copy
import statistics
import sys
from pathlib import Path
from typing import Any

import torch

from refine.analysis.cuts import survey
from refine.config import InpaintConfig
from refine.core.backbone import FrontRear
from refine.core.objective import MultiscaleL1
from refine.core.pyramid import Pyramid
from refine.core.refiner import Refiner
from refine.factory import make_backbone

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
from benchmarks.subjects import scene

SCENES, UPDATES = 3, 8
TRAINED = ("small", "mini", "mini_regular", "mini_aot")
# Networks of random weights: enough depth and width to be themselves, little enough for a CPU.
SIZES: dict[str, tuple[str, ...]] = {
    "aot_gan": ("backbone.sizes={width: 16, blocks: 4, rates: [1,2,4,8]}", "backbone.native_size=128"),
    "migan": ("backbone.sizes={channels: [64,48,32,24,16]}", "backbone.native_size=64", "backbone.cut=16"),
    "ldm": (
        "backbone.sizes={channels: [32,64,64], layers: 1, vq_channels: [16,32,32], vq_layers: 1, codes: 256, "
        "groups: 4}", "backbone.native_size=128", "backbone.steps=4", "backbone.heads=4",
    ),
    "mat": ("backbone.sizes={channels: [32,24,16], dim: 36, depths: [2,2,2,2,2], grid: 16, heads: 3, latent: 32}",
            "backbone.native_size=64"),
    "zits": ("backbone.sizes.width=16", "backbone.sizes.blocks=4", "backbone.native_size=128"),
}  # fmt: skip


def network(name: str) -> FrontRear:
    """A backbone of the table."""
    overrides = [f"backbone={name}"]
    if name not in TRAINED:
        overrides += ["backbone.weights=random", *SIZES[name]]
    return make_backbone(InpaintConfig.compose(overrides).backbone)


def fall(backbone: FrontRear, side: int) -> float:
    """Median share of the loss that the updates of one level take away."""
    refiner = Refiner(backbone, Pyramid(side // 2, max_levels=2), MultiscaleL1(3), steps=UPDATES)
    falls = []
    for index in range(SCENES):
        image, mask = scene(index, side)
        losses = refiner(image, mask, key=str(index)).levels[-1].losses[:, 0]
        falls.append(float(1 - losses.min() / losses[0]))
    return statistics.median(falls)


def rows(name: str) -> Any:
    """A row for each cut."""
    backbone = network(name)
    side = 2 * backbone.native_size
    cuts = dict(backbone.cuts_available())
    for cut in survey(backbone, side):
        opened = copy.copy(cuts[cut.cut])
        opened.native_size = backbone.native_size
        reach = "-" if cut.receptive_field is None else f"{cut.receptive_field / side:.2f}"
        cost = f"{cut.seconds:.2f}", f"{cut.live_mib:.0f}"
        yield [name, cut.cut, str(side), reach, f"{fall(opened, side):.3f}", *cost]


if __name__ == "__main__":
    torch.set_num_threads(1)
    print("| network | cut | side, px | reach / side | loss taken away | s / update | live MiB |")
    print("|---|---|---:|---:|---:|---:|---:|", flush=True)
    for name in sys.argv[1:] or [*TRAINED, *SIZES]:
        for row in rows(name):
            print("|", " | ".join(row), "|", flush=True)
