"""Demo: three objects removed from a real photo, by the plain network and refined (the picture of the README).

    python scripts/demo.py demo

The photo is NASA's portrait of Eileen Collins (public domain), as scikit-image ships it (``skimage.data.astronaut``).
"""

import sys
from pathlib import Path

from PIL import Image, ImageDraw
from skimage import data

from refine.cli.main import main

HOLE = (255, 0, 160)
SHUTTLE = ((372, 52), (398, 30), (398, 0), (440, 0), (462, 90), (462, 200), (478, 240), (460, 274), (372, 274))
SHUTTLE += ((356, 232), (376, 190))


def draw_mask(size: tuple[int, int]) -> Image.Image:
    """White over the mission patch, the name tag and the model of the shuttle."""
    mask = Image.new("L", size)
    draw = ImageDraw.Draw(mask)
    draw.ellipse((128, 342, 222, 432), fill=255)
    draw.rounded_rectangle((270, 330, 340, 388), 10, fill=255)
    draw.polygon(SHUTTLE, fill=255)
    return mask


def side_by_side(*images: Image.Image) -> Image.Image:
    """One row with a thin gap."""
    width, height = images[0].size
    row = Image.new("RGB", (len(images) * (width + 8) - 8, height), "white")
    for index, image in enumerate(images):
        row.paste(image, (index * (width + 8), 0))
    return row


def run(folder: Path) -> int:
    """Write the photo, its mask, both results and the comparison.

    Args:
        folder: Folder of the images that are written.

    Returns:
        Exit status.
    """
    folder.mkdir(parents=True, exist_ok=True)
    photo = Image.fromarray(data.astronaut())
    mask = draw_mask(photo.size)
    photo.save(folder / "photo.png")
    mask.save(folder / "mask.png")
    inputs = [f"input={folder}/photo.png", f"mask={folder}/mask.png"]
    for preset, name in (("plain", "plain"), ("default", "refined")):
        print(f"refine predict {' '.join(inputs)} output={folder}/{name} preset={preset}", flush=True)
        status = main(["predict", *inputs, f"output={folder}/{name}", f"preset={preset}"])
        if status:
            return status
    results = [Image.open(folder / name / "photo.png") for name in ("plain", "refined")]
    hole = Image.composite(Image.new("RGB", photo.size, HOLE), photo, mask)
    side_by_side(hole, *results).save(folder / "comparison.png")
    return 0


if __name__ == "__main__":
    sys.exit(run(Path(sys.argv[1] if len(sys.argv) > 1 else "demo")))
