"""How visible the rim of a filled hole is; a score that needs no truth."""

import torch
from kornia.color import rgb_to_lab
from torch import Tensor

from refine.core.inputs import check_inputs
from refine.core.window import Window


def seam(image: Tensor, mask: Tensor) -> Tensor:
    """Color jump across the rim of the hole, less the jump between the known pixels beside it.

    The rim is every pair of a hole pixel and a known neighbor in its row or column. The jump of a pair is its color
    difference, CIE 1976 in Lab (D65), where 2.3 is just noticeable. From it the jump from that known pixel to the next
    one outwards is taken, so that texture cancels out: a photo itself has about 0. Pairs without such a pixel do not
    count.

    Args:
        image: Composited result, ``(B, 3, H, W)`` in [0, 1].
        mask: Mask, ``(B, 1, H, W)``, 1 = hole.

    Returns:
        ``(B,)`` mean over the pairs: 0 is best, more is a visible seam, less a rim smoother than what lies around it;
        NaN where there is no pair.

    Raises:
        ValueError: Against the conventions.
    """
    check_inputs(image, mask)
    return torch.stack([_excess(colors, hole) for colors, (hole,) in zip(image.float(), mask > 0, strict=True)])


def _excess(image: Tensor, hole: Tensor) -> Tensor:
    """The score of one image ``(3, H, W)`` and its hole ``(H, W)``; only pixels near the rim are read."""
    rows, columns = (hole.any(axis).nonzero()[:, 0].tolist() for axis in (1, 0))
    if not rows:
        return image.new_full((), torch.nan)
    size = (hole.shape[0], hole.shape[1])
    box = Window(rows[0], columns[0], rows[-1] + 1, columns[-1] + 1).grown(2, size)
    image, hole = box.of(image), box.of(hole)
    triples = []
    for turns in range(4):  # outwards is to the right, once for each side
        turned, colors = torch.rot90(hole, turns), torch.rot90(image, turns, (-2, -1))
        row, column = (turned[:, :-2] & ~turned[:, 1:-1] & ~turned[:, 2:]).nonzero(as_tuple=True)
        triples.append(torch.stack([colors[:, row, column + step] for step in range(3)], dim=-1))
    inside, beside, beyond = rgb_to_lab(torch.cat(triples, dim=1)).unbind(-1)
    mean: Tensor = ((inside - beside).norm(dim=0) - (beside - beyond).norm(dim=0)).mean()
    return mean
