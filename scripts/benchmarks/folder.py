"""What a folder costs besides its refinements: images per second with a network that is done after 5 ms.

    python scripts/benchmarks/folder.py
    python scripts/benchmarks/folder.py preset=default         # 5 ms of each forward and of each backward pass

The network only waits, as a CPU waits for a GPU, so all other time is reading, drawing masks, scoring and writing. Each
arm runs `refine predict` in this process on the same generated photos, half of them JPEG, half PNG, into a new folder:

files      masks are files; nothing is scored
drawn      masks are drawn, so that each result is scored against the photo

Printed per arm, as the median of the rounds with their range: images per second; the share of the time outside of the
network; and the processor time of an image, ms. No run can be faster than processor time / cores.

Options, with their defaults:
    count=64      photos
    side=512      px
    ms=5          of the network per pass
    preset=plain  one pass per image; others refine
    rounds=3      runs of each arm
    profile=      file for a profile of the main thread in processor time, which slows it down
    overrides=    for refine predict, comma-separated
"""

import contextlib
import cProfile
import io
import operator
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from options import read
from refine.__main__ import main as refine
from refine.core.backbone import FrontRear
from refine.core.types import Features, Level
from refine.inference import pipeline

DEFAULTS: dict[str, Any] = {
    "count": 64,
    "side": 512,
    "ms": 5,
    "preset": "plain",
    "rounds": 3,
    "profile": "",
    "overrides": "",
}
ARMS = {"files": "masks={holes}", "drawn": "masks=thick"}


class Waiting(FrontRear):
    """Fills with gray after a while in which it takes no processor time.

    Attributes:
        waited: Seconds of all passes of this process.
    """

    waited = 0.0
    layers, multiple_of, weights_hash = ("gray",), 8, "waiting"

    def __init__(self, ms: float, native_size: int = 512, name: str = "waiting") -> None:
        super().__init__()
        self.seconds, self.native_size = ms / 1000, native_size
        self.register_buffer("place", torch.zeros(1), persistent=False)
        self.freeze()

    def front(self, level: Level) -> Features:
        """See :class:`FrontRear`."""
        return Features({"gray": torch.full_like(level.image, 0.5)})

    def rear(self, features: Features) -> Tensor:
        """See :class:`FrontRear`."""
        self._wait()
        result = features.z["gray"] * 1
        if result.requires_grad:
            result.register_hook(lambda gradient: self._wait())
        return result

    def _wait(self) -> None:
        start = time.perf_counter()
        time.sleep(self.seconds)
        Waiting.waited += time.perf_counter() - start


def make_photos(folder: Path, count: int, side: int) -> None:
    """Smooth clouds with shapes and some noise, whose files are about as large as those of photos; and their holes."""
    for name in ("photos", "holes"):
        (folder / name).mkdir(parents=True)
    for number in range(count):
        random = np.random.default_rng(number)
        clouds = cv2.resize(
            random.random((side // 32 + 2, side // 32 + 2, 3)), (side, side), interpolation=cv2.INTER_CUBIC
        )
        for _ in range(12):
            center, radius = random.integers(0, side, 2).tolist(), int(random.integers(4, side // 6 + 5))
            cv2.circle(clouds, center, radius, random.random(3).tolist(), -1)
        pixels = np.rint((clouds * 255 + random.normal(0, 3, clouds.shape)).clip(0, 255)).astype(np.uint8)
        hole = np.zeros((side, side), np.uint8)
        hole[side // 4 : side // 2, side // 4 : 3 * side // 4] = 255
        Image.fromarray(pixels).save(folder / "photos" / f"im{number:03}.{('jpg', 'png')[number % 2]}", quality=92)
        Image.fromarray(hole).save(folder / "holes" / f"im{number:03}.png")


def now() -> tuple[float, float, float]:
    """Seconds, processor seconds, and seconds of the network so far."""
    return time.perf_counter(), time.process_time(), Waiting.waited


def run(arguments: Sequence[str]) -> tuple[float, ...]:
    """Seconds, processor seconds and seconds of the network of one run's images, without its start and end."""
    found: list[tuple[float, ...]] = []
    predict = pipeline.predict

    def timed(*things: Any) -> pipeline.Outcome:
        start = now()
        outcome = predict(*things)
        found.append(tuple(map(operator.sub, now(), start)))
        return outcome

    pipeline.predict = timed
    try:
        with contextlib.redirect_stderr(io.StringIO()) as said:
            if refine([*arguments]):
                raise SystemExit(said.getvalue())
    finally:
        pipeline.predict = predict
    return found[0]


def main(arguments: Sequence[str]) -> None:
    """Measure all arms and print a table.

    Args:
        arguments: Command line, ``key=value`` each.
    """
    options = read(DEFAULTS, arguments)
    count, rounds, ms = int(options["count"]), int(options["rounds"]), float(options["ms"])
    profile = cProfile.Profile(time.process_time)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_photos(folder, count, int(options["side"]))
        (folder / "waiting.yaml").write_text(
            f"_target_: benchmarks.folder.Waiting\nname: waiting\nms: {ms}\nnative_size: 512\n"
        )
        common = [
            f"input={folder / 'photos'}",
            f"backbone={folder / 'waiting.yaml'}",
            f"preset={options['preset']}",
            "device=cpu",
        ]
        common += filter(None, str(options["overrides"]).split(","))
        found: dict[str, list[tuple[float, ...]]] = {arm: [] for arm in ARMS}
        for number in range(rounds):  # other load on the machine hits both arms
            for arm, masks in ARMS.items():
                command = ["predict", *common, masks.format(holes=folder / "holes"), f"output={folder / arm}{number}"]
                with profile if options["profile"] else contextlib.nullcontext():
                    found[arm].append(run(command))
    print(f"| arm | images per second | outside of the network | processor time, ms |\n{'|---' * 4}|")
    for arm, times in found.items():
        rates = spread([count / wall for wall, _, _ in times])
        shares = spread([1 - network / wall for wall, _, network in times], ".0%")
        print(f"| {arm} | {rates} | {shares} | {spread([1000 * processor / count for _, processor, _ in times])} |")
    if options["profile"]:
        profile.dump_stats(options["profile"])


def spread(values: Sequence[float], form: str = ".1f") -> str:
    """Median and range."""
    middle, low, high = (format(value, form) for value in (statistics.median(values), min(values), max(values)))
    return f"{middle} ({low} to {high})"


if __name__ == "__main__":
    from benchmarks import folder  # as the configuration names it, so that there is one Waiting that counts

    folder.main(sys.argv[1:])
