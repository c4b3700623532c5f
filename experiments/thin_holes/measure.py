"""Does refinement help where the hole is thin? Strokes on photos, with erosion that is fixed and that adapts.

    python experiments/thin_holes/measure.py <photos> <rows.jsonl> <SqueezeNet> [backbone [half [count [arms]]]]
    python experiments/thin_holes/measure.py summary <rows.jsonl>

Every second photo by name, from ``half`` (0 or 1) on: settings are chosen on one half and reported on the other. One
line of JSON per photo, width of the strokes and arm; what is already in the file is not done again.
"""

import json
import random
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import torch

import refine
from refine.metrics.image import psnr, ssim
from refine.metrics.lpips import LPIPS

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from measured import paired, photos_of, square

SIDE = 512  # px: the middle square of a photo that is shrunk to this short side
WIDTHS = (2, 4, 8, 12, 16, 24, 32, 48)  # thickness of the strokes for OpenCV, px; it draws the even ones 1 px wider
STROKES = 8  # fewer of the thick ones, so that they cover no more than those of 12 px
ARMS = {
    "plain": ("preset=plain",),
    "fixed": ("objective.narrowest=null", "objective.adaptive=false"),
    "adaptive": ("objective.narrowest=null", "objective.adaptive=true"),
}
SCORES = ("lpips", "ssim", "psnr")  # of the image, and in the hole


def strokes(name: str, width: int) -> torch.Tensor:
    """Bent strokes of one width as a mask ``(1, 1, SIDE, SIDE)``, 1 = hole; name and width seed them."""
    draw = random.Random(zlib.crc32(f"{name} {width}".encode()))
    mask = np.zeros((SIDE, SIDE), np.uint8)
    for _ in range(min(STROKES, 12 * STROKES // width)):
        (x, y), angle = (draw.uniform(0, SIDE), draw.uniform(0, SIDE)), draw.uniform(0, 2 * np.pi)
        points = [(x, y)]
        for _ in range(12):
            angle += draw.gauss(0, 0.25)
            x, y = x + 40 * np.cos(angle), y + 40 * np.sin(angle)
            points.append((x, y))
        cv2.polylines(mask, [np.round(points).astype(np.int32)], False, 1, width)
    return torch.from_numpy(mask)[None, None].float()


def measure(
    photos: str, rows: str, weights: str, backbone: str = "small", half: str = "0", count: str = "24", arms: str = ""
) -> None:
    """Measure every photo, width and arm that the file of rows lacks; ``arms`` are some, comma-separated."""
    torch.set_num_threads(1)
    files = photos_of(photos)
    table, lpips = Path(rows), LPIPS(weights)
    lines = table.read_text().splitlines() if table.exists() else []
    done = {(row["backbone"], row["photo"], row["width"], row["arm"]) for row in map(json.loads, lines)}
    chosen = arms.split(",") if arms else ARMS
    refiners = {arm: refine.load(f"backbone={backbone}", *ARMS[arm]) for arm in chosen}
    for file in files[int(half) :: 2][: int(count)]:
        image = square(file, SIDE)
        for width in WIDTHS:
            mask = strokes(file.stem, width)
            for arm, refiner in refiners.items():
                if (backbone, file.stem, width, arm) in done:
                    continue
                result = refiner(image, mask)
                written = (result.image * 255).round() / 255
                row = {
                    "backbone": backbone,
                    "half": int(half),
                    "photo": file.stem,
                    "width": width,
                    "arm": arm,
                    "hole": round(mask.mean().item(), 4),
                    "updates": sum(int(level.updates.item()) for level in result.levels),
                    "guided": round(result.levels[-1].guided_fraction.item(), 4),
                    "lpips": lpips(written, image).item(),
                    "psnr": psnr(written, image, mask).item(),
                    "ssim": ssim(written, image, mask).item(),
                    "seconds": round(sum(level.seconds for level in result.levels), 2),
                }
                with table.open("a") as out:
                    out.write(json.dumps(row) + "\n")


def summary(rows: str) -> None:
    """Print the paired differences with their 95 % intervals, by network, half, width and arm."""
    found = {
        (row["backbone"], row["half"], row["width"], row["photo"], row["arm"]): row
        for row in map(json.loads, Path(rows).read_text().splitlines())
    }
    for backbone, half, width in sorted({key[:3] for key in found}):
        cell = (backbone, half, width)
        names = sorted({key[3] for key in found if key[:3] == cell})
        for arm, control in (("fixed", "plain"), ("adaptive", "plain"), ("adaptive", "fixed")):
            whole = [name for name in names if {(*cell, name, arm), (*cell, name, control)} <= set(found)]
            if len(whole) < 2:
                continue
            ours = [found[*cell, name, arm] for name in whole]
            theirs = [found[*cell, name, control] for name in whole]
            updated = np.mean([row["updates"] > 0 for row in ours])
            guided = np.mean([row["guided"] for row in ours])
            columns = [backbone, half, width, len(whole), f"{arm} - {control}", f"{updated:.2f}", f"{guided:.2f}"]
            print("|", " | ".join(map(str, [*columns, *paired(ours, theirs, SCORES)])), "|")


if __name__ == "__main__":
    if sys.argv[1] == "summary":
        summary(sys.argv[2])
    else:
        measure(*sys.argv[1:])
