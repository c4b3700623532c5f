"""Range and order of colors, judged without a truth: a trained network gives back the colors it is shown.

Known pixels come back from most networks; from others, trained on holes alone, the color of plain surroundings does.
Random weights give back neither: of them, only an activation that ends in another range is told.
"""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from refine.backbones.conformance.checks import louder
from refine.core.backbone import FrontRear
from refine.core.pyramid import padded_side
from refine.core.types import Level, Sample

SIDE = 128  # px, if the backbone takes it; the bundled networks see enough at this size
EXPLAINED = 0.5  # least share of the colors' variance that an order and a range must explain to be believed
SWAPPED = (
    "colors come back with red and blue swapped: the network is shown BGR, or its BGR output is returned as RGB. "
    "Convert both, tensor.flip(1), or neither"
)
SIGNED = (
    "colors come back in [-1, 1]; expected [0, 1]. The output is left in the network's range, return (output + 1) / 2; "
    "or the network takes [0, 1] and is shown [-1, 1]"
)
SIGNED_END = (
    "the prediction ends in [-1, 1], as a tanh does; expected [0, 1]. Return (output + 1) / 2; or, if the network was "
    "trained on [0, 1] all the same, check it with its trained weights, which show that"
)
# Where a color x of [0, 1] comes back as y: from y to x, and what is wrong.
FAULTS: dict[str, Callable[[Tensor], Tensor]] = {
    "": lambda y: y,
    SIGNED: lambda y: (y + 1) / 2,
    "colors come back in [0, 255]; expected [0, 1]. Return output / 255": lambda y: y / 255,
    "colors come back in [0.5, 1]; expected [0, 1]. The network takes [-1, 1] and is shown [0, 1], show it "
    "2 * image - 1; or its output is in [0, 1] already and is taken for [-1, 1]": lambda y: 2 * y - 1,
}
PLAIN = [(0.8, 0.2, 0.2), (0.2, 0.8, 0.2), (0.2, 0.2, 0.8), (0.8, 0.8, 0.2), (0.2, 0.8, 0.8), (0.5, 0.5, 0.5)]


class NotJudged(Exception):
    """A check that can say nothing of this backbone, and why."""


def colors(backbone: FrontRear) -> str:
    """Colors come back in order and range; where none come back, at least no activation leaves the range.

    Args:
        backbone: Backbone to check.

    Raises:
        NotJudged: If neither known pixels nor plain surroundings come back, whatever the order and the range.
    """
    for shown, returned in _evidence(backbone):
        if (fault := _fault(shown, returned)) is not None:
            return fault
    if backbone.layers and _saturates_signed(backbone):
        return SIGNED_END
    raise NotJudged("range and order of colors cannot be judged: no color comes back, as with random weights")


def _evidence(backbone: FrontRear) -> Iterator[tuple[Tensor, Tensor]]:
    """Colors shown and returned, ``(N, 3)`` each: of known pixels, then of the holes of images of one color."""
    generator = torch.Generator().manual_seed(0)
    soft = torch.rand(1, 3, 4, 4, generator=generator, dtype=torch.float64)
    level, prediction = _predicted(backbone, soft)
    known = (level.mask == 0)[0, 0]
    yield level.image[0, :, known].T, prediction[0, :, known].T
    returned = []
    for color in PLAIN:
        level, prediction = _predicted(backbone, torch.tensor(color, dtype=torch.float64).view(1, 3, 1, 1))
        returned.append(prediction[0, :, (level.mask > 0)[0, 0]].mean(1))
    yield torch.tensor(PLAIN).to(returned[0]), torch.stack(returned)


def _predicted(backbone: FrontRear, few: Tensor) -> tuple[Level, Tensor]:
    """The level of an image of few colors, its hole in the middle, and its prediction."""
    side = padded_side(SIDE, backbone.multiple_of, backbone.minimum_side)
    image = F.interpolate(few, (side, side), mode="bilinear", align_corners=True).to(backbone.device, backbone.dtype)
    mask = image.new_zeros(1, 1, side, side)
    mask[..., side * 3 // 8 : side * 5 // 8, side * 3 // 8 : side * 5 // 8] = 1
    level = backbone.level_of(Sample("colors", image, mask))
    return level, backbone.rear(backbone.front(level))


def _fault(shown: Tensor, returned: Tensor) -> str | None:
    """What explains the colors that came back: empty if they are as shown, None if nothing does."""
    variance = (shown - shown.mean()).square().mean().item()
    left = {
        (swap, fault): ((undo(returned.flip(1) if swap else returned) - shown).square().mean() / variance).item()
        for swap in (False, True)
        for fault, undo in FAULTS.items()
    }  # share that each explanation leaves unexplained
    best = min(left, key=left.__getitem__)
    if not left[best] < 1 - EXPLAINED:
        return None
    swap, fault = best
    return ". ".join(text for text in (SWAPPED if swap else "", fault) if text)


def _saturates_signed(backbone: FrontRear) -> bool:
    """Whether an activation at the end, such as tanh, is left in [-1, 1], which random weights show too."""
    for prediction in louder(backbone):
        if prediction.abs().max() > 1 + 1e-4:
            return False
        ends = [(prediction - end).abs() < 1e-4 for end in (-1, 1)]
        if all(end.double().mean() > 0.01 for end in ends):
            return True
    return False
