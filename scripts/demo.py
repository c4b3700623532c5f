"""Demo: things removed from three real photos, by the plain network and refined (the picture of the README).

    python scripts/demo.py demo

The photos come with scikit-image: ``astronaut`` (NASA, public domain), ``coffee`` (Rachel Michetti, CC0) and ``rocket``
(SpaceX, CC0).
"""

import sys
from pathlib import Path

from PIL import Image, ImageDraw
from skimage import data

from refine.cli.main import main

HOLE = (255, 0, 160)
GAP = 8  # px between pictures
SHOWN = 512  # px, width of the middle part that the comparison shows
# fmt: off
# What is removed, as polygons: patch, name tag and model of a shuttle; spoon; rocket.
HOLES = {
    "astronaut": [
        [150, 342, 200, 342, 222, 370, 222, 404, 200, 432, 150, 432, 128, 404, 128, 370],
        [270, 330, 340, 330, 340, 388, 270, 388],
        [372, 52, 398, 30, 398, 0, 440, 0, 462, 90, 462, 200, 478, 240, 460, 274, 372, 274, 356, 232, 376, 190],
    ],
    "coffee": [
        [402, 62, 430, 66, 426, 96, 396, 212, 412, 258, 408, 304, 382, 332, 344, 330, 320, 300, 310, 248,
         366, 226, 400, 100],
    ],
    "rocket": [
        [308, 122, 338, 122, 346, 180, 350, 300, 368, 370, 368, 402, 282, 402, 282, 370, 300, 300, 300, 180],
    ],
}  # x, y, x, y ... in px
# fmt: on


def draw_mask(size: tuple[int, int], polygons: list[list[int]]) -> Image.Image:
    """White over what is to be removed."""
    mask = Image.new("L", size)
    draw = ImageDraw.Draw(mask)
    for polygon in polygons:
        draw.polygon(polygon, fill=255)
    return mask


def table(rows: list[list[Image.Image]]) -> Image.Image:
    """The middle of each picture, with thin gaps."""
    size = len(rows[0]) * (SHOWN + GAP) - GAP, sum(row[0].height + GAP for row in rows) - GAP
    sheet, top = Image.new("RGB", size, "white"), 0
    for row in rows:
        for column, image in enumerate(row):
            left = (image.width - SHOWN) // 2
            sheet.paste(image.crop((left, 0, left + SHOWN, image.height)), (column * (SHOWN + GAP), top))
        top += row[0].height + GAP
    return sheet


def run(folder: Path) -> int:
    """Write photos, masks, both results of each, and the comparison.

    Args:
        folder: Folder of the images that are written.

    Returns:
        Exit status.
    """
    photos, masks = folder / "photos", folder / "masks"
    for name, polygons in HOLES.items():
        photo = Image.fromarray(getattr(data, name)())
        for image, place in ((photo, photos), (draw_mask(photo.size, polygons), masks)):
            place.mkdir(parents=True, exist_ok=True)
            image.save(place / f"{name}.png")
    inputs = [f"input={photos}", f"masks={masks}"]
    for preset, result in (("plain", "plain"), ("default", "refined")):
        print(f"refine predict {' '.join(inputs)} output={folder}/{result} preset={preset}", flush=True)
        status = main(["predict", *inputs, f"output={folder}/{result}", f"preset={preset}"])
        if status:
            return status
    rows = []
    for name in HOLES:
        photo, mask = Image.open(photos / f"{name}.png"), Image.open(masks / f"{name}.png")
        hole = Image.composite(Image.new("RGB", photo.size, HOLE), photo, mask)
        rows.append([hole, *(Image.open(folder / result / f"{name}.png") for result in ("plain", "refined"))])
    table(rows).save(folder / "comparison.png")
    return 0


if __name__ == "__main__":
    sys.exit(run(Path(sys.argv[1] if len(sys.argv) > 1 else "demo")))
