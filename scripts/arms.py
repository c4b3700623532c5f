r"""Settings beside a control on the same photos and masks: what they save, and what they change in the hole.

    python scripts/arms.py photos=kodak,urban count=24 side=384 \
        "arms=refiner.tolerance=0;refiner.tolerance=0.01;refiner.tolerance=0.05"
    python scripts/arms.py photos=kodak count=5 "arms=refiner.precision=32;refiner.precision=bf16"

Every photo is shrunk to the given short side, gets a drawn mask and is refined under every arm, one after the other.
The first arm is the control.

Options, with their defaults:
    photos=                folders of photos, comma-separated; as many from each, the first in the order of their names
    count=24               photos in all
    side=384               short side in px; 0 leaves them as they are
    masks=thick            kind of mask, drawn per photo
    arms=                  overrides of refine.load, commas within an arm, semicolons between arms
    common=                overrides of every arm
    threads=0              on the CPU; 0 for all
    rows=                  file for the rows, one JSON object a line
"""

import json
import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from options import read
from PIL import Image
from torch import Tensor

import refine
from refine.data.masks import MaskGenerator
from refine.io.picture import SUFFIXES
from refine.metrics.image import psnr, ssim

DEFAULTS: dict[str, Any] = {
    "photos": "", "count": 24, "side": 384, "masks": "thick", "arms": "", "common": "", "threads": 0, "rows": "",
}  # fmt: skip
NEEDED = {"photos": "folders, comma-separated"}
COLUMNS = "updates saved seconds_ratio psnr_hole d_psnr d_psnr_95 d_ssim d_ssim_95"
COLUMNS += " psnr_to_control worst_to_control max_to_control"
DRAWS = 10_000  # of the bootstrap


def photos(options: dict[str, Any]) -> list[Path]:
    """As many from each folder."""
    names = options["photos"].split(",")
    folders = [sorted(path for path in Path(name).iterdir() if path.suffix.lower() in SUFFIXES) for name in names]
    each = -(-int(options["count"]) // len(folders))
    return [photo for folder in folders for photo in folder[:each]][: int(options["count"])]


def scene(photo: Path, options: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Image ``(1, 3, H, W)`` and mask ``(1, 1, H, W)``."""
    picture, side = Image.open(photo).convert("RGB"), int(options["side"])
    if side:
        factor = side / min(picture.size)
        size = (round(picture.width * factor), round(picture.height * factor))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    image = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 255
    mask = MaskGenerator(options["masks"])(photo.stem, (picture.height, picture.width))
    return image, torch.from_numpy(mask)[None, None].float()


def load(arm: str, options: dict[str, Any]) -> refine.Refiner:
    """The refiner of one arm."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return refine.load(*filter(None, f"{options['common']},{arm}".split(",")))


def _rows(options: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """One row per photo and arm."""
    torch.set_num_threads(int(options["threads"]) or torch.get_num_threads())
    arms = {arm: load(arm, options) for arm in options["arms"].split(";")}
    for photo in photos(options):
        image, mask = scene(photo, options)
        control = None
        for arm, refiner in arms.items():
            wall, cpu = time.perf_counter(), time.process_time()
            result = refiner(image, mask)
            row = {"photo": photo.name, "arm": arm, "wall": time.perf_counter() - wall}
            row |= {"seconds": time.process_time() - cpu, "hole": float(mask.mean())}
            row |= {
                "psnr_hole": float(psnr(result.image, image, mask)),
                "ssim_hole": float(ssim(result.image, image, mask)),
            }
            row["updates"] = int(sum(level.updates.sum() for level in result.levels))
            control = result.image if control is None else control
            yield row | to_control(result.image, control, mask)


def to_control(image: Tensor, control: Tensor, mask: Tensor) -> dict[str, float]:
    """PSNR in the hole, and the largest difference of a value in [0, 1]."""
    largest = float((image - control).abs().max())
    return {"psnr_to_control": float(psnr(image, control, mask)), "max_to_control": largest}


def _interval(differences: np.ndarray) -> str:
    """95 % interval of the mean over photos, by bootstrap."""
    draws = np.random.default_rng(0).integers(0, len(differences), (DRAWS, len(differences)))
    low, high = np.percentile(differences[draws].mean(1), [2.5, 97.5])
    return f"{low:+.4f} {high:+.4f}"


def _line(arm: str, rows: list[dict[str, Any]]) -> str:
    """One line of the table; every column is a mean over photos of a paired difference, ratio or value."""

    def column(name: str, which: str) -> np.ndarray:
        return np.array([row[name] for row in rows if row["arm"] == which])

    control = rows[0]["arm"]
    updates, before = column("updates", arm), column("updates", control)
    gain, likeness = (column(name, arm) - column(name, control) for name in ("psnr_hole", "ssim_hole"))
    alike = column("psnr_to_control", arm)
    cells = [arm, f"{updates.mean():.1f}", f"{1 - updates.sum() / before.sum():.0%}" if before.any() else ""]
    cells += [f"{np.median(column('seconds', arm) / column('seconds', control)):.2f}"]
    cells += [f"{column('psnr_hole', arm).mean():.3f}", f"{gain.mean():+.4f}", _interval(gain)]
    cells += [f"{likeness.mean():+.5f}", _interval(likeness), f"{np.median(alike):.1f}", f"{alike.min():.1f}"]
    cells += [f"{column('max_to_control', arm).max():.1e}"]
    return f"| {' | '.join(cells)} |"


def _table(rows: list[dict[str, Any]]) -> str:
    arms = dict.fromkeys(row["arm"] for row in rows)
    titles = ["arm", *COLUMNS.split()]
    lines = [f"| {' | '.join(titles)} |", f"|{'---|' * len(titles)}", *(_line(arm, rows) for arm in arms)]
    return "\n".join(lines)


def noted(rows: Iterable[dict[str, Any]], options: dict[str, Any]) -> list[dict[str, Any]]:
    """All rows, each in the file as soon as it is there."""
    kept = []
    for row in rows:
        kept.append(row)
        if options["rows"]:
            with Path(options["rows"]).open("a") as file:
                file.write(json.dumps(row) + "\n")
    return kept


def report(rows: list[dict[str, Any]], options: dict[str, Any]) -> str:
    """Table and circumstances."""
    number = len({row["photo"] for row in rows})
    return f"{time.strftime('%Y-%m-%d')}, torch {torch.__version__}, {number} photos, {options}\n\n{_table(rows)}"


def main(arguments: list[str]) -> None:
    """Measure and print the table.

    Args:
        arguments: ``key=value`` each.
    """
    options = read(DEFAULTS, arguments, NEEDED)
    print(report(noted(_rows(options), options), options))


if __name__ == "__main__":
    main(sys.argv[1:])
