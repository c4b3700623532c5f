"""The checks of the contract, one function each: a backbone -> what is wrong with it, an empty text if nothing is.

They need no photographs and no trained weights, and run at the smallest sizes the backbone takes.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from refine.core.backbone import FrontRear
from refine.core.pyramid import padded_side
from refine.core.types import Features, Level, Sample

TOLERANCE = 1e-4  # of the prediction's standard deviation: batches and halves may round differently
SMALLEST = 32  # px, if the backbone takes it
SEEN = "what is in the hole changes the prediction; is the mask's polarity wrong, or is the hole not blanked?"


def example(backbone: FrontRear, units: tuple[int, int] = (0, 1), seed: int = 0, batch: int = 1) -> Level:
    """A level of soft colors with a hole in its middle, at nearly the smallest size the backbone takes.

    Args:
        backbone: Backbone whose sizes the level fits.
        units: How many times ``multiple_of`` to add to height and width.
        seed: Seed of the colors.
        batch: Number of images.
    """
    side = padded_side(SMALLEST, backbone.multiple_of, backbone.minimum_side)
    height, width = (side + unit * backbone.multiple_of for unit in units)
    return _level(backbone, *_scene(height, width, seed, batch))


def _scene(height: int, width: int, seed: int, batch: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    colors = torch.rand(batch, 3, 5, 5, generator=generator, dtype=torch.float64)
    image = F.interpolate(colors, (height, width), mode="bilinear", align_corners=True)
    image = (image + 0.1 * torch.rand(image.shape, generator=generator, dtype=torch.float64) - 0.05).clamp(0, 1)
    mask = torch.zeros(batch, 1, height, width, dtype=torch.float64)
    for b in range(batch):  # holes of a batch differ
        mask[b, :, height // 4 : height // 4 + height // 3 + b, width // 3 : width // 3 + width // 4] = 1
    return image, mask


def _level(backbone: FrontRear, image: Tensor, mask: Tensor) -> Level:
    """Padded, on the backbone's device and in its precision, with the conditions the backbone makes for it."""
    image, mask = image.to(backbone.device, backbone.dtype), mask.to(backbone.device, backbone.dtype)
    return backbone.level_of(Sample("contract", image, mask))


def _predict(backbone: FrontRear, level: Level) -> Tensor:
    return backbone.rear(backbone.front(level))


def _difference(a: Tensor, b: Tensor) -> float:
    """Largest difference in units of the standard deviation; infinite where either is not finite."""
    scale = max(b.std().item(), 1e-6)
    difference = (a - b).abs().max().item() / scale
    return difference if difference == difference else float("inf")


def _differ(a: Tensor, b: Tensor) -> bool:
    return a.shape != b.shape or _difference(a, b) > TOLERANCE


def halves(backbone: FrontRear) -> str:
    """Front and rear make the whole."""
    level = example(backbone)
    features = backbone.front(level)
    if tuple(features.z) != tuple(backbone.layers):
        return f"front gives z with the names {', '.join(features.z)}; layers says {', '.join(backbone.layers)}"
    if _differ(backbone.rear(features), backbone.whole(level)):
        return "rear(front(level)) differs from the whole network"
    return ""


def purity(backbone: FrontRear) -> str:
    """Two fronts, then the first rear, twice."""
    level = example(backbone, seed=1)
    alone = _predict(backbone, level)
    features = backbone.front(level)
    before = {name: tensor.clone() for name, tensor in features.z.items()}
    backbone.front(example(backbone, (1, 0), seed=2))
    if _differ(backbone.rear(features), alone):
        return "a rear is not pure: after another front it differs; keep what it needs in Features.context"
    if any(not torch.equal(tensor, before[name]) for name, tensor in features.z.items()):
        return "the rear is not pure: it changes z in place; clone it first"
    if _differ(backbone.rear(features), alone):
        return "the rear is not pure: the second time it differs; it changes its context or keeps something"
    return ""


