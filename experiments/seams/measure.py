"""Does blending hide the rim of a fill? Each photo is refined once, and its prediction composited in several ways.

    python experiments/seams/measure.py predict <photos> <predictions>
    python experiments/seams/measure.py compare <photos> <predictions> <SqueezeNet> <rows.jsonl>
    python experiments/seams/measure.py summary <rows.jsonl>

Photos are cut to 512x512 px, with a thick hole. A prediction that is there is not made again.
"""

import sys
from pathlib import Path

import torch

import refine
from refine.data.masks import MaskGenerator

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from measured import square

SIDE = 512  # px
BACKBONES = ("mini", "small", "mini_regular")


def files_of(photos: str) -> list[Path]:
    """The photos of a folder, by name."""
    return sorted(file for file in Path(photos).rglob("*") if file.suffix in (".jpg", ".png"))


def hole(name: str) -> torch.Tensor:
    """A thick hole, ``(1, 1, 512, 512)``, 1 = hole; the name seeds it."""
    return torch.from_numpy(MaskGenerator("thick")(name, (SIDE, SIDE))).float()[None, None]


def predict(photos: str, predictions: str) -> None:
    """Keep the raw predictions of the finest level, refined with the defaults, that the folder lacks."""
    torch.set_num_threads(1)
    refiners = {backbone: refine.load(f"backbone={backbone}") for backbone in BACKBONES}
    for file in files_of(photos):
        for backbone, refiner in refiners.items():
            target = Path(predictions) / backbone / f"{file.stem}.pt"
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                result = refiner(square(file, SIDE), hole(file.stem), key=file.stem)
                part = target.with_suffix(".part")
                torch.save(result.levels[-1].prediction, part)
                part.rename(target)


if __name__ == "__main__":
    {"predict": predict}[sys.argv[1]](*sys.argv[2:])
