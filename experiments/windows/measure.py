"""What do windows change? A hole of a few hundred px in a photo of about 1024 px, refined whole and in windows.

    python experiments/windows/measure.py <photos> <rows.jsonl> <SqueezeNet> [backbone [first [count]]]
    python experiments/windows/measure.py summary <rows.jsonl>

Every second photo by name, from the first or the second, whose short side has 680 px at least. One line of JSON per
photo and arm; photos that are complete in the file are not done again.
"""

import json
import random
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import refine
from refine.data.masks import MaskGenerator
from refine.metrics.image import psnr, ssim
from refine.metrics.lpips import LPIPS

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from measured import paired, photos_of

SHORT, DRAWN = 680, 224  # px: least short side of a photo; side of the square that a thick hole is drawn into
CONTEXTS = (32, 64, 128, 256)
ARMS: dict[str, tuple[str, ...]] = {
    "whole": (),
    **{f"context {context}": ("refiner.window=auto", f"refiner.context={context}") for context in CONTEXTS},
    "plain": ("preset=plain",),
}
SCORES = ("lpips", "ssim", "psnr")  # of the hole's box, and in the hole


def hole(name: str, size: tuple[int, int]) -> torch.Tensor:
    """A thick hole somewhere in an image, ``(1, 1, H, W)``, 1 = hole; the name seeds it."""
    drawn = np.asarray(MaskGenerator("thick")(name, (DRAWN, DRAWN))) > 0
    place = random.Random(zlib.crc32(name.encode()))
    top, left = (place.randint(32, side - DRAWN - 32) for side in size)
    mask = torch.zeros(1, 1, *size)
    mask[0, 0, top : top + DRAWN, left : left + DRAWN] = torch.from_numpy(drawn).float()
    return mask


def measure(photos: str, rows: str, weights: str, backbone: str = "small", first: str = "0", count: str = "12") -> None:
    """Measure every photo and arm that the file of rows lacks."""
    torch.set_num_threads(1)
    files = photos_of(photos)
    files = [file for file in files[int(first) :: 2] if min(Image.open(file).size) >= SHORT]
    table, lpips = Path(rows), LPIPS(weights)
    lines = table.read_text().splitlines() if table.exists() else []
    done = {(row["backbone"], row["photo"], row["arm"]) for row in map(json.loads, lines)}
    refiners = {arm: refine.load(f"backbone={backbone}", *settings) for arm, settings in ARMS.items()}
    for file in files[: int(count)]:
        pixels = np.array(Image.open(file).convert("RGB"))
        image = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
        mask = hole(file.stem, pixels.shape[:2])
        if all((backbone, file.stem, arm) in done for arm in ARMS):
            continue
        whole = image
        for arm, refiner in refiners.items():  # the whole first, which the others are compared with
            start = time.perf_counter()
            result = (refiner(image, mask).image * 255).round() / 255
            whole = result if arm == "whole" else whole
            row = {
                "backbone": backbone,
                "half": int(first),
                "photo": file.stem,
                "size": list(pixels.shape[:2]),
                "arm": arm,
                "seconds": round(time.perf_counter() - start, 2),
                "lpips": lpips.in_box(result, image, mask).item(),
                "psnr": psnr(result, image, mask).item(),
                "ssim": ssim(result, image, mask).item(),
                "to_whole": psnr(result, whole, mask).item(),
            }
            with table.open("a") as out:
                out.write(json.dumps(row) + "\n")


def summary(rows: str) -> None:
    """Print the paired differences to the whole image with their 95 % intervals, by network and arm."""
    found = {
        (row["backbone"], row["photo"], row["arm"]): row for row in map(json.loads, Path(rows).read_text().splitlines())
    }
    for backbone in sorted({key[0] for key in found}):
        names = sorted({key[1] for key in found if key[0] == backbone})
        names = [name for name in names if all((backbone, name, arm) in found for arm in ARMS)]
        for arm in ARMS:
            ours = [found[backbone, name, arm] for name in names]
            theirs = [found[backbone, name, "whole"] for name in names]
            ratio = np.median([a["seconds"] / b["seconds"] for a, b in zip(ours, theirs, strict=True)])
            columns = [backbone, len(names), arm, f"{ratio:.2f}", f"{np.median([a['to_whole'] for a in ours]):.1f}"]
            print("|", " | ".join(map(str, [*columns, *paired(ours, theirs, SCORES)])), "|")


if __name__ == "__main__":
    if sys.argv[1] == "summary":
        summary(sys.argv[2])
    else:
        measure(*sys.argv[1:])