def determinism(backbone: FrontRear) -> str:
    """Two runs with other random states."""
    level = example(backbone)
    first = _predict(backbone, level)
    torch.manual_seed(1)
    if _differ(_predict(backbone, level), first):
        return "two runs differ: something random is left on (dropout, noise, batch norm in training mode)"
    return ""


def polarity(backbone: FrontRear) -> str:
    """The network sees the known pixels and not the hole."""
    level = example(backbone)
    first = _predict(backbone, level)
    outside = replace(level, image=torch.where(level.mask > 0, level.image, 1 - level.image))
    if not _differ(_predict(backbone, outside), first):
        return "other known pixels give the same prediction; is the mask's polarity wrong? 1 = hole"
    if problem := blindness(backbone):
        return problem
    if not _differ(_predict(backbone, replace(level, mask=1 - level.mask)), first):
        return "a flipped mask gives the same prediction: the network takes no notice of the mask"
    return ""


def blindness(backbone: FrontRear) -> str:
    """The network does not see what is in the hole."""
    level = example(backbone)
    other = replace(level, image=torch.where(level.mask > 0, 1 - level.image, level.image))
    if _differ(_predict(backbone, other), _predict(backbone, level)):
        return SEEN
    return ""


def nominal_range(backbone: FrontRear) -> str:
    """Predictions lie about [0, 1], and known pixels are predicted too."""
    level = example(backbone)
    prediction = _predict(backbone, level)
    if not prediction.isfinite().all():
        return "the prediction is not finite"
    outside = ((prediction < -1) | (prediction > 2)).double().mean().item()
    if outside > 0.25:
        low, high = prediction.min().item(), prediction.max().item()
        return f"the prediction lies in [{low:.3g}, {high:.3g}]; expected about [0, 1]. Map the network's range to it"
    known = (level.mask == 0).expand_as(prediction)
    if backbone.layers and (prediction == level.image)[known].double().mean() > 0.9:
        return "the prediction is composited: its known pixels are those of the image; return it raw"
    return ""


def unclamped(backbone: FrontRear) -> str:
    """No values cut off at 0 or 1, where there would be no gradient."""
    for prediction in louder(backbone):
        distance = torch.minimum(prediction.abs(), (prediction - 1).abs())
        cut, near = (distance == 0).double().mean(), ((distance > 0) & (distance < 1e-4)).double().mean()
        if cut > 0.01:  # a saturating activation comes near before it arrives; what is clamped is hardly ever near
            return "" if near > 0.1 * cut else "the prediction is clamped to [0, 1]: no gradient there; return it raw"
    return ""


def louder(backbone: FrontRear) -> Iterator[Tensor]:
    """Predictions of ever larger z: up to 5e5 times, in steps small enough to see where an activation saturates.

    Args:
        backbone: Backbone with layers.
    """
    features = backbone.front(example(backbone))
    for factor in (1.25**step for step in range(60)):
        yield backbone.rear(replace(features, z={name: factor * tensor for name, tensor in features.z.items()}))


def sizes(backbone: FrontRear) -> str:
    """Sides that are no multiples, odd multiples, and lengthy ones."""
    side = padded_side(SMALLEST, backbone.multiple_of, backbone.minimum_side)
    for height, width in [(side + 1, side + 2 * backbone.multiple_of), (7, side + 3), (side, 2 * side - 1)]:
        image, mask = _scene(height, width, seed=3)
        level = _level(backbone, image, mask)
        shape = f"{level.image.shape[-1]}x{level.image.shape[-2]}"
        advice = f"multiple_of={backbone.multiple_of} or minimum_side={backbone.minimum_side} is wrong"
        try:
            prediction = _predict(backbone, level)
        except Exception as error:
            return f"fails at {shape} ({str(error).splitlines()[0]}); {advice}"
        if prediction.shape != level.image.shape:
            return f"at {shape} the prediction has shape {tuple(prediction.shape)}; {advice}"
    plain = backbone(image.to(level.image), mask.to(level.image))
    if plain.shape[-2:] != image.shape[-2:]:
        return f"forward gives {tuple(plain.shape)} for an image {tuple(image.shape)}"
    return ""


