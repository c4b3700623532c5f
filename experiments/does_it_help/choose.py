"""Scores after different numbers of updates, with the network's own detail kept or not, to choose the default from.

    python experiments/does_it_help/choose.py <photos> <rows.jsonl> <SqueezeNet's weights> [backbone] [native size]

One optimization per photo, of every second one by name from the first: all settings are read off it. The rest is left
for the study, which then sees photos that nothing was chosen on. One line of JSON per photo; those in the file are not
done again. ``summary`` in place of the photos prints the paired differences to the network alone.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch

import refine
from refine.core.composite import composite
from refine.core.optimization import coarse_change
from refine.core.types import Step
from refine.data.masks import MaskGenerator
from refine.metrics.image import psnr, sharpness, ssim
from refine.metrics.lpips import LPIPS

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from measured import square

SIDE = 512  # px
UPDATES = (5, 8, 15)
DETAIL = (None, 0.75, 1.0, 1.5, 2.0, 3.0)  # px of the guide; None for the iterate itself
SCORES = ("LPIPS", "PSNR, dB", "SSIM", "sharpness")


def measure(file: Path, refiner: refine.Refiner, lpips: LPIPS) -> dict[str, list[float]]:
    """Scores by setting, as ``<updates> <detail>``; ``plain`` for the network alone."""
    image = square(file, SIDE)
    mask = torch.from_numpy(np.asarray(MaskGenerator("thick")(file.stem, (SIDE, SIDE))) > 0).float()[None, None]
    iterates: dict[int, torch.Tensor] = {}

    def record(step: Step) -> None:
        if step.level == step.levels - 1 and step.step in (0, *UPDATES):
            iterates[step.step] = step.prediction()

    def score(prediction: torch.Tensor) -> list[float]:
        written = (composite(prediction, image, mask) * 255).round() / 255
        of_hole = [metric(written, image, mask).item() for metric in (psnr, ssim, sharpness)]
        return [lpips(written, image).item(), *of_hole]

    refiner(image, mask, on_step=record)
    scores = {"plain": score(iterates[0])}
    for updates in UPDATES:
        for detail in DETAIL:
            changed = iterates[updates]
            if detail is not None:
                changed = coarse_change(iterates[0], changed, mask, detail * refiner.pyramid.factor)
            scores[f"{updates} {detail}"] = score(changed)
    return scores


def summary(rows: Path) -> None:
    """Means of the differences to ``plain`` over photos, with 1.96 standard errors; sharpness as it is."""
    photos = [json.loads(line)["scores"] for line in rows.read_text().splitlines()]
    print(f"n = {len(photos)}; updates, keep_detail: {', '.join(SCORES)}")
    for setting in photos[0]:
        values = np.array([scores[setting] for scores in photos])
        changes = values - np.array([scores["plain"] for scores in photos])
        errors = 1.96 * changes.std(0, ddof=1) / len(photos) ** 0.5
        cells = [f"{mean:+.4f} ± {error:.4f}" for mean, error in zip(changes.mean(0)[:3], errors, strict=False)]
        print(f"{setting:10}", *cells, f"{values[:, 3].mean():.2f}", sep="  ")


def main(photos: str, rows: str, weights: str = "", backbone: str = "small", native_size: str = "256") -> None:
    """Measure every second photo that the file of rows lacks."""
    if photos == "summary":
        return summary(Path(rows))
    torch.set_num_threads(1)
    table = Path(rows)
    done = {json.loads(line)["photo"] for line in table.read_text().splitlines()} if table.exists() else set()
    refiner = refine.load(backbone, native_size=int(native_size), steps=max(UPDATES))
    refiner.keep_detail = None  # the guide is the iterate itself
    lpips = LPIPS(weights).eval()
    for file in sorted(Path(photos).rglob("*.jpg"))[::2]:
        if file.stem not in done:
            row = {"photo": file.stem, "scores": measure(file, refiner, lpips)}
            with table.open("a") as out:
                out.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
