"""Does blending hide the rim of a fill? Each photo is refined once, and its prediction composited in several ways.

    python experiments/seams/measure.py predict <photos> <predictions>
    python experiments/seams/measure.py compare <photos> <predictions> <SqueezeNet> <rows.jsonl>
    python experiments/seams/measure.py summary <rows.jsonl>

Photos are cut to 512x512 px, with a thick hole. A prediction that is there is not made again.
"""

import json
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import torch

import refine
from refine.core.blend import Blend, blended
from refine.core.composite import composite
from refine.data.masks import MaskGenerator
from refine.metrics.image import psnr
from refine.metrics.lpips import LPIPS
from refine.metrics.seam import seam

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from measured import paired, photos_of, square

SIDE = 512  # px
BACKBONES = ("mini", "small", "mini_regular")
BLENDS = get_args(Blend)
SCORES = ("seam", "lpips", "psnr")  # of the rim, of the hole's box, and in the hole


def hole(name: str) -> torch.Tensor:
    """A thick hole, ``(1, 1, 512, 512)``, 1 = hole; the name seeds it."""
    return torch.from_numpy(MaskGenerator("thick")(name, (SIDE, SIDE))).float()[None, None]


def predict(photos: str, predictions: str) -> None:
    """Keep the raw predictions of the finest level, refined with the defaults, that the folder lacks."""
    torch.set_num_threads(1)
    refiners = {backbone: refine.load(f"backbone={backbone}") for backbone in BACKBONES}
    for file in photos_of(photos):
        for backbone, refiner in refiners.items():
            target = Path(predictions) / backbone / f"{file.stem}.pt"
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                result = refiner(square(file, SIDE), hole(file.stem), key=file.stem)
                part = target.with_suffix(".part")
                torch.save(result.levels[-1].prediction, part)
                part.rename(target)


def compare(photos: str, predictions: str, weights: str, rows: str) -> None:
    """Composite every prediction in every way and score it; what the file of rows has is not scored again."""
    torch.set_num_threads(1)
    table, lpips = Path(rows), LPIPS(weights)
    lines = table.read_text().splitlines() if table.exists() else []
    done = {(row["backbone"], row["photo"]) for row in map(json.loads, lines)}
    for half, file in enumerate(photos_of(photos)):
        for backbone in BACKBONES:
            kept = Path(predictions) / backbone / f"{file.stem}.pt"
            if (backbone, file.stem) in done or not kept.exists():
                continue
            image, mask, prediction = square(file, SIDE), hole(file.stem), torch.load(kept)
            arms = {"photo itself": {"seam": seam(image, mask).item()}}
            for blend in BLENDS:
                result = composite(blended(prediction, image, mask, blend), image, mask)
                written = (result * 255).round() / 255
                scores = (seam(written, mask), lpips.in_box(written, image, mask), psnr(written, image, mask))
                arms[blend] = {name: score.item() for name, score in zip(SCORES, scores, strict=True)}
            row = {"backbone": backbone, "half": half % 2, "photo": file.stem, "arms": arms}
            with table.open("a") as out:
                out.write(json.dumps(row) + "\n")


def summary(rows: str) -> None:
    """Print, by half and network, the seams, and the paired differences to no blending with their 95 % intervals."""
    found = [json.loads(line) for line in Path(rows).read_text().splitlines()]
    for scores in (scores for row in found for scores in row["arms"].values()):
        scores["distance"] = abs(scores["seam"])  # from 0, which is best
    for half in (0, 1):
        for backbone in BACKBONES:
            photos = [row["arms"] for row in found if (row["half"], row["backbone"]) == (half, backbone)]
            for arm in ("photo itself", *BLENDS):
                cells = [("even", "odd")[half], backbone, len(photos), arm]
                cells += [f"{np.mean([arms[arm][name] for arms in photos]):+.2f}" for name in ("seam", "distance")]
                if arm in BLENDS[1:]:
                    cells += paired(
                        [arms[arm] for arms in photos], [arms["none"] for arms in photos], ("distance", "lpips", "psnr")
                    )
                print("|", " | ".join(map(str, cells)), "|")


if __name__ == "__main__":
    {"predict": predict, "compare": compare, "summary": summary}[sys.argv[1]](*sys.argv[2:])