def batches(backbone: FrontRear) -> str:
    """Two images together and alone."""
    image, mask = _scene(*example(backbone, (1, 0)).size, seed=4, batch=2)
    together = _predict(backbone, _level(backbone, image, mask))
    alone = [_predict(backbone, _level(backbone, image[b : b + 1], mask[b : b + 1])) for b in range(2)]
    return "two images in a batch differ from each alone" if _differ(together, torch.cat(alone)) else ""


def gradients(backbone: FrontRear) -> str:
    """A finite gradient, not zero, for each of the layers."""
    features = backbone.front(example(backbone))
    layer_gradients = _gradients(backbone, features, lambda prediction: prediction.square().mean())
    for name, gradient in layer_gradients.items():
        if gradient is None or not gradient.any():
            return f"no gradient reaches '{name}': it is detached, or the prediction does not depend on it"
        if not gradient.isfinite().all():
            return f"the gradient of '{name}' is not finite"
    return ""


def _gradients(backbone: FrontRear, features: Features, loss: Callable[[Tensor], Tensor]) -> dict[str, Tensor | None]:
    z = {name: tensor.detach().clone().requires_grad_() for name, tensor in features.z.items()}
    with torch.enable_grad():
        value = loss(backbone.rear(replace(features, z=z)))
    if not value.requires_grad:
        return dict.fromkeys(z)
    return dict(zip(z, torch.autograd.grad(value, list(z.values()), allow_unused=True), strict=True))


def frozen(backbone: FrontRear) -> str:
    """Weights take no part in differentiation, and training mode is out of reach."""
    moving = [name for name, parameter in backbone.named_parameters() if parameter.requires_grad]
    if moving:
        return f"{len(moving)} parameters require gradients, such as {moving[0]}; end __init__ with self.freeze()"
    training = [name or "the backbone" for name, module in backbone.train().named_modules() if module.training]
    return f"{training[0]} is in training mode; end __init__ with self.freeze()" if training else ""


def follows(backbone: FrontRear) -> str:
    """In double precision, and on its own device, everything is."""
    dtype = backbone.dtype
    try:
        backbone.double()
        features = backbone.front(example(backbone))
        tensors = {**features.z, "the prediction": backbone.rear(features)}
        for name, tensor in tensors.items():
            if tensor.dtype != torch.float64 or tensor.device != backbone.device:
                return f"in double precision on {backbone.device}, {name} is {tensor.dtype} on {tensor.device}"
    finally:
        backbone.to(dtype)
    return ""


def updates(backbone: FrontRear) -> str:
    """Two small steps down the gradient lower a loss."""
    features = backbone.front(example(backbone))
    target = backbone.rear(features) + 0.1

    def loss(prediction: Tensor) -> Tensor:
        return (prediction - target).square().mean()

    start = loss(backbone.rear(features)).item()
    for size in (1e-2, 1e-3, 1e-4):  # of z
        moved = features
        for _ in range(2):
            layer_gradients = _gradients(backbone, moved, loss)
            moved = replace(moved, z={name: _step(z, layer_gradients[name], size) for name, z in moved.z.items()})
        end = loss(backbone.rear(moved)).item()
        if end < start:
            return ""
    return f"two updates do not lower the loss: {start:.4g} before, {end:.4g} after"


def recognized(backbone: FrontRear) -> str:
    """A fingerprint that files can hold, and the same each time."""
    try:
        texts = [json.dumps(backbone.fingerprint()) for _ in range(2)]
    except ValueError as error:
        return str(error)
    return "" if texts[0] == texts[1] else "two fingerprints differ: an attribute in output_settings changes by itself"


def _step(z: Tensor, gradient: Tensor | None, size: float) -> Tensor:
    if gradient is None or not gradient.any():
        return z
    scale: float = size * max(z.norm().item(), 1.0) / gradient.norm().item()
    return z - scale * gradient
