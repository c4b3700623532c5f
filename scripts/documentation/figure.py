"""The figure of the page on the method: each level of a pyramid, from its hole to its result, with its loss.

PYTHONPATH=scripts python -m documentation.figure docs/images/levels.jpg
"""

import sys
from pathlib import Path

import numpy as np
import torch
from matplotlib import pyplot
from PIL import Image
from skimage import data
from torch import Tensor

import refine
from demo import HOLES, draw_mask

SETTINGS = ("backbone=small", "preset=paper", "pyramid.smallest_side=128", "device=cpu")
HOLE = torch.tensor([1.0, 0.0, 0.63])[None, :, None, None]  # color
COLUMNS = ("hole", "network alone", "guide", "refined")
PHOTO, CENTER, SIDE = (
    "coffee",
    (0.5, 0.62),
    0.85,
)  # of the part that is shown, as shares of the height and width, and of the short side


def photo(name: str) -> tuple[Tensor, Tensor]:
    """One of the photos of ``make demo``, and the mask of what is removed there.

    Args:
        name: Name of the photo.
    """
    image = Image.fromarray(getattr(data, name)())
    mask = draw_mask(image.size, HOLES[name])
    pixels, hole = (torch.from_numpy(np.array(each)) for each in (image, mask))
    return pixels.permute(2, 0, 1)[None].float() / 255, (hole > 127)[None, None].float()


def draw(image: Tensor, mask: Tensor, refiner: refine.Refiner, target: Path) -> None:
    """Refine an image and draw its levels.

    Args:
        image: Image, ``(1, 3, H, W)``, RGB in [0, 1].
        mask: Mask, ``(1, 1, H, W)``, 1 = hole.
        refiner: Refiner to show.
        target: File of the figure.
    """
    plain: dict[int, Tensor] = {}

    def on_step(step: refine.Step) -> None:
        plain.setdefault(step.level, step.prediction())

    results = refiner(image, mask, on_step=on_step).levels
    scales = refiner.pyramid.scales(image, mask)
    size = (3 * len(COLUMNS) + 3.4, 3 * len(scales))
    figure, axes = pyplot.subplots(len(scales), len(COLUMNS) + 1, figsize=size, layout="constrained", squeeze=False)
    for index, ((level, hole), result) in enumerate(zip(scales, results, strict=True)):
        alone = level * (1 - hole) + plain.get(index, result.prediction) * hole
        guide = results[index - 1].image if index else None
        for axis, title, shown in zip(
            axes[index], COLUMNS, (level * (1 - hole) + HOLE * hole, alone, guide, result.image), strict=False
        ):
            axis.set(xticks=[], yticks=[], frame_on=False)
            first = len(scales) > 1 if title in COLUMNS[2:] else 0  # the coarsest level has neither guide nor updates
            axis.set_title(title if index == first else "", fontsize=15)
            if shown is not None and not (title == "refined" and index == 0):
                axis.imshow(_part(shown), interpolation="nearest")
        axes[index][0].set_ylabel(f"{level.shape[-1]} x {level.shape[-2]} px", fontsize=15)
        _curve(axes[index][-1], result.losses)
    figure.savefig(target, dpi=80, pil_kwargs={"quality": 88} if target.suffix == ".jpg" else None)
    pyplot.close(figure)


def _curve(axis: pyplot.Axes, losses: Tensor) -> None:
    if not len(losses):
        axis.set_axis_off()
        axis.text(
            0, 0.5, "the coarsest level:\nthe network alone,\nand the guide of\nthe next one", fontsize=14, va="center"
        )
        return
    axis.plot(losses[:, 0], linewidth=2.5)
    axis.set_ylim(bottom=0)
    axis.set_title("loss by update", fontsize=15)
    axis.spines[["top", "right"]].set_visible(False)


def _part(image: Tensor) -> np.ndarray:
    height, width = image.shape[-2:]
    side = round(SIDE * min(height, width))
    top, left = round(CENTER[0] * height - side / 2), round(CENTER[1] * width - side / 2)
    return image[0, :, max(top, 0) :, left:][:, :side, :side].clamp(0, 1).permute(1, 2, 0).numpy()


if __name__ == "__main__":
    draw(*photo(PHOTO), refine.load(*SETTINGS), Path(sys.argv[1]))
