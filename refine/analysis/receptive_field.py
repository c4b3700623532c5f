"""How much of the prediction one position of ``z`` governs.

The paper cuts far from the prediction because a position there reaches more of it (section 3). The *effective receptive
field* puts a number to that: with the derivative of the prediction with respect to ``z`` at one central position, the
side in px of the smallest square centered there that holds 90 % of its magnitude, summed over channels. (Along random
directions of ``z``'s channels there, by forward differentiation.) Where the center reaches nothing, as in the hole of a
network with partial convolutions, a position near the left side stands for it; what reaches beyond that side is cut.
"""

import math

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel

from refine.core.backbone import FrontRear
from refine.core.types import Features

SHARE = 0.9  # of the derivative's magnitude
DRAWS = 2  # random directions of z
# Shares of the height and width: the center, then a place beside a hole there, inside of which partial convolutions
# hand nothing on.
PLACES = ((0.5, 0.5), (0.5, 0.125))


def effective_receptive_field(backbone: FrontRear, features: Features) -> int | None:
    """How far one position of ``z`` reaches in the prediction: the central one, or one beside the hole.

    Args:
        backbone: Backbone whose rear is differentiated.
        features: Features that its front gave.

    Returns:
        Px; None where ``z`` is no map, an operation has no forward derivative, or nothing is reached.
    """
    if not features.z or any(tensor.ndim != 4 for tensor in features.z.values()):
        return None
    positions = next(iter(features.z.values())).shape[-2:]
    for place in PLACES:
        draw = torch.Generator().manual_seed(0)
        try:
            influence = sum(_derivative(backbone, features, place, draw) for _ in range(DRAWS))
        except (NotImplementedError, RuntimeError):  # of an operation without one
            return None
        assert isinstance(influence, Tensor)
        y, x = (
            (int(share * p) + 0.5) * side / p for share, p, side in zip(place, positions, influence.shape, strict=True)
        )
        if (field := smallest_square(influence, (y, x))) is not None:
            return field
    return None


def smallest_square(influence: Tensor, center: tuple[float, float]) -> int | None:
    """Side of the smallest square around a point that holds :data:`SHARE` of a map.

    Args:
        influence: ``(H, W)``, not negative.
        center: ``(y, x)`` in px, where (0.5, 0.5) is the middle of the first pixel.

    Returns:
        Px, at most the map's longer side; None if the map is zero.
    """
    rows, columns = (
        (torch.arange(side) + 0.5 - middle).abs() for side, middle in zip(influence.shape, center, strict=True)
    )
    distance, order = torch.maximum(rows[:, None], columns[None]).flatten().sort()
    held = influence.double().cpu().flatten()[order].cumsum(0)
    if not held[-1] > 0 or not held[-1].isfinite():
        return None
    radius = distance[int((held < SHARE * held[-1]).sum())].item() + 0.5
    return min(math.ceil(2 * radius), max(influence.shape))


def _derivative(backbone: FrontRear, features: Features, place: tuple[float, float], draw: torch.Generator) -> Tensor:
    """``(H, W)`` magnitude of the prediction's derivative along a random change of z at one position."""
    # The other kernels of attention have no forward derivative.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), forward_ad.dual_level():
        z = {}
        for name, tensor in features.z.items():
            direction = torch.zeros_like(tensor)
            y, x = (int(share * side) for share, side in zip(place, tensor.shape[-2:], strict=True))
            direction[..., y, x] = torch.randn(tensor.shape[:2], generator=draw).to(tensor)
            z[name] = forward_ad.make_dual(tensor.detach().clone(), direction)  # type: ignore[no-untyped-call]
        prediction = backbone.rear(Features(z, features.context))
        tangent = forward_ad.unpack_dual(prediction).tangent  # type: ignore[no-untyped-call]
    return torch.zeros(prediction.shape[-2:]) if tangent is None else tangent[0].abs().sum(0).cpu()
