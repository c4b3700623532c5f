"""Does refinement help where the hole is thin? Strokes on photos, with erosion that is fixed and that adapts.

    python experiments/thin_holes/measure.py <photos> <rows.jsonl> [first] [count] [backbone] [fills folder]

One line of JSON per photo, width of the strokes and arm; what is already in the file is not done again.
"""

import json
import random
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image

import refine
from refine.metrics.image import psnr, ssim

SHRUNK, SIDE = 512, 192  # px: short side of the shrunk photo, and of the square out of its middle
WIDTHS = (2, 4, 8)  # thickness of the strokes for OpenCV, px; it draws the even ones 1 px wider
STROKES = 6
ARMS = {
    "fixed": ("objective.adaptive=false",),
    "adaptive": ("objective.adaptive=true",),
    "plain": ("preset=plain",),
}


def photo(file: Path) -> np.ndarray:
    """The middle of a shrunk photo, ``(SIDE, SIDE, 3)``, uint8."""
    image = Image.open(file).convert("RGB")
    scale = SHRUNK / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)
    left, top = (image.width - SIDE) // 2, (image.height - SIDE) // 2
    return np.array(image.crop((left, top, left + SIDE, top + SIDE)))


def strokes(name: str, width: int) -> np.ndarray:
    """Bent strokes of one width as a mask ``(SIDE, SIDE)``, bool; name and width seed them."""
    draw = random.Random(zlib.crc32(f"{name} {width}".encode()))
    mask = np.zeros((SIDE, SIDE), np.uint8)
    for _ in range(STROKES):
        (x, y), angle = (draw.uniform(0, SIDE), draw.uniform(0, SIDE)), draw.uniform(0, 2 * np.pi)
        points = [(x, y)]
        for _ in range(12):
            angle += draw.gauss(0, 0.25)
            x, y = x + 20 * np.cos(angle), y + 20 * np.sin(angle)
            points.append((x, y))
        cv2.polylines(mask, [np.round(points).astype(np.int32)], False, 1, width)
    return mask > 0


def main(photos: str, rows: str, first: str = "0", count: str = "24", backbone: str = "mini", fills: str = "") -> None:
    """Measure every photo, width and arm that the file of rows lacks."""
    torch.set_num_threads(1)
    files = sorted(file for file in Path(photos).rglob("*.jpg"))[int(first) :: 2][: int(count)]
    table = Path(rows)
    lines = table.read_text().splitlines() if table.exists() else []
    done = {(row["photo"], row["width"], row["arm"]) for row in map(json.loads, lines)}
    refiners = {arm: refine.load(f"backbone={backbone}", *settings) for arm, settings in ARMS.items()}
    for file in files:
        pixels = photo(file)
        image = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
        for width in WIDTHS:
            mask = torch.from_numpy(strokes(file.stem, width))[None, None].float()
            for arm, refiner in refiners.items():
                if (file.stem, width, arm) in done:
                    continue
                result = refiner(image, mask)
                written = (result.image * 255).round() / 255
                row = {
                    "photo": file.stem,
                    "width": width,
                    "arm": arm,
                    "hole": round(mask.mean().item(), 4),
                    "updates": [int(level.updates.item()) for level in result.levels[1:]],
                    "guided": [round(level.guided_fraction.item(), 4) for level in result.levels[1:]],
                    "psnr": psnr(written, image, mask).item(),
                    "ssim": ssim(written, image, mask).item(),
                    "seconds": round(sum(level.seconds for level in result.levels), 2),
                }
                with table.open("a") as out:
                    out.write(json.dumps(row) + "\n")
                if fills:
                    target = Path(fills) / f"{file.stem}_{width}_{arm}.png"
                    target.parent.mkdir(parents=True, exist_ok=True)
                    Image.fromarray((written[0] * 255).byte().permute(1, 2, 0).numpy()).save(target)


if __name__ == "__main__":
    main(*sys.argv[1:])
